"""The reference run of a series as one small JSON file: scores and hashes of items, no text.

A checkpoint can be checked against the file alone, where neither the run's samples nor a store are
at hand. Instructions and templates among the conditions stand there as hashes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.config import content_hash
from suite.errors import ConfigError, RecordError
from suite.files import write_atomically
from suite.records import MetricScore, RunRecord, TaskScores
from suite.results.item_scores import ItemScores
from suite.results.item_table import ItemTable
from suite.results.scored import Scored
from suite.track.columns import pack, unpack
from suite.track.entries import SCHEMA_VERSION, read_json_object

KIND = "pinned run"
# Longer values of a condition are told by their hash, those of these names unless they are a word.
LONGEST_VALUE = 200
# Digits kept of a prompt's hash: 64 bits, to be compared with one other hash alone.
PROMPT_DIGITS = 16
_TEXTS = ("system instruction", "chat template")
_MEND = "export it again with suite track pin --export"


@dataclass(frozen=True, eq=False)
class Pinned:
    """A reference run with the items of its tasks.

    Attributes:
        series: The series it is the reference of.
        model: The model's name.
        fingerprint: Of the run's scores, see `Entry.fingerprint`.
        tasks: By label; each has items and a known direction.
        not_judged: Why the run's other tasks cannot be judged, by label.
    """

    series: str
    model: str
    fingerprint: str
    tasks: Mapping[str, Scored]
    not_judged: Mapping[str, str] = field(default_factory=dict)


def without_text(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions with hashes in place of instructions, templates and long values."""
    return {name: _without_text(name, value) for name, value in conditions.items()}


def _without_text(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {key: _without_text(name, inner) for key, inner in value.items()}
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    is_text = name in _TEXTS and not text.isalnum()
    return f"sha256:{content_hash(value)}" if is_text or len(text) > LONGEST_VALUE else value


def export_pinned(pinned: Pinned, path: Path) -> int:
    """Write the file; returns its size in bytes.

    Raises:
        ConfigError: It cannot be written.
    """
    data = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "series": pinned.series,
        "model": pinned.model,
        "fingerprint": pinned.fingerprint,
        "not_judged": dict(pinned.not_judged),
        "tasks": [_task_to_json(label, scored) for label, scored in pinned.tasks.items()],
    }
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot write {path} ({reason}); give another --export") from error
    return path.stat().st_size


