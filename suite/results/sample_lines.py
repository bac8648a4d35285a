"""Lines of lm-eval's samples files, of any version, in one form."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from suite.errors import RecordError

# What a line holds beside its metrics.
_FACTS = frozenset(
    {
        "arguments",
        "doc",
        "doc_hash",
        "doc_id",
        "filter",
        "filtered_resps",
        "metrics",
        "prompt_hash",
        "resps",
        "target",
        "target_hash",
    }
)

Line = dict[str, Any]


def read_lines(path: Path, filters: Sequence[str]) -> Iterator[Line]:
    """Each logged item under each filter; `doc_id` and `filter` are always there.

    Old versions do not name the filter: there the k-th line of an item belongs to the k-th of
    `filters`, the order in which lm-eval applies them.

    Raises:
        RecordError: A line is cut off or damaged, an item is there twice under one filter, or the
            file is not lm-eval's.
    """
    seen: dict[str, set[int]] = {}
    unnamed: dict[int, int] = {}
    for position, line in _raw_lines(path):
        try:
            doc_id = line["doc_id"] = int(line["doc_id"])
            if doc_id >> 63:
                raise ValueError("item numbers are not negative and fit into 64 bits")
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise RecordError(
                f"{path}: {position} has no item number ('doc_id'), so it is no samples file of"
                " lm-eval; move it away"
            ) from error
        name = line.get("filter")
        if name is None:
            turn = unnamed.get(doc_id, 0)
            unnamed[doc_id] = turn + 1
            name = line["filter"] = filters[turn] if turn < len(filters) else "none"
        name = str(name)
        known = seen.setdefault(name, set())
        if doc_id in known:
            raise RecordError(
                f"{path}: item {doc_id} is there twice under the filter '{name}' ({position});"
                " evaluate the task again"
            )
        known.add(doc_id)
        yield line


def _raw_lines(path: Path) -> Iterator[tuple[str, Line]]:
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            if file.read(1) == b"[":
                file.seek(0)
                yield from _array(path, file.read())
                return
            file.seek(0)
            for number, text in enumerate(file, 1):
                try:
                    line = json.loads(text)
                except (ValueError, RecursionError) as error:
                    if not text.strip():
                        continue
                    raise RecordError(_damage(path, number, text)) from error
                if type(line) is not dict:
                    raise RecordError(_damage(path, number, text))
                yield f"line {number}", line
    except (OSError, EOFError, zlib.error) as error:
        raise RecordError(f"{path}: not a readable samples file ({error})") from error


def _array(path: Path, text: bytes) -> Iterator[tuple[str, Line]]:
    """The first versions wrote all items as one JSON list."""
    try:
        lines = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(
            f"{path}: not a readable samples file ({error}); evaluate the task again"
        ) from error
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict):
            raise RecordError(f"{path}: entry {number} is no logged item; evaluate the task again")
        yield f"entry {number}", line


def _damage(path: Path, number: int, text: bytes) -> str:
    if text.endswith(b"\n"):
        return f"{path}: line {number} is not a JSON object; evaluate the task again"
    return f"{path}: line {number}, the last, is cut off; evaluate the task again"


def requests_of(line: Line) -> list[list[Any]]:
    """The arguments of each request put to the model: prompt, and continuation or settings."""
    arguments = line.get("arguments") or ()
    if isinstance(arguments, dict):
        return [
            list(request.values()) if type(request) is dict else [request]
            for request in arguments.values()
        ]
    return [list(request) if isinstance(request, list) else [request] for request in arguments]


def option_likelihoods(line: Line) -> list[float] | None:
    """Log-likelihood of each answer option; None where the item is no choice among options."""
    answers = line.get("filtered_resps")
    if type(answers) is not list or len(answers) < 2:
        return None
    values = []
    for answer in answers:
        if type(answer) is not list or len(answer) != 2 or answer[1] not in _GREEDY:
            return None
        try:
            values.append(float(answer[0]))
        except (OverflowError, TypeError, ValueError):
            return None
    # After the options come the same again without the prompt.
    if "acc_mutual_info" in line and len(values) % 2 == 0:
        return values[: len(values) // 2]
    return values


_GREEDY = ("True", "False", True, False)


def metric_names(line: Line) -> list[str]:
    """The metrics an item was given."""
    named = line.get("metrics")
    if isinstance(named, list):
        return [name for name in named if name in line]
    return [name for name in line if name not in _FACTS]


def item_hash(line: Line, path: Path) -> str:
    """32 hex digits that tell the item apart: lm-eval's hash of its content.

    Raises:
        RecordError: The line holds neither hash nor content.
    """
    found = line.get("doc_hash")
    if found:
        return str(found).encode("ascii").decode()[:32]
    if "doc" not in line:
        raise RecordError(
            f"{path}: item {line['doc_id']} has neither content ('doc') nor hash ('doc_hash');"
            " evaluate the task again"
        )
    text = json.dumps(line["doc"], indent=2, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
