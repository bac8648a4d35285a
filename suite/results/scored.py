"""One cell's run together with its items."""

from __future__ import annotations

from dataclasses import dataclass

from suite.records import MetricScore, RunRecord
from suite.results.item_scores import ItemScores
from suite.results.item_table import ItemTable


@dataclass(frozen=True, eq=False)
class Scored:
    """One (model, task label) with the metric a column shows.

    Attributes:
        record: The run.
        score: lm-eval's aggregate under the column's metric and filter.
        items: The items behind it; None where they are missing or do not give the aggregate.
        reason: Why `items` is None, one sentence.
        tables: The run's items under the column's filter, one table a single task.
    """

    record: RunRecord
    score: MetricScore
    items: ItemScores | None
    reason: str | None = None
    tables: tuple[ItemTable, ...] = ()
