"""Scores written by hand, whose items and conditions a test chooses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from suite.errors import NotComparableError
from suite.records import MetricScore, RunRecord, TaskScores
from suite.results.comparability import check_comparable
from suite.results.item_scores import ItemScores
from suite.results.item_table import ItemTable
from suite.results.samples_file import group_key
from suite.results.scored import Scored

CONDITIONS: dict[str, Any] = {
    "task version": "1.0",
    "shots": 5,
    "task definition": "aaaa",
    "chat template": "none",
    "protocol": "lm-eval",
}


def key(name: object) -> bytes:
    return hashlib.md5(str(name).encode()).hexdigest().encode()


def table(
    items: Sequence[int], prompts: Sequence[str] | None = None, task: str = "arc"
) -> ItemTable:
    """Items by number; the same number is the same item, with the same prompt by default."""
    texts = [f"prompt {item}" for item in items] if prompts is None else prompts
    keys = np.array([key(item) for item in items], dtype="S36")
    order = np.argsort(keys)
    hashes = [key(text) if text else b"" for text in texts]
    return ItemTable(
        task=task,
        filter="none",
        keys=keys[order],
        doc_ids=np.array(items, dtype=np.int64)[order],
        prompts=np.array(hashes, dtype="S32")[order],
        metrics={},
        weights={},
        answers=np.full(len(items), b"x", dtype="S32"),
        confidence=np.full(len(items), np.nan),
    )


def run(
    items: Sequence[int] = (1, 2, 3, 4),
    *,
    model: str = "new",
    prompts: Sequence[str] | None = None,
    **changes: Any,
) -> Scored:
    """A run of one task; `changes` replace conditions, written with underscores."""
    told = {name.replace("_", " "): value for name, value in changes.items()}
    score = MetricScore("acc", "none", 0.5, 0.1, True)
    record = RunRecord(
        model=model,
        label="arc",
        task=TaskScores("arc", (score,), len(items), 5, "1.0"),
        key="",
        identity={},
        seconds=1.0,
        hardware="",
        file="results.json",
        conditions=CONDITIONS | told,
    )
    found = table(items, prompts)
    rows = ItemScores(
        keys=found.keys,
        values=(found.doc_ids % 2).astype(np.float64),
        aggregation="mean",
        higher_is_better=True,
        strata=np.zeros(len(items), dtype=np.int64),
        stratum_weights=np.ones(1),
    )
    return Scored(record, score, rows, None, (found,))


def ratio(items: Sequence[int], weights: Sequence[float], **changes: Any) -> Scored:
    """A run of a bits-per-byte task; `weights` are the items' bytes, in the order of `items`."""
    found = run(items, **changes)
    assert found.items is not None
    by_key = {key(item): weight for item, weight in zip(items, weights, strict=True)}
    counted = np.array([by_key[name] for name in found.items.keys.tolist()])
    rows = replace(found.items, aggregation="bits_per_byte", weights=counted)
    return replace(found, items=rows)


def group(sizes: dict[str, int], weights: Sequence[float], prompts: Any = None) -> Scored:
    """A run of a group: items 0, 1 ... of each single task."""
    found = run()
    tables = tuple(
        table(range(size), None if prompts is None else prompts(task, size), task)
        for task, size in sizes.items()
    )
    names = [group_key(t.task, name) for t in tables for name in t.keys.tolist()]
    strata = [i for i, t in enumerate(tables) for _ in t.keys]
    rows = ItemScores(
        keys=np.array(names),
        values=np.zeros(len(names)),
        aggregation="mean",
        higher_is_better=True,
        strata=np.array(strata, dtype=np.int64),
        stratum_weights=np.array(weights),
    )
    return replace(found, items=rows, tables=tables)


def refusal(first: Scored, second: Scored, *, shared_items: bool = False) -> str:
    with pytest.raises(NotComparableError) as caught:
        check_comparable(first, second, shared_items=shared_items)
    assert caught.value.exit_code == 4
    return str(caught.value)
