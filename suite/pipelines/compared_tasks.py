"""One task of two runs: joined, estimated, tested; then all tasks as a family and as an average."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from suite.records import Comparison, Estimate
from suite.report.compare_record import ComparedAverage, ComparedTask
from suite.report.tables import AVERAGED_METRICS
from suite.results.comparability import check_comparable, check_conditions, side_names
from suite.results.item_scores import ItemScores
from suite.results.item_table import answers_of
from suite.results.samples_file import group_key, is_group
from suite.results.scored import Scored
from suite.stats.agreement import agreement
from suite.stats.compare import (
    Test,
    can_be_drawn,
    compare,
    compare_aggregates,
    estimate,
    has_resamples_for,
)
from suite.stats.intervals import MeanError
from suite.stats.multiple import holm
from suite.stats.power import mde_normal
from suite.stats.resamples import resample_counts
from suite.stats.spending import holm_levels
from suite.stats.task_averages import (
    AveragedTask,
    average_error,
    averaged_difference,
    averaged_task,
)

_BY_AGGREGATES = "lm-eval's standard error"


@dataclass(frozen=True, eq=False)
class TestedTask:
    """A compared task with what later steps need.

    Attributes:
        task: Not corrected yet for the other tasks.
        at_level: The same test at another level.
        first: The first score as an average takes it.
        second: The second's.
        difference: That of second minus first.
        notes: What has to be said beside it.
    """

    # Not a test class, whatever its name begins with.
    __test__ = False

    task: ComparedTask
    at_level: Callable[[float], Comparison]
    first: AveragedTask
    second: AveragedTask
    difference: AveragedTask
    notes: tuple[str, ...]


def tested_task(
    first: Scored,
    second: Scored,
    *,
    level: float,
    test: Test,
    seed: int,
    shared_items: bool,
    num_tests: int,
) -> TestedTask:
    """The comparison of one task, paired where both runs have items.

    A bootstrap that would run out of resamples at the smallest level of Holm's procedure over
    `num_tests` gives way to the t test, unless it was asked for.

    Raises:
        NotComparableError: The runs were not measured alike.
    """
    if first.items is None or second.items is None:
        return _unpaired(first, second, level, test)
    left, right, notes = check_comparable(first, second, shared_items=shared_items)
    counts, is_ratio = None, left.aggregation != "mean"
    if test == "auto" and is_ratio and not has_resamples_for(1 - (1 - level) / num_tests):
        test = "t"
    if (is_ratio or test == "bootstrap") and can_be_drawn(left, level):
        counts = resample_counts(len(left), seed=seed, clusters=left.clusters, strata=left.strata)

    def at_level(at: float) -> Comparison:
        return compare(right, left, level=at, test=test, counts=counts)

    estimates = [estimate(side, level=level, counts=counts) for side in (left, right)]
    return TestedTask(
        task=_task(
            first, estimates, at_level(level), len(left), _alike(first, second, left, level)
        ),
        at_level=at_level,
        first=averaged_task(left, first.record.task.task),
        second=averaged_task(right, second.record.task.task),
        difference=averaged_difference(right, left, first.record.task.task),
        notes=notes,
    )


def _unpaired(first: Scored, second: Scored, level: float, test: Test) -> TestedTask:
    """The comparison of two aggregates, for runs of which one at least has no items."""
    notes = check_conditions(first, second)
    sides = (first, second)
    lacking = [
        f"{name}: {side.reason or 'no samples'}"
        for name, side in zip(side_names(first, second), sides, strict=True)
        if side.items is None
    ]
    sizes = first.record.task.num_items, second.record.task.num_items

    def at_level(at: float) -> Comparison:
        known = None if sizes[0] is None or sizes[1] is None else (sizes[1], sizes[0])
        return compare_aggregates(second.score, first.score, level=at, num_items=known)

    errors = [_aggregate_error(side) for side in sides]
    estimates = [
        error.estimate(level) if side.items is None else estimate(side.items, level=level)
        for side, error in zip(sides, errors, strict=True)
    ]
    reason = "answers are compared only where both runs have samples"
    alike = Estimate(None, None, None, level, 0, "Wilson", reason)
    size = sizes[0] if sizes[0] == sizes[1] else None
    task = _task(first, estimates, at_level(level), size, alike)
    note = f"{task.label}: compared unpaired, by the aggregates ({'; '.join(lacking)})"
    if test != "auto":
        note += f", though '{test}' was asked for"
    averaged = [AveragedTask(error) for error in errors]
    apart = AveragedTask(_difference_of(errors[0], errors[1]))
    return TestedTask(task, at_level, averaged[0], averaged[1], apart, (*notes, note))


def _task(
    scored: Scored,
    estimates: Sequence[Estimate],
    comparison: Comparison,
    n: int | None,
    alike: Estimate,
) -> ComparedTask:
    record, score = scored.record, scored.score
    values = [one.value for one in estimates if one.value is not None]
    return ComparedTask(
        label=record.label,
        task=record.task.task,
        metric=score.metric,
        filter=score.filter,
        higher_is_better=score.higher_is_better,
        unit_interval=score.metric in AVERAGED_METRICS
        and score.higher_is_better is True
        and all(0 <= value <= 1 for value in values),
        n=n,
        first=estimates[0],
        second=estimates[1],
        comparison=comparison,
        agreement=alike,
    )


def _alike(first: Scored, second: Scored, items: ItemScores, level: float) -> Estimate:
    """The share of `items` that both answer alike, as the metric reads their answers."""
    sides = [_answers(side, items.keys) for side in (first, second)]
    unknown = [side for side in sides if isinstance(side, str)]
    answers = [side for side in sides if not isinstance(side, str)]
    if not unknown and any((side == b"").all() for side in answers):
        unknown = ["the items have no answers that could be alike"]
    if unknown:
        return Estimate(None, None, None, level, 0, "Wilson", unknown[0])
    return agreement(*answers, level=level, clusters=items.clusters)


def _answers(scored: Scored, keys: NDArray[np.bytes_]) -> NDArray[np.bytes_] | str:
    """Each item's answer in the order of `keys` `[n]`; empty where it has none."""
    in_group = is_group(scored.record, scored.tables)
    answers: dict[bytes, bytes] = {}
    for table in scored.tables:
        found = answers_of(table, scored.score.metric)
        if isinstance(found, str):
            return found
        own: list[bytes] = table.keys.tolist()
        names = [group_key(table.task, key) for key in own] if in_group else own
        answers |= zip(names, found.tolist(), strict=True)
    return np.array([answers.get(key, b"") for key in keys.tolist()], dtype=bytes)


