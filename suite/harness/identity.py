"""What a built task really is: its items, its settings and the code they call, as one hash.

Taken from what lm-eval built rather than from files, so that nothing that decides a score (an
included definition, a member of a group, data of the hub) can change unseen.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from suite.config import content_hash

# Where the data lies is no part of what it is; its items are hashed.
_PLACES = ("dataset_path", "dataset_name", "dataset_kwargs", "metadata")


def task_identity(built: Iterable[Any]) -> dict[str, Any]:
    """One hash for each task that lm-eval built, by name; groups give those of their members.

    `built` holds lm-eval's Task and Group objects.
    """
    return {task.task_name: _task_hash(task) for task in leaf_tasks(built)}


def leaf_tasks(built: Iterable[Any]) -> list[Any]:
    """The single tasks in a list of tasks and (nested) groups."""
    tasks: list[Any] = []
    for item in built:
        tasks.extend(item.get_all_tasks() if hasattr(item, "get_all_tasks") else [item])
    return tasks


def _task_hash(task: Any) -> str:
    config = {k: v for k, v in vars(task.config).items() if k not in _PLACES}
    shots = config.get("num_fewshot") or 0
    return content_hash(
        {
            "config": _plain(config),
            "version": str(task.VERSION),
            "items": _items_hash(task.eval_docs),
            "fewshot_items": _items_hash(task.fewshot_docs()) if shots else None,
        }
    )


def _items_hash(items: Iterable[Any] | None) -> str:
    digest = hashlib.sha256()
    for item in items or ():
        digest.update(json.dumps(item, sort_keys=True, default=_stable_text).encode() + b"\n")
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """A setting as plain data; code becomes the hash of the file it stands in."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(vars(value))
    return _code_text(value) if callable(value) else _stable_text(value)


def _code_text(function: Callable[..., Any]) -> str:
    function = inspect.unwrap(getattr(function, "func", function))
    name = getattr(function, "__qualname__", type(function).__qualname__)
    try:
        path = inspect.getsourcefile(function)
    except TypeError:  # built in, or an object that is called
        path = None
    return f"{name} {_file_hash(path) if path else ''}"


@cache
def _file_hash(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _stable_text(value: Any) -> str:
    """Text without memory addresses, which differ from process to process."""
    text = repr(value)
    return type(value).__qualname__ if " at 0x" in text else text
