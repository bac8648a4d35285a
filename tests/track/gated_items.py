"""Items of hand-made tasks, and the gate's arithmetic in plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from suite.records import MetricScore, RunRecord, TaskScores
from suite.results.item_scores import ItemScores
from suite.results.item_table import ItemTable
from suite.results.scored import Scored
from suite.track.regress import TaskPair


def keys_of(count: int) -> np.ndarray:
    return np.array([f"{number:032x}".encode() for number in range(count)], dtype="S36")


def items_of(values: Sequence[float], *, better: bool | None = True, **changes: Any) -> ItemScores:
    count = len(values)
    facts = {
        "keys": keys_of(count),
        "values": np.array(values, dtype=np.float64),
        "aggregation": "mean",
        "higher_is_better": better,
        "strata": np.zeros(count, dtype=np.int64),
        "stratum_weights": np.ones(1),
    }
    return ItemScores(**(facts | changes))


def flips(num: int, num_better: int, num_worse: int) -> tuple[list[float], list[float]]:
    """New and pinned 0/1 scores of `num` items, of which so many are won and lost."""
    new = [1.0] * num_better + [0.0] * num_worse + [1.0] * (num - num_better - num_worse)
    old = [0.0] * num_better + [1.0] * num_worse + [1.0] * (num - num_better - num_worse)
    return new, old


def pair_of(
    new: ItemScores, pinned: ItemScores, *, margin: float = 0.0, task: str = "t"
) -> TaskPair:
    return TaskPair(task, "acc", new, pinned, margin)


def binary_pair(num: int, better: int, worse: int, **facts: Any) -> TaskPair:
    new, old = flips(num, better, worse)
    return pair_of(items_of(new), items_of(old), **facts)


def exact_p(better: int, worse: int) -> float:
    """The two-sided exact McNemar test, summed term by term."""
    total = better + worse
    tail = sum(math.comb(total, k) for k in range(min(better, worse) + 1)) / 2**total
    return min(1.0, 2 * tail)


def scored_of(
    items: ItemScores, *, model: str = "m", label: str = "t", conditions: Any = None
) -> Scored:
    count = len(items)
    value = float(items.values.mean())
    score = MetricScore("acc", "none", value, None, items.higher_is_better)
    task = TaskScores(label, (score,), count, 0, "1")
    record = RunRecord(model, label, task, "", {}, 0.0, "", None, conditions=conditions or {})
    table = ItemTable(
        task=label,
        filter="none",
        keys=items.keys,
        doc_ids=np.arange(count),
        prompts=np.array([f"{number:032x}".encode() for number in range(count)], dtype="S32"),
        metrics={"acc": items.values},
        weights={},
        answers=np.full(count, b"", dtype="S32"),
        confidence=np.full(count, np.nan),
    )
    return Scored(record, score, items, None, (table,))
