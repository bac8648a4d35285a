"""Where lm-eval puts a run's files, and its results files as plain data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from suite.errors import RecordError

_STAMP = re.compile(r"_(\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}(?:\.\d+)?)$")
# `results` is the first key that lm-eval writes; other JSON files are not read whole.
_STARTS_WITH_RESULTS = re.compile(rb'(\xef\xbb\xbf)?\s*\{\s*"results"\s*:')


def find_results_files(path: Path) -> tuple[Path, ...]:
    """The results files below a folder, or the one file given, in the order of their names.

    These are files named `results_*.json`, and other JSON files that begin with the key `results`
    (lm-eval keeps the name of an output path that ends in `.json`).
    """
    if path.is_file():
        return (path,)
    found = (file for file in path.rglob("*.json") if _may_hold_results(file))
    return tuple(sorted(found, key=lambda file: (file.name, str(file))))


def _may_hold_results(file: Path) -> bool:
    if file.name.startswith(("samples_", ".")) or not file.is_file():
        return False
    if file.name.startswith("results_"):
        return True
    try:
        with file.open("rb") as stream:
            return _STARTS_WITH_RESULTS.match(stream.read(64)) is not None
    except OSError:
        return False


def stamp_of(file: Path) -> str:
    """The time in a results file's name, "" where it has none."""
    found = _STAMP.search(file.stem)
    return found.group(1) if found else ""


def time_of(file: Path) -> str:
    """When a results file was written, sortable: by its name, else by its last change."""
    return stamp_of(file) or datetime.fromtimestamp(file.stat().st_mtime).isoformat().replace(
        ":", "-"
    )


def read_results(file: Path) -> Mapping[str, Any]:
    """The content of a results file; not to be changed.

    Raises:
        RecordError: It cannot be read, or is not lm-eval's.
    """
    try:
        status = file.stat()
    except OSError as error:
        raise _unreadable(file, error) from error
    return _read(file, status.st_mtime_ns, status.st_size)


# A run of many tasks is one file with as many records, each of which asks for it.
@lru_cache(maxsize=8)
def _read(file: Path, mtime_ns: int, size: int) -> Mapping[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(file, error) from error
    if not isinstance(data, dict) or "results" not in data:
        raise RecordError(f"{file}: not a results file of lm-eval (no key 'results')")
    results = data["results"]
    if not isinstance(results, dict) or not any(isinstance(b, dict) for b in results.values()):
        raise RecordError(
            f"{file}: not a results file of lm-eval ('results' does not hold one block a task)"
        )
    return data


def _unreadable(file: Path, error: BaseException) -> RecordError:
    return RecordError(f"{file}: not a readable results file ({error}); move it away")


def leaves(task: str, members: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The single tasks below a task or (nested) group, each once, in lm-eval's order."""
    below = members.get(task)
    if not below:
        return (task,)
    return tuple(dict.fromkeys(leaf for name in below for leaf in leaves(name, members)))


def samples_files(file: Path, tasks: Sequence[str]) -> dict[str, Path]:
    """The samples file of each task that has one, beside the results file."""
    found = {task: _beside(file, "samples", task) for task in tasks}
    return {task: path for task, path in found.items() if path is not None}


def features_files(file: Path, tasks: Sequence[str]) -> dict[str, Path]:
    """The file of tokenisation features of each task that has one."""
    found = {task: _beside(file, "features", task) for task in tasks}
    return {task: path for task, path in found.items() if path is not None}


def _beside(file: Path, kind: str, task: str) -> Path | None:
    stamp = stamp_of(file)
    name = f"{kind}_{task}_{stamp}" if stamp else f"{kind}_{task}"
    for suffix in (".jsonl", ".json", ".jsonl.gz"):
        path = file.with_name(name + suffix)
        if path.is_file():
            return path
    return None if stamp or kind != "samples" else _of_first_versions(file, task)


def _of_first_versions(file: Path, task: str) -> Path | None:
    """The first versions wrote `results.json` and, beside it, `MODEL_ARGS_TASK.jsonl`.

    Raises:
        RecordError: Such files are there, and none is surely this run's.
    """
    data = read_results(file)
    found = sorted(file.parent.glob(f"*_{_literal(task)}.jsonl"))
    arguments = (data.get("config") or {}).get("model_args")
    own = [path for path in found if _plain(path.stem) == _plain(f"{arguments}_{task}")]
    if len(own) == 1:
        return own[0]
    # The name of a longer task may end like this one's.
    longer = [f"_{name}" for name in data["results"] if name.endswith(f"_{task}")]
    found = [path for path in found if not path.stem.endswith(tuple(longer))]
    if len(found) == 1 and len(_results_files_in(file.parent)) == 1:
        return found[0]
    if found:
        raise RecordError(
            f"{file}: which samples file of {task} beside it is this run's cannot be told"
            f" ({', '.join(path.name for path in found)}); give each run a folder of its own"
        )
    return None


def _results_files_in(folder: Path) -> tuple[Path, ...]:
    """The results files in a folder itself."""
    return tuple(file for file in folder.glob("*.json") if _may_hold_results(file))


def _plain(text: str) -> str:
    """A name without what versions write for characters that no file name may have."""
    return re.sub(r"[\W_]+", "_", text)


def _literal(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)