def read_pinned(path: Path) -> Pinned:
    """Read a file of `export_pinned`.

    Raises:
        RecordError: It is no such file, or is damaged.
    """
    data = read_json_object(path, _MEND)
    if data.get("kind") != KIND:
        raise RecordError(f"{path}: not the file of a pinned run; {_MEND}")
    try:
        model = str(data["model"])
        tasks = [_task_from_json(model, task) for task in data["tasks"]]
        if not tasks:
            raise ValueError("no task")
        return Pinned(
            str(data["series"]),
            model,
            str(data["fingerprint"]),
            {scored.record.label: scored for scored in tasks},
            {str(label): str(reason) for label, reason in data["not_judged"].items()},
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise RecordError(
            f"{path}: a damaged file of a pinned run ({type(error).__name__}: {error}); {_MEND}"
        ) from error


def _task_to_json(label: str, scored: Scored) -> dict[str, Any]:
    items, score, task = scored.items, scored.score, scored.record.task
    assert items is not None, "only tasks with items are pinned"
    return {
        "label": label,
        "task": task.task,
        "version": task.version,
        "num_items": task.num_items,
        "num_fewshot": task.num_fewshot,
        "metric": score.metric,
        "filter": score.filter,
        "value": score.value,
        "stderr": score.stderr,
        "higher_is_better": items.higher_is_better,
        "aggregation": items.aggregation,
        "conditions": without_text(scored.record.conditions),
        "items": {
            "keys": pack(items.keys),
            "values": pack(items.values),
            "weights": _packed(items.weights),
            "strata": pack(items.strata),
            "stratum_weights": items.stratum_weights.tolist(),
            "clusters": _packed(items.clusters),
        },
        "tables": [_table_to_json(table, items) for table in scored.tables],
    }


def _table_to_json(table: ItemTable, items: ItemScores) -> dict[str, Any]:
    """What the comparability of two runs is told by: which items, and which prompts."""
    has_items_keys = np.array_equal(table.keys, items.keys)
    return {
        "task": table.task,
        "filter": table.filter,
        "keys": None if has_items_keys else pack(table.keys),
        "doc_ids": pack(table.doc_ids),
        "prompts": pack(table.prompts.astype(f"S{PROMPT_DIGITS}")),
    }


def _packed(column: NDArray[Any] | None) -> dict[str, Any] | None:
    return None if column is None else pack(column)


def _unpacked(data: Any) -> NDArray[Any] | None:
    return None if data is None else unpack(data)


def _task_from_json(model: str, data: dict[str, Any]) -> Scored:
    better = bool(data["higher_is_better"])
    score = MetricScore(data["metric"], data["filter"], data["value"], data["stderr"], better)
    task = TaskScores(
        str(data["task"]),
        (score,),
        data["num_items"],
        data["num_fewshot"],
        str(data["version"]),
        None,
    )
    record = RunRecord(
        model=model,
        label=str(data["label"]),
        task=task,
        key="",
        identity={},
        seconds=0.0,
        hardware="",
        file=None,
        conditions=dict(data["conditions"]),
    )
    items = _items_from_json(data, better)
    tables = tuple(_table_from_json(table, items, score.metric) for table in data["tables"])
    return Scored(record, score, items, None, tables)


def _items_from_json(data: dict[str, Any], higher_is_better: bool) -> ItemScores:
    columns = data["items"]
    items = ItemScores(
        keys=unpack(columns["keys"]),
        values=unpack(columns["values"]),
        aggregation=data["aggregation"],
        higher_is_better=higher_is_better,
        strata=unpack(columns["strata"]),
        stratum_weights=np.asarray(columns["stratum_weights"], dtype=np.float64),
        weights=_unpacked(columns["weights"]),
        clusters=_unpacked(columns["clusters"]),
    )
    if items.aggregation not in ("mean", "bits_per_byte", "perplexity"):
        raise ValueError(f"an aggregation {items.aggregation!r}")
    columns_of_items = (items.values, items.strata, items.weights, items.clusters)
    if any(column is not None and len(column) != len(items) for column in columns_of_items):
        raise ValueError("columns of different lengths")
    if len(items) == 0 or not np.isfinite(items.values).all():
        raise ValueError("scores that are no numbers")
    if items.strata.min() < 0 or items.strata.max() >= len(items.stratum_weights):
        raise ValueError("an item of no stratum")
    return items


def _table_from_json(data: dict[str, Any], items: ItemScores, metric: str) -> ItemTable:
    keys = items.keys if data["keys"] is None else unpack(data["keys"])
    is_whole = data["keys"] is None
    return ItemTable(
        task=str(data["task"]),
        filter=str(data["filter"]),
        keys=keys,
        doc_ids=unpack(data["doc_ids"]),
        prompts=unpack(data["prompts"]),
        metrics={metric: items.values} if is_whole else {},
        weights={metric: items.weights} if is_whole and items.weights is not None else {},
        answers=np.full(len(keys), b"", dtype="S32"),
        confidence=np.full(len(keys), np.nan),
    )


def hashed_like_a_file(scored: Scored) -> Scored:
    """A run as it would be read from a file, so that it can be compared with one."""
    record = replace(scored.record, conditions=without_text(scored.record.conditions))
    tables = tuple(
        replace(table, prompts=table.prompts.astype(f"S{PROMPT_DIGITS}")) for table in scored.tables
    )
    return replace(scored, record=record, tables=tables)
