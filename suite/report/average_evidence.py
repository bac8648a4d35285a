"""Intervals of the averages over a table's tasks, and of their differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from suite.records import Comparison, Evidence
from suite.report.pairs import ColumnPairs
from suite.results.item_scores import ItemScores
from suite.stats.averages import average_difference, average_error, average_of, items_error
from suite.stats.intervals import MeanError
from suite.stats.power import mde_normal


def average_evidence(
    models: Sequence[str], columns: Sequence[ColumnPairs], reference: str | None, level: float
) -> dict[str, Evidence]:
    """Each model's average with its interval and its difference from the reference row.

    Tasks are strata: their items vary, the tasks do not. The difference is paired in every task
    that has items. A model that lacks one of the tasks has no average.
    """
    found = {}
    for model in models:
        error = _average(columns, model)
        if error is None:
            continue
        versus = None
        if reference is not None and model != reference:
            versus = compare_averages(model, reference, columns, level)
        found[model] = Evidence(error.estimate(level), versus)
    return found


def compare_averages(
    new: str, base: str, columns: Sequence[ColumnPairs], level: float
) -> Comparison | None:
    """The difference of two models' averages; None where a task cannot be compared.

    Paired where all tasks have items of both, else from the two averages' own errors.
    """
    known = [pairs for pairs in columns if {new, base} <= pairs.scored.keys()]
    if not columns or len(known) < len(columns):
        return None
    if any(isinstance(pairs.compare(new, base), str) for pairs in columns):
        return None
    joined = [pairs.join(new, base) for pairs in columns]
    items: list[tuple[ItemScores, ItemScores]] = [p for p in joined if not isinstance(p, str)]
    if len(items) == len(columns):
        error = average_difference([new for new, _ in items], [base for _, base in items])
    else:
        first, second = _average(columns, new), _average(columns, base)
        if first is None or second is None:
            return None
        error = _unpaired(first, second)
    mde = None
    if error.stderr is not None:
        df = None if math.isinf(error.df) else error.df
        mde = mde_normal(error.stderr, alpha=1 - level, df=df)
    is_paired = len(items) == len(columns)
    return Comparison(
        error.estimate(level),
        error.p_value(),
        error.method,
        is_paired,
        mde=mde,
        reason=error.reason,
    )


def _average(columns: Sequence[ColumnPairs], model: str) -> MeanError | None:
    """The average from items, with lm-eval's standard error where a task has none."""
    scored = [pairs.scored.get(model) for pairs in columns]
    known = [one for one in scored if one is not None and one.score.value is not None]
    if not columns or len(known) < len(columns):
        return None
    items = [one.items for one in known if one.items is not None]
    if len(items) == len(columns):
        return average_of(items)
    errors = []
    for one in known:
        if one.items is not None:
            errors.append(items_error(one.items))
            continue
        stderr, n = one.score.stderr or None, one.record.task.num_items or 0
        reason = None if stderr else "no items and no standard error"
        errors.append(MeanError(one.score.value, stderr, math.inf, n, "lm-eval's", reason))
    return average_error(errors)


def _unpaired(first: MeanError, second: MeanError) -> MeanError:
    difference, stderr = None, None
    if first.mean is not None and second.mean is not None:
        difference = first.mean - second.mean
    if first.stderr is not None and second.stderr is not None:
        stderr = math.hypot(first.stderr, second.stderr)
    reason = first.reason or second.reason
    n = min(first.n, second.n)
    return MeanError(difference, stderr, math.inf, n, "unpaired averages", reason)
