"""One task of two runs, by hand-made items."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from suite.pipelines.compared_tasks import tested_task as compared_task
from suite.records import MetricScore, RunRecord, TaskScores
from suite.results.item_scores import ItemScores
from suite.results.item_table import ItemTable
from suite.results.scored import Scored

N = 60
KEYS = np.array([f"{i:032x}" for i in range(N)], dtype="S36")


def run(model: str, metric: str, items: ItemScores, **columns: Any) -> Scored:
    score = MetricScore(metric, "none", 0.5, None, items.higher_is_better)
    record = RunRecord(
        model, "task", TaskScores("task", (score,), N, 0, "1"), "", {}, 0.0, "", f"{model}.json"
    )
    table = ItemTable(
        task="task",
        filter="none",
        keys=KEYS,
        doc_ids=np.arange(N),
        prompts=np.full(N, b"", dtype="S32"),
        metrics={metric: items.values},
        weights={},
        answers=np.full(N, b"0", dtype="S32"),
        confidence=np.full(N, np.nan),
        **columns,
    )
    return Scored(record, score, items, None, (table,))


def items_of(values: np.ndarray, aggregation: Any = "mean", **columns: Any) -> ItemScores:
    zeros = np.zeros(N, dtype=np.int64)
    return ItemScores(
        KEYS, values.astype(float), aggregation, aggregation == "mean", zeros, np.ones(1), **columns
    )


def compared(first: Scored, second: Scored, num_tests: int = 1) -> Any:
    return compared_task(
        first,
        second,
        level=0.95,
        test="auto",
        seed=0,
        shared_items=False,
        num_tests=num_tests,
    ).task


@pytest.mark.parametrize(
    ("num_tests", "test"),
    [(25, "paired bootstrap over documents (10,000 resamples)"), (300, "linearised paired t")],
)
def test_a_large_family_of_ratio_metrics_is_not_held_back_by_resamples(num_tests, test) -> None:
    rng = np.random.default_rng(2)
    weights = rng.integers(50, 500, N).astype(float)
    sides = [
        run("abc"[k], "bits_per_byte", items_of(values, "bits_per_byte", weights=weights))
        for k, values in enumerate(-weights * rng.normal(mean, 0.02, N) for mean in (0.8, 0.7))
    ]
    comparison = compared(*sides, num_tests=num_tests).comparison
    assert comparison.test == test
    assert (comparison.p_value < 0.05 / 300) == (num_tests == 300)


def test_answers_are_alike_by_the_metric_that_is_compared() -> None:
    right = items_of(np.arange(N) % 2)
    one, other = np.full(N, b"0", dtype="S32"), np.full(N, b"1", dtype="S32")
    same = {"answers_by_length": {"acc_norm": one}}
    apart = {"answers_by_length": {"acc_norm": other}}
    first, second = run("a", "acc_norm", right, **same), run("b", "acc_norm", right, **apart)
    assert compared(first, second).agreement.value == 0.0
    assert compared(run("a", "acc", right), run("b", "acc", right)).agreement.value == 1.0
    agreement = compared(run("a", "acc_norm", right), second).agreement
    assert agreement.value is None
    assert agreement.reason == (
        "the samples do not tell the lengths of the options that acc_norm chooses by"
    )
