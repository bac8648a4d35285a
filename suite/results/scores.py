"""From the items of a run to the scores behind one aggregate of lm-eval's, checked against it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from suite.errors import RecordError
from suite.records import MetricScore, RunRecord
from suite.results.item_scores import ItemScores
from suite.results.item_table import ItemTable
from suite.results.samples_file import group_key, is_group, read_item_tables
from suite.results.scored import Scored

# How far a recomputed aggregate may be from the reported one: sums in another order.
RELATIVE_TOLERANCE = 1e-9


def pick_score(record: RunRecord, wanted: str | None) -> MetricScore | None:
    """The score that `metric` or `metric,filter` names, the task's first where None is given.

    None where the task has no such metric.
    """
    if wanted is None:
        return record.task.scores[0] if record.task.scores else None
    metric, _, filter_name = wanted.partition(",")
    fits = (s for s in record.task.scores if s.metric == metric and filter_name in {"", s.filter})
    return next(fits, None)


def scored(
    record: RunRecord, wanted_metric: str | None, tables: Sequence[ItemTable] | None = None
) -> Scored | None:
    """A run under one metric with its items; None where it has no such metric.

    Damaged samples are no error here: the aggregate still stands, and `reason` says what is wrong.

    Args:
        record: The run.
        wanted_metric: `metric`, `metric,filter`, or None for the task's first.
        tables: The run's items where they are known already; else they are read.
    """
    score = pick_score(record, wanted_metric)
    if score is None:
        return None
    try:
        found = read_item_tables(record) if tables is None else tables
    except RecordError as error:
        return Scored(record, score, None, str(error))
    shown = tuple(table for table in found if table.filter == score.filter)
    items = item_scores(record, score.metric, score.filter, found)
    if isinstance(items, str):
        return Scored(record, score, None, items, shown)
    return Scored(record, score, items, None, shown)


def item_scores(
    record: RunRecord, metric: str, filter_name: str, tables: Sequence[ItemTable]
) -> ItemScores | str:
    """The items' scores under one metric and filter, or one sentence why there are none.

    They give lm-eval's aggregate again (1e-9, relative), so nothing is tested that is not shown.
    The keys of a group's items are `task NUL key`.
    """
    where = f"{record.model} · {record.label}"
    fits = (s for s in record.task.scores if (s.metric, s.filter) == (metric, filter_name))
    score = next(fits, None)
    if score is None or score.value is None:
        return f"{where}: lm-eval gives no value of {metric} under the filter '{filter_name}'"
    if record.file is None:
        return f"{where}: computed from other runs, so it has no items of its own"
    if not tables:
        return f"{where}: no samples were written, so only the aggregate is known"
    # Bytewise, so that the keys of a group come out sorted.
    members = sorted((t for t in tables if t.filter == filter_name), key=lambda t: t.task.encode())
    if not members:
        return f"{where}: the samples hold nothing under the filter '{filter_name}'"
    num_logged, num_counted = sum(len(t.keys) for t in members), record.task.num_items
    if num_counted is not None and num_logged != num_counted:
        return (
            f"{where}: the samples hold {num_logged} items where lm-eval counted {num_counted}, so"
            " they are not used"
        )
    members = [table for table in members if metric in table.metrics]
    if not members:
        return f"{where}: the samples hold no values of {metric}"
    return _matching(members, metric, score, is_group(record, tables)) or (
        f"{where}: lm-eval's {metric} = {score.value:.6g} does not follow from its items as a mean"
        " or a ratio of sums, so the items are not tested"
    )


def _matching(
    members: Sequence[ItemTable], metric: str, score: MetricScore, in_group: bool
) -> ItemScores | None:
    """The items under the first reading that gives lm-eval's aggregate."""
    columns = [table.metrics[metric] for table in members]
    strata = np.repeat(np.arange(len(members)), [len(c) for c in columns]).astype(np.int64)
    values = np.concatenate(columns)
    # lm-eval leaves them out of a mean (nanmean), or has no aggregate at all.
    known = np.isfinite(values)
    sizes = np.bincount(strata[known], minlength=len(members)).astype(np.float64)
    if not known.any() or not sizes.all():
        return None
    weights = _weights(members, metric)
    if weights is not None:
        known &= np.isfinite(weights) & (weights > 0)
        if not known.all():
            return None
    keys = _keys(members, in_group)
    clusters = _clusters(members)
    equal = np.full(len(members), 1 / len(members))
    for aggregation, stratum_weights in (
        *((("bits_per_byte", equal), ("perplexity", equal)) if weights is not None else ()),
        ("mean", sizes / sizes.sum()),
        ("mean", equal),
        ("perplexity", equal),
    ):
        items = ItemScores(
            keys=keys,
            values=values,
            aggregation=aggregation,
            higher_is_better=score.higher_is_better,
            strata=strata,
            stratum_weights=stratum_weights,
            weights=None if aggregation == "mean" else _or_ones(weights, values),
            clusters=clusters,
        )
        items = items if known.all() else items.take(np.flatnonzero(known))
        if _agrees(aggregate(items), score.value):
            return items
    return None


def aggregate(items: ItemScores) -> float:
    """The score that the items give, by the formulas in `ItemScores`; inf where it overflows."""
    if items.aggregation == "mean":
        sums = np.bincount(items.strata, weights=items.values, minlength=len(items.stratum_weights))
        counts = np.bincount(items.strata, minlength=len(items.stratum_weights))
        return float((items.stratum_weights * sums / counts).sum())
    assert items.weights is not None, "every ratio metric has weights"
    rate = -math.fsum(items.values) / math.fsum(items.weights)
    if items.aggregation == "bits_per_byte":
        return rate / math.log(2)
    try:
        return math.exp(rate)
    except OverflowError:
        return math.inf


def _agrees(found: float, reported: float | None) -> bool:
    # The absolute part is for means of 0 whose sum is only nearly 0.
    return reported is not None and math.isclose(
        found, reported, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-12
    )


def _or_ones(weights: NDArray[np.float64] | None, like: NDArray[np.float64]) -> NDArray[np.float64]:
    """A perplexity without weights is one of items."""
    return np.ones_like(like) if weights is None else weights


def _weights(members: Sequence[ItemTable], metric: str) -> NDArray[np.float64] | None:
    if any(metric not in table.weights for table in members):
        return None
    return np.concatenate([table.weights[metric] for table in members])


def _keys(members: Sequence[ItemTable], in_group: bool) -> NDArray[np.bytes_]:
    if not in_group:
        return members[0].keys
    return np.array([group_key(t.task, key) for t in members for key in t.keys.tolist()])


def _clusters(members: Sequence[ItemTable]) -> NDArray[np.int64] | None:
    """One number a cluster over all members; items without a shared text stand for themselves."""
    if all(table.clusters is None for table in members):
        return None
    names = [
        f"{position} {name!r}"
        for position, table in enumerate(members)
        for name in (table.keys if table.clusters is None else table.clusters).tolist()
    ]
    _, numbers = np.unique(names, return_inverse=True)
    return numbers.astype(np.int64)
