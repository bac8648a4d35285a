"""The average over a table's tasks, which may share items, and its difference between two models.

Tasks are fixed, not drawn: only the items within them vary. With weights w of the tasks,
SE^2 = sum over pairs of tasks of w_k w_l cov(k, l), where tasks without a common item have none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csgraph, csr_array

from suite.results.item_scores import ItemScores
from suite.stats.averages import (
    difference_error,
    is_plain_binary,
    item_weights,
    items_error,
    satterthwaite,
)
from suite.stats.discordant import exact_interval
from suite.stats.intervals import MeanError, t_quantile, wilson_interval

# Of the interval that stands in for a standard error; at others it would be much the same.
FALLBACK_LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each of a task's n items adds to the error of its mean.

    Attributes:
        names: bytes `[n]`, unique; equal in two tasks for the same item of the same single task.
        parts: float64 `[n]`; the variance of the mean is the sum of squares of the units' sums.
        units: int64 `[n]`, the items' clusters; None where each stands for itself.
    """

    names: NDArray[np.bytes_]
    parts: NDArray[np.float64]
    units: NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class AveragedTask:
    """One task's mean, or paired difference, as an average takes it.

    Attributes:
        error: It with its standard error.
        contributions: The items behind it; None where they are not known.
    """

    error: MeanError
    contributions: Contributions | None = None


def averaged_task(items: ItemScores, task: str) -> AveragedTask:
    """A model's score on a task.

    0/1 scores that are all alike have no variance to add, yet are not known exactly: their error
    is then that of their Wilson interval.

    Args:
        items: The task's.
        task: The single task's name; of a group the keys tell it.
    """
    error = items_error(items)
    if _is_short_of_error(error) and is_plain_binary(items):
        interval = wilson_interval(int(items.values.sum()), len(items), level=FALLBACK_LEVEL)
        error = _from_limits(error, interval.low, interval.high)
    return AveragedTask(error, _contributions(items, items.values, items.clusters, task))


def averaged_difference(new: ItemScores, reference: ItemScores, task: str) -> AveragedTask:
    """The paired difference new - reference on a task.

    Where two models do equally on every item of a 0/1 task, the error is that of the exact interval
    without discordant items.

    Args:
        new: One model's items.
        reference: The other's, under the same keys.
        task: The single task's name; of a group the keys tell it.

    Raises:
        NotComparableError: other items, or another way to aggregate them.
    """
    error = difference_error(new, reference)
    if _is_short_of_error(error) and is_plain_binary(new) and is_plain_binary(reference):
        won = int(np.count_nonzero(new.values > reference.values))
        lost = int(np.count_nonzero(new.values < reference.values))
        low, high = exact_interval(won, lost, len(new), level=FALLBACK_LEVEL)
        error = _from_limits(error, low, high)
    clusters = new.clusters if new.clusters is not None else reference.clusters
    differences = new.values - reference.values
    return AveragedTask(error, _contributions(new, differences, clusters, task))


def average_error(
    tasks: Sequence[AveragedTask], weights: Sequence[float] | None = None
) -> MeanError:
    """The average over a table's tasks, from the mean (or paired difference) of each.

    Tasks that share items are not independent: their covariance is that of these items. The
    degrees of freedom of such tasks are the fewest among them.

    Args:
        tasks: One or more.
        weights: One a task, brought to sum 1; None for equal ones.

    Returns:
        Without a mean where a task has none, without a standard error where a task has none.
    """
    errors = [task.error for task in tasks]
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
    covariances = np.outer(shares, shares) * _covariances(tasks)
    together = _components(covariances != 0)
    parts = np.array([covariances[np.ix_(some, some)].sum() for some in together])
    dfs = np.array([min(errors[k].df for k in some) for some in together])
    variance = float(parts.sum())
    # Errors that cancel leave only rounding.
    if variance <= 1e-26 * float(np.trace(covariances)):
        return MeanError(mean, None, math.nan, n, method, "the errors of the tasks cancel out")
    df = satterthwaite(np.maximum(parts, 0.0), dfs)
    return MeanError(mean, math.sqrt(variance), df, n, method)


def _named(errors: Sequence[MeanError], num_tasks: int) -> str:
    return f"{len(errors)} of {num_tasks} tasks have no standard error: {errors[0].reason}"


def _contributions(
    items: ItemScores,
    values: NDArray[np.float64],
    clusters: NDArray[np.int64] | None,
    task: str,
) -> Contributions | None:
    weights = item_weights(items.strata, items.stratum_weights)
    if items.aggregation != "mean" or weights is None:
        return None
    means = np.bincount(items.strata, values) / np.maximum(np.bincount(items.strata), 1)
    parts = weights * (values - means[items.strata])
    for stratum in np.unique(items.strata):
        inside = items.strata == stratum
        num = inside.sum() if clusters is None else len(np.unique(clusters[inside]))
        parts[inside] *= math.sqrt(num / max(1, num - 1))
    own = task.encode() + b"\0"
    names = [key if b"\0" in key else own + key for key in items.keys.tolist()]
    return Contributions(np.array(names), parts, clusters)


def _covariances(tasks: Sequence[AveragedTask]) -> NDArray[np.float64]:
    """Of the K tasks' means, `[K, K]`."""
    stderrs = [task.error.stderr or 0.0 for task in tasks]
    found = np.diag(np.square(stderrs))
    for k, first in enumerate(tasks):
        for m in range(k):
            covariance = _covariance(first, tasks[m])
            found[k, m] = found[m, k] = covariance
    return found


def _covariance(first: AveragedTask, second: AveragedTask) -> float:
    one, other = first.contributions, second.contributions
    if one is None or other is None:
        return 0.0
    _, left, right = np.intersect1d(one.names, other.names, assume_unique=True, return_indices=True)
    if not len(left):
        return 0.0
    if not one.parts.any() or not other.parts.any():
        # Scores that do not vary do not tell how they would vary together: at most like this.
        return (first.error.stderr or 0.0) * (second.error.stderr or 0.0)
    units = np.arange(len(left))
    if one.units is not None:
        units = np.unique(one.units[left], return_inverse=True)[1]
    elif other.units is not None:
        units = np.unique(other.units[right], return_inverse=True)[1]
    return float(np.bincount(units, one.parts[left]) @ np.bincount(units, other.parts[right]))


def _components(is_linked: NDArray[np.bool_]) -> list[list[int]]:
    """The tasks that hang together, directly or through others."""
    _, component = csgraph.connected_components(csr_array(is_linked), directed=False)
    return [np.flatnonzero(component == one).tolist() for one in np.unique(component)]


def _is_short_of_error(error: MeanError) -> bool:
    return error.mean is not None and error.stderr is None


def _from_limits(error: MeanError, low: float | None, high: float | None) -> MeanError:
    if low is None or high is None:
        return error
    stderr = (high - low) / 2.0 / t_quantile((1.0 + FALLBACK_LEVEL) / 2.0, math.inf)
    return replace(error, stderr=stderr, df=math.inf, reason=None)
