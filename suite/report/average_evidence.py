"""Intervals of the averages over a table's tasks, and of their differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from suite.records import Comparison, Estimate, Evidence
from suite.report.pairs import ColumnPairs
from suite.stats.intervals import MeanError
from suite.stats.power import mde_normal
from suite.stats.task_averages import (
    AveragedTask,
    average_error,
    averaged_difference,
    averaged_task,
)


def average_evidence(
    models: Sequence[str], columns: Sequence[ColumnPairs], reference: str | None, level: float
) -> dict[str, Evidence]:
    """Each model's average with its interval and its difference from the reference row.

    Tasks are strata: their items vary, the tasks do not; items that several tasks share are not
    independent. The difference is paired in every task that has items. A model that lacks one of
    the tasks has no average. The average of one task has that task's own interval.
    """
    found = {}
    for model in models:
        error = _average(columns, model)
        if error is None:
            continue
        versus = None
        if reference is not None and model != reference:
            versus = compare_averages(model, reference, columns, level)
        estimate = columns[0].estimate(model) if len(columns) == 1 else None
        found[model] = Evidence(cut(estimate or error.estimate(level), 0.0, 1.0), versus)
    return found


def cut(estimate: Estimate, lowest: float, highest: float) -> Estimate:
    """An estimate without the part of its interval that no true value can lie in.

    What is left holds the true value just as often; the method says that it was cut.
    """
    low, high = estimate.low, estimate.high
    if low is None or high is None or (low >= lowest and high <= highest):
        return estimate
    return replace(
        estimate,
        low=max(low, lowest),
        high=min(high, highest),
        method=f"{estimate.method}, cut at {100 * lowest:.0f} and {100 * highest:.0f} %",
    )


def compare_averages(
    new: str, base: str, columns: Sequence[ColumnPairs], level: float
) -> Comparison | None:
    """The difference of two models' averages; None where a task cannot be compared.

    Paired where all tasks have items of both, else from the two averages' own errors. Of one task
    it is that task's own comparison.
    """
    known = [pairs for pairs in columns if {new, base} <= pairs.scored.keys()]
    if not columns or len(known) < len(columns):
        return None
    if any(isinstance(pairs.compare(new, base), str) for pairs in columns):
        return None
    if len(columns) == 1:
        single = columns[0].compare(new, base)
        return None if isinstance(single, str) else single
    joined = [pairs.join(new, base) for pairs in columns]
    differences = [
        averaged_difference(*items, pairs.scored[new].record.task.task)
        for items, pairs in zip(joined, columns, strict=True)
        if not isinstance(items, str)
    ]
    is_paired = len(differences) == len(columns)
    if is_paired:
        error = average_error(differences)
    else:
        first, second = _average(columns, new), _average(columns, base)
        if first is None or second is None:
            return None
        error = _unpaired(first, second)
    mde = None
    if error.stderr is not None:
        df = None if math.isinf(error.df) else error.df
        mde = mde_normal(error.stderr, alpha=1 - level, df=df)
    return Comparison(
        cut(error.estimate(level), -1.0, 1.0),
        error.p_value(),
        error.method,
        is_paired,
        mde=mde,
        mde_alpha=None if mde is None else 1 - level,
        reason=error.reason,
    )


def _average(columns: Sequence[ColumnPairs], model: str) -> MeanError | None:
    """The average from items, with lm-eval's standard error where a task has none."""
    scored = [pairs.scored.get(model) for pairs in columns]
    known = [one for one in scored if one is not None and one.score.value is not None]
    if not columns or len(known) < len(columns):
        return None
    tasks = []
    for one in known:
        if one.items is not None:
            tasks.append(averaged_task(one.items, one.record.task.task))
            continue
        stderr, n = one.score.stderr or None, one.record.task.num_items or 0
        reason = None if stderr else "no items and no standard error"
        error = MeanError(one.score.value, stderr, math.inf, n, "lm-eval's", reason)
        tasks.append(AveragedTask(error))
    return average_error(tasks)


def _unpaired(first: MeanError, second: MeanError) -> MeanError:
    difference, stderr = None, None
    if first.mean is not None and second.mean is not None:
        difference = first.mean - second.mean
    if first.stderr is not None and second.stderr is not None:
        stderr = math.hypot(first.stderr, second.stderr)
    reason = first.reason or second.reason
    n = min(first.n, second.n)
    return MeanError(difference, stderr, math.inf, n, "unpaired averages", reason)
