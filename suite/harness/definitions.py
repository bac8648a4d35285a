"""Task definitions read as plain YAML: what a task is, without building it or touching its data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from suite.errors import HarnessError


@dataclass(frozen=True)
class Definition:
    """The keys of a task's YAML after its includes, and a hash of all files they came from.

    `data_folder` is the folder of the file that declared the data: relative paths start there.
    """

    path: Path
    keys: dict[str, Any]
    data_folder: Path
    sha256: str

    @property
    def output_type(self) -> str:
        """lm-eval's request type, such as `multiple_choice`; "unknown" for a task in Python."""
        return str(self.keys.get("output_type", "unknown"))

    @property
    def num_fewshot(self) -> int | None:
        """The shots the definition itself asks for; None where it leaves them open."""
        return self.keys.get("num_fewshot")

    @property
    def splits(self) -> tuple[str, ...]:
        """The data splits the definition reads."""
        names = ("training_split", "validation_split", "test_split", "fewshot_split")
        return tuple(dict.fromkeys(self.keys[name] for name in names if self.keys.get(name)))

    @property
    def runs_code(self) -> bool:
        """Whether scoring executes code that the model wrote."""
        return bool(self.keys.get("unsafe_code"))


class _Loader(yaml.SafeLoader):
    """A safe loader that keeps lm-eval's `!function module.name` as text."""


_Loader.add_constructor("!function", lambda loader, node: f"!function {node.value}")


def read_definition(path: Path) -> Definition:
    """Read a task YAML with its chain of includes.

    Raises:
        HarnessError: A file is missing, is not YAML, or the chain includes itself.
    """
    digest = hashlib.sha256()
    keys, data_folder = _read(path.resolve(), digest, ())
    for code in sorted(path.parent.glob("*.py")):
        if any(isinstance(value, str) and value.startswith("!function") for value in keys.values()):
            digest.update(code.read_bytes())
    return Definition(path, keys, data_folder, digest.hexdigest())


def _read(path: Path, digest: Any, chain: tuple[Path, ...]) -> tuple[dict[str, Any], Path]:
    """Keys of one file laid over those of the files it includes."""
    if path in chain:
        raise HarnessError(f"{path}: the task includes itself")
    try:
        content = path.read_bytes()
        keys = yaml.load(content, Loader=_Loader)
    except (OSError, yaml.YAMLError) as error:
        raise HarnessError(f"{path}: cannot be read as a task ({error})") from error
    if not isinstance(keys, dict):
        raise HarnessError(f"{path}: expected a task's keys, found {type(keys).__name__}")
    digest.update(content)
    merged: dict[str, Any] = {}
    folder = path.parent
    includes = keys.pop("include", [])
    for name in includes if isinstance(includes, list) else [includes]:
        inherited, inherited_folder = _read((path.parent / name).resolve(), digest, (*chain, path))
        merged |= inherited
        folder = inherited_folder
    return merged | keys, path.parent if "dataset_kwargs" in keys else folder
