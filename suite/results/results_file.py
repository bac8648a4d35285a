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
_STARTS_WITH_RESULTS = re.compile(rb'\s*\{\s*"results"\s*:')


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
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(file, error) from error
    if not isinstance(data, dict) or "results" not in data:
        raise RecordError(f"{file}: not a results file of lm-eval (no key 'results')")
    results = data["results"]
    if not isinstance(results, dict) or not all(isinstance(b, dict) for b in results.values()):
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
    for suffix in (".jsonl", ".json"):
        path = file.with_name(name + suffix)
        if path.is_file():
            return path
    if stamp:
        return None
    # The first versions wrote `results.json` and, beside it, `MODEL_ARGS_TASK.jsonl`.
    older = file.parent.glob(f"*_{_literal(task)}.jsonl")
    return min((p for p in older if kind == "samples"), key=lambda p: len(p.name), default=None)


def _literal(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)
