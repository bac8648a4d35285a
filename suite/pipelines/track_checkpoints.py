"""The checkpoints below a folder, and whether each is whole."""

from __future__ import annotations

import json
import re
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from suite.errors import ConfigError
from suite.models.checkpoint_folder import CHECKPOINTS, STATE_FILE, list_checkpoints
from suite.models.manifest import has_manifest

# How long a folder without a manifest must have rested before it counts as whole.
SETTLED_SECONDS = 2.0
_NUMBER_AT_END = re.compile(r"(\d+)$")
_INDEX = "model.safetensors.index.json"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_HEADER_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Found:
    """A checkpoint and its step. `unfinished` says why it is not whole, None where it is."""

    folder: Path
    step: int
    unfinished: str | None


def find_checkpoints(folder: Path) -> tuple[Found, ...]:
    """The checkpoints of a training run, or the numbered models below a folder, steps rising.

    Raises:
        ConfigError: It is no folder, or two models have one number.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; give the folder of a training run")
    if (folder / CHECKPOINTS).is_dir():
        saved = list_checkpoints(folder)
        return tuple(Found(c.folder, c.step, _why_no_checkpoint(c.folder)) for c in saved)
    found: dict[int, Found] = {}
    for place in sorted(folder.iterdir()):
        number = _NUMBER_AT_END.search(place.name)
        if number is None or place.name.startswith(".") or not place.is_dir():
            continue
        step = int(number[1])
        if step in found:
            raise ConfigError(
                f"{found[step].folder} and {place} both end in {step}; a step is one model, so move"
                " one of them away"
            )
        found[step] = Found(place, step, why_no_model(place))
    return tuple(found[step] for step in sorted(found))


def _why_no_checkpoint(folder: Path) -> str | None:
    # They appear under their names by a rename, all files in them; a copy on its way does not.
    if not has_manifest(folder):
        return "its manifest is not there yet"
    return None if (folder / STATE_FILE).is_file() else f"{STATE_FILE} is not there yet"


def why_no_model(folder: Path) -> str | None:
    """Why a folder is no whole model yet, one clause; None where it is one."""
    if has_manifest(folder):
        return None
    try:
        if not (folder / "config.json").is_file():
            return "config.json is not there yet"
        weights = [path for pattern in _WEIGHTS for path in sorted(folder.glob(pattern))]
        missing = [name for name in _names_in_index(folder) if not (folder / name).is_file()]
        if missing or not weights:
            return f"{missing[0] if missing else 'a file of weights'} is not there yet"
        for path in weights:
            if path.suffix == ".safetensors" and not _is_whole(path):
                return f"{path.name} is not written to its end"
        if not any(folder.glob("tokenizer*")):
            return "its tokenizer is not there yet"
        newest = max(path.stat().st_mtime for path in folder.iterdir())
    except (OSError, ValueError):
        return "it changes while it is looked at"
    return "a file was written just now" if time.time() - newest < SETTLED_SECONDS else None


def _names_in_index(folder: Path) -> list[str]:
    path = folder / _INDEX
    if not path.is_file():
        return []
    weight_map = json.loads(path.read_text(encoding="utf-8")).get("weight_map", {})
    return sorted(set(weight_map.values()))


def _is_whole(path: Path) -> bool:
    """Whether a file of safetensors is as long as its header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_HEADER_LENGTH.size)
        if len(start) < _HEADER_LENGTH.size:
            return False
        (length,) = _HEADER_LENGTH.unpack(start)
        if _HEADER_LENGTH.size + length > size:
            return False
        header = json.loads(file.read(length))
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    return bool(size >= _HEADER_LENGTH.size + length + max(ends, default=0))
