"""The gate: one look at a checkpoint against the pinned run, a verdict for each task.

A look spends a part of the series' error rate; Holm's procedure shares it among the look's tasks;
each verdict follows from the interval of d = new - pinned at the level the task is judged at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from suite.records import Comparison
from suite.results.item_scores import ItemScores
from suite.results.scores import aggregate
from suite.stats.averages import difference_error
from suite.stats.compare import Test, compare
from suite.stats.drift import implausible_jump
from suite.stats.spending import holm_levels
from suite.stats.verdict import Verdict, verdict

IDENTICAL = "every item has exactly the pinned run's likelihood"


@dataclass(frozen=True, eq=False)
class TaskPair:
    """One task of the pinned run and of the checkpoint, joined item by item.

    Attributes:
        task: The task's label.
        metric: As it is shown, with the filter where it isn't the default one.
        new: The checkpoint's items.
        pinned: The pinned run's, with the same keys.
        margin: The smallest change that matters, in the metric's unit.
    """

    task: str
    metric: str
    new: ItemScores
    pinned: ItemScores
    margin: float


@dataclass(frozen=True)
class TaskResult:
    """What a look says about one task.

    Attributes:
        task: The task's label.
        metric: As it is shown.
        higher_is_better: The metric's direction.
        num_items: Items compared.
        new: The checkpoint's score.
        pinned: The pinned run's.
        difference: new - pinned in the metric's unit, whichever direction is better.
        low: Lower end of its interval; None where there is none.
        high: Upper end.
        p_value: Two-sided, unadjusted.
        level: The error rate at which Holm's procedure judges this task; the interval covers
            1 - level.
        test: How it was tested.
        margin: The smallest change that matters.
        verdict: What follows.
        mde: The smallest true change that the test finds with 80 % power at this level.
        num_better: Items on which the checkpoint is better.
        num_worse: Items on which it is worse.
        flags: Sentences beside the verdict, which never change it.
        reason: Why there is no interval or no MDE.
    """

    task: str
    metric: str
    higher_is_better: bool
    num_items: int
    new: float | None
    pinned: float | None
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    level: float
    test: str
    margin: float
    verdict: Verdict
    mde: float | None
    num_better: int | None
    num_worse: int | None
    flags: tuple[str, ...] = ()
    reason: str | None = None


def judge(pairs: Sequence[TaskPair], alpha: float) -> tuple[TaskResult, ...]:
    """The verdicts of one look.

    Args:
        pairs: At least one task; each knows whether more of its metric is better.
        alpha: What this look may spend, see `suite.stats.spending.look_alpha`.

    Returns:
        One result a task, in the order of `pairs`.
    """
    first = [_compared(pair, 1 - alpha) for pair in pairs]
    # What has no test cannot be rejected, but it is one of the look's tasks.
    p_values = [1.0 if found.p_value is None else found.p_value for found in first]
    levels = holm_levels(p_values, alpha)
    return tuple(
        _result(pair, _compared(pair, 1 - level), level)
        for pair, level in zip(pairs, levels, strict=True)
    )


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """One word for a look: the gravest of its verdicts."""
    order: tuple[Verdict, ...] = ("regressed", "inconclusive", "improved", "pass")
    return next(word for word in order if word in verdicts)


def with_flags(result: TaskResult, flags: Sequence[str]) -> TaskResult:
    """The result with sentences beside its verdict."""
    return replace(result, flags=(*result.flags, *flags))


def _compared(pair: TaskPair, level: float) -> Comparison:
    # No bootstrap has the resamples that the level of a late look asks for.
    test: Test = "auto" if pair.new.aggregation == "mean" else "t"
    return compare(pair.new, pair.pinned, level=level, test=test)


def _result(pair: TaskPair, found: Comparison, level: float) -> TaskResult:
    difference = found.difference
    word, reason = _verdict(pair, found)
    return TaskResult(
        task=pair.task,
        metric=pair.metric,
        higher_is_better=bool(pair.new.higher_is_better),
        num_items=len(pair.new),
        new=_finite(aggregate(pair.new)),
        pinned=_finite(aggregate(pair.pinned)),
        difference=difference.value,
        low=difference.low,
        high=difference.high,
        p_value=found.p_value,
        level=level,
        test=found.test,
        margin=pair.margin,
        verdict=word,
        mde=found.mde,
        num_better=found.num_better,
        num_worse=found.num_worse,
        flags=_jump(pair, difference.value),
        reason=reason,
    )


def _jump(pair: TaskPair, difference: float | None) -> tuple[str, ...]:
    """Why a change looks like a fault of measuring, if it does."""
    if difference is None:
        return ()
    both = np.concatenate([pair.new.values, pair.pinned.values])
    is_unit = pair.new.aggregation == "mean" and bool(np.all((both >= 0) & (both <= 1)))
    stderr = difference_error(pair.new, pair.pinned).stderr
    told = implausible_jump(difference, stderr, is_unit_interval=is_unit)
    return () if told is None else (f"implausible: {told}",)


def _verdict(pair: TaskPair, found: Comparison) -> tuple[Verdict, str | None]:
    """The verdict of a difference turned so that more is better, and why there is no interval."""
    value, low, high = found.difference.value, found.difference.low, found.difference.high
    if value is None or low is None or high is None:
        is_ratio = pair.new.aggregation != "mean"
        # Real numbers that are equal to the last bit on all texts are those of the same model.
        if is_ratio and np.array_equal(pair.new.values, pair.pinned.values):
            return "pass", IDENTICAL
        return "inconclusive", found.reason or found.difference.reason
    if not pair.new.higher_is_better:
        value, low, high = -value, -high, -low
    return verdict(value, low, high, pair.margin), found.reason


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
