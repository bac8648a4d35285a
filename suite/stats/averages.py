"""Means over strata: the single tasks of a group, and the tasks of a table's average.

Strata are fixed, not drawn: only the items within them vary, so SE^2 = sum of w^2 SE^2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from suite.errors import NotComparableError
from suite.results.item_scores import ItemScores
from suite.stats.discordant import exact_interval
from suite.stats.intervals import (
    MIN_CLUSTERS,
    MeanError,
    clustered_error,
    clustered_residuals_error,
    is_constant,
    mean_error,
    t_quantile,
    too_few,
    why_unusable,
    wilson_interval,
)
from suite.stats.ratio import linearised, why_no_ratio

# Weights of items that are equal but for the rounding of 1 / n.
SAME_WEIGHT = 1e-9
LINEARISED = "linearised t"
# Of the interval that stands in for a standard error; at others it would be much the same.
FALLBACK_LEVEL = 0.95


def item_weights(
    strata: NDArray[np.int64], stratum_weights: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """What each item counts in a mean over strata, `[n]`, summing to 1.

    None where a stratum of positive weight has no items: the mean is then undefined.

    Args:
        strata: `[n]`, 0 to S - 1.
        stratum_weights: `[S]`.
    """
    sizes = np.bincount(strata, minlength=len(stratum_weights))
    if len(strata) == 0 or bool(((sizes == 0) & (stratum_weights > 0)).any()):
        return None
    return np.asarray((stratum_weights / np.maximum(sizes, 1))[strata])


def has_equal_weights(weights: NDArray[np.float64]) -> bool:
    """Whether the mean over strata is the plain mean over items."""
    return bool(np.ptp(weights) <= SAME_WEIGHT * weights.max())


def stratified_error(
    values: NDArray[np.float64],
    strata: NDArray[np.int64],
    stratum_weights: NDArray[np.float64],
    clusters: NDArray[np.int64] | None = None,
) -> MeanError:
    """Mean over strata of the means within them, with its standard error.

    One stratum gives the plain mean. With clusters, which may reach over strata, the residuals
    from the strata's own means are summed within each cluster.

    Args:
        values: `[n]`, scores or paired differences.
        strata: `[n]`, 0 to S - 1.
        stratum_weights: `[S]`, summing to 1; a stratum of weight 0 counts for nothing.
        clusters: `[n]`.
    """
    unusable = why_unusable(values)
    if unusable:
        return MeanError(None, None, math.nan, len(values), "t", unusable)
    weights = item_weights(strata, stratum_weights)
    if weights is None:
        reason = "one of the single tasks has no items"
        return MeanError(None, None, math.nan, len(values), "stratified t", reason)
    used = np.flatnonzero(stratum_weights > 0)
    if len(used) <= 1:
        inside = weights > 0
        if clusters is not None:
            return clustered_error(values[inside], clusters[inside])
        return mean_error(values[inside])
    if clusters is not None:
        means = np.bincount(strata, values) / np.maximum(np.bincount(strata), 1)
        residuals = weights * (values - means[strata])
        return clustered_residuals_error(float(weights @ values), residuals, clusters)
    errors = [mean_error(values[strata == stratum]) for stratum in used]
    constant = all(is_constant(values[strata == stratum]) for stratum in used)
    return _sum_of(errors, stratum_weights[used], "single task", constant)


def _sum_of(
    errors: Sequence[MeanError], weights: NDArray[np.float64], unit: str, constant: bool
) -> MeanError:
    """Weighted sum of independent means; a stratum that does not vary adds no error."""
    n = sum(error.n for error in errors)
    method = f"stratified t ({len(errors)} {unit}s)"
    mean = float(
        sum(w * e.mean for w, e in zip(weights, errors, strict=True) if e.mean is not None)
    )
    if constant:
        return MeanError(mean, None, math.nan, n, method, f"no {unit} has any variance")
    single = sum(error.n == 1 for error in errors)
    if single:
        found = f"1 {unit} has" if single == 1 else f"{single} {unit}s have"
        return MeanError(mean, None, math.nan, n, method, f"{found} only one item")
    parts = np.array([(w * (e.stderr or 0.0)) ** 2 for w, e in zip(weights, errors, strict=True)])
    dfs = np.array([e.df if e.stderr is not None else math.inf for e in errors])
    return MeanError(mean, math.sqrt(parts.sum()), satterthwaite(parts, dfs), n, method)


def satterthwaite(variances: NDArray[np.float64], dfs: NDArray[np.float64]) -> float:
    """Degrees of freedom of a sum of independent variances (Satterthwaite 1946), each with its own.

    Infinite ones count as known.
    """
    uncertain = float((variances**2 / dfs).sum())
    return float(variances.sum()) ** 2 / uncertain if uncertain > 0 else math.inf


def average_error(errors: Sequence[MeanError], weights: Sequence[float] | None = None) -> MeanError:
    """The average over a table's tasks, from the mean (or paired difference) of each.

    Args:
        errors: One a task; tasks are independent of each other.
        weights: One a task, brought to sum 1; None for equal ones.

    Returns:
        Without a mean where a task has none, without a standard error where a task has none.
    """
    n = sum(error.n for error in errors)
    method = f"stratified t ({len(errors)} tasks)"
    if not errors:
        return MeanError(None, None, math.nan, 0, method, "there are no tasks")
    shares = np.ones(len(errors)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not shares.sum() > 0 or bool((shares < 0).any()):
        return MeanError(None, None, math.nan, n, method, "the tasks' weights sum to 0")
    shares = shares / shares.sum()
    means = [error.mean for error in errors if error.mean is not None]
    if len(means) < len(errors):
        reason = _named([error for error in errors if error.mean is None], len(errors))
        return MeanError(None, None, math.nan, n, method, reason)
    mean = float(shares @ np.array(means))
    unknown = [error for error in errors if error.stderr is None]
    if unknown:
        return MeanError(mean, None, math.nan, n, method, _named(unknown, len(errors)))
    parts = (shares * np.array([error.stderr for error in errors])) ** 2
    df = satterthwaite(parts, np.array([error.df for error in errors]))
    return MeanError(mean, math.sqrt(parts.sum()), df, n, method)


def _named(errors: Sequence[MeanError], num_tasks: int) -> str:
    return f"{len(errors)} of {num_tasks} tasks have no standard error: {errors[0].reason}"


def is_plain_binary(items: ItemScores) -> bool:
    """Whether the score is a share of independent items that all count the same."""
    if items.clusters is not None or not items.is_binary:
        return False
    weights = item_weights(items.strata, items.stratum_weights)
    return len(items) == 0 or (weights is not None and has_equal_weights(weights))


def items_error(items: ItemScores) -> MeanError:
    """A score with its standard error, the form in which averages take it.

    A ratio metric is linearised.
    """
    if items.aggregation == "mean":
        return stratified_error(items.values, items.strata, items.stratum_weights, items.clusters)
    reason = why_no_ratio(items)
    if reason:
        return MeanError(None, None, math.nan, len(items), LINEARISED, reason)
    return _ratio_error(linearised(items), items.clusters)


def difference_error(new: ItemScores, reference: ItemScores) -> MeanError:
    """The paired difference new - reference over the same items, with its standard error.

    Raises:
        NotComparableError: other items, or another way to aggregate them.
    """
    check_same_items(new, reference)
    clusters = new.clusters if new.clusters is not None else reference.clusters
    if new.aggregation == "mean":
        differences = new.values - reference.values
        return stratified_error(differences, new.strata, new.stratum_weights, clusters)
    reason = why_no_ratio(new) or why_no_ratio(reference)
    if reason:
        return MeanError(None, None, math.nan, len(new), LINEARISED, reason)
    return _ratio_error(linearised(new) - linearised(reference), clusters)


def average_of(items: Sequence[ItemScores], weights: Sequence[float] | None = None) -> MeanError:
    """A model's average over tasks, with its standard error.

    A task whose 0/1 scores are all alike has no variance to add, yet is not known exactly: its
    error is then that of its Wilson interval.

    Args:
        items: One a task.
        weights: One a task, brought to sum 1; None for equal ones.
    """
    errors = []
    for task in items:
        error = items_error(task)
        if _is_short_of_error(error) and is_plain_binary(task):
            interval = wilson_interval(int(task.values.sum()), len(task), level=FALLBACK_LEVEL)
            error = _from_limits(error, interval.low, interval.high)
        errors.append(error)
    return average_error(errors, weights)


def average_difference(
    new: Sequence[ItemScores],
    reference: Sequence[ItemScores],
    weights: Sequence[float] | None = None,
) -> MeanError:
    """The difference new - reference of two averages over the same tasks and items.

    Paired within each task. Where two models do equally on every item of a 0/1 task, the error is
    that of the exact interval without discordant items.

    Args:
        new: One a task.
        reference: The same tasks.
        weights: One a task, brought to sum 1; None for equal ones.

    Raises:
        NotComparableError: other items in a task, or another way to aggregate them.
    """
    errors = []
    for first, second in zip(new, reference, strict=True):
        error = difference_error(first, second)
        if _is_short_of_error(error) and is_plain_binary(first) and is_plain_binary(second):
            won = int(np.count_nonzero(first.values > second.values))
            lost = int(np.count_nonzero(first.values < second.values))
            low, high = exact_interval(won, lost, len(first), level=FALLBACK_LEVEL)
            error = _from_limits(error, low, high)
        errors.append(error)
    return average_error(errors, weights)


def _is_short_of_error(error: MeanError) -> bool:
    return error.mean is not None and error.stderr is None


def _from_limits(error: MeanError, low: float | None, high: float | None) -> MeanError:
    if low is None or high is None:
        return error
    stderr = (high - low) / 2.0 / t_quantile((1.0 + FALLBACK_LEVEL) / 2.0, math.inf)
    return replace(error, stderr=stderr, df=math.inf, reason=None)


def _ratio_error(shares: NDArray[np.float64], clusters: NDArray[np.int64] | None) -> MeanError:
    if clusters is not None:
        error = clustered_error(shares, clusters)
    elif len(shares) < MIN_CLUSTERS:
        reason = too_few(len(shares), "document")
        error = MeanError(float(shares.mean()), None, math.nan, len(shares), "t", reason)
    else:
        error = mean_error(shares)
    return replace(error, method=f"linearised {error.method}")


def check_same_items(new: ItemScores, reference: ItemScores) -> None:
    """Refuse two scores that are not of the same items.

    Raises:
        NotComparableError: other items, or another way to aggregate them.
    """
    if new.aggregation != reference.aggregation:
        raise NotComparableError(
            f"one score is a {new.aggregation} and the other a {reference.aggregation}: "
            "compare the same metric"
        )
    if not np.array_equal(new.keys, reference.keys):
        raise NotComparableError(
            f"the scores belong to different items ({len(new):,} and {len(reference):,}): "
            "join them on the items they share first"
        )