def _aggregate_error(scored: Scored) -> MeanError:
    score, n = scored.score, scored.record.task.num_items or 0
    if score.value is not None and score.stderr is not None and score.stderr > 0:
        return MeanError(score.value, score.stderr, math.inf, n, _BY_AGGREGATES)
    reason = f"{scored.record.model} has no standard error of {score.metric} and no items"
    return MeanError(score.value, None, math.nan, n, _BY_AGGREGATES, reason)


def _difference_of(first: MeanError, second: MeanError) -> MeanError:
    """Second minus first, of two independent scores."""
    reason = first.reason or second.reason
    n = min(first.n, second.n)
    if first.mean is None or second.mean is None:
        return MeanError(None, None, math.nan, n, _BY_AGGREGATES, reason)
    difference = second.mean - first.mean
    if first.stderr is None or second.stderr is None:
        return MeanError(difference, None, math.nan, n, _BY_AGGREGATES, reason)
    stderr = math.hypot(first.stderr, second.stderr)
    return MeanError(difference, stderr, math.inf, n, _BY_AGGREGATES)


def adjusted(tested: Sequence[TestedTask], level: float) -> tuple[ComparedTask, ...]:
    """The tasks with Holm's p-values over all, and each MDE at the level Holm left for its task."""
    p_values = [one.task.comparison.p_value for one in tested]
    corrected = holm(p_values)
    known = [p_value for p_value in p_values if p_value is not None]
    levels = iter(holm_levels(known, 1 - level))
    tasks = []
    for one, p_value, p_adjusted in zip(tested, p_values, corrected, strict=True):
        comparison = replace(one.task.comparison, p_adjusted=p_adjusted)
        if p_value is not None and len(known) > 1:
            judged = one.at_level(1 - next(levels))
            comparison = replace(comparison, mde=judged.mde, reason=judged.reason)
        tasks.append(replace(one.task, comparison=comparison))
    return tuple(tasks)


def average(tested: Sequence[TestedTask], level: float) -> ComparedAverage | None:
    """The plain mean over tasks whose metric lies in 0-1; None for fewer than two."""
    averaged = [one for one in tested if one.task.unit_interval]
    if len(averaged) < 2:
        return None
    error = average_error([one.difference for one in averaged])
    mde = None
    if error.stderr is not None:
        df = None if math.isinf(error.df) else error.df
        mde = mde_normal(error.stderr, alpha=1 - level, df=df)
    difference = error.estimate(level)
    comparison = Comparison(
        difference=difference,
        p_value=error.p_value(),
        test=error.method,
        paired=all(one.task.comparison.paired for one in averaged),
        mde=mde,
        reason=difference.reason,
    )
    return ComparedAverage(
        labels=tuple(one.task.label for one in averaged),
        first=average_error([one.first for one in averaged]).estimate(level),
        second=average_error([one.second for one in averaged]).estimate(level),
        comparison=comparison,
    )
