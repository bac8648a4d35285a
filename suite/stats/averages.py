"""Means over strata: the single tasks of a group.

Strata are fixed, not drawn: only the items within them vary, so SE^2 = sum of w^2 SE^2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from suite.errors import NotComparableError
from suite.results.item_scores import ItemScores
from suite.stats.intervals import (
    MIN_CLUSTERS,
    MeanError,
    clustered_error,
    clustered_residuals_error,
    mean_error,
    too_few,
    why_unusable,
)
from suite.stats.ratio import linearised, why_no_ratio
from suite.stats.resamples import reach_over

# Weights of items that are equal but for the rounding of 1 / n.
SAME_WEIGHT = 1e-9
LINEARISED = "linearised t"


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

    One stratum gives the plain mean. Clusters lie within strata, so each stratum's own give its
    error, and one with too few of them leaves the whole without. Clusters that reach over strata
    are pooled: the residuals from the strata's own means are summed within each.

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
    if clusters is not None and reach_over(clusters, strata):
        means = np.bincount(strata, values) / np.maximum(np.bincount(strata), 1)
        residuals = weights * (values - means[strata])
        return clustered_residuals_error(float(weights @ values), residuals, clusters)
    errors = [
        _stratum_error(values[inside], None if clusters is None else clusters[inside])
        for inside in (strata == stratum for stratum in used)
    ]
    return _sum_of(errors, stratum_weights[used], is_clustered=clusters is not None)


def has_few_clusters(
    strata: NDArray[np.int64], clusters: NDArray[np.int64] | None, stratum_weights: ArrayLike
) -> bool:
    """Whether a stratum that counts has clusters of several items, yet fewer than `MIN_CLUSTERS`.

    Clusters that reach over strata are counted together.
    """
    if clusters is None or len(clusters) == 0:
        return False
    if reach_over(clusters, strata):
        return len(np.unique(clusters)) < MIN_CLUSTERS
    used = np.flatnonzero(np.asarray(stratum_weights) > 0)
    own = [clusters[strata == stratum] for stratum in used]
    return any(len(np.unique(one)) < min(MIN_CLUSTERS, len(one)) for one in own)


def _stratum_error(values: NDArray[np.float64], clusters: NDArray[np.int64] | None) -> MeanError:
    # A group has clusters where one of its tasks has; the others' items stand for themselves.
    if clusters is None or len(np.unique(clusters)) == len(values):
        return mean_error(values)
    return clustered_error(values, clusters)


def _sum_of(
    errors: Sequence[MeanError], weights: NDArray[np.float64], *, is_clustered: bool
) -> MeanError:
    """Weighted sum of independent means; a stratum that does not vary adds no error."""
    n = sum(error.n for error in errors)
    method = f"stratified t ({len(errors)} single tasks)"
    if is_clustered:
        method = f"clustered t ({n:,} clusters in {len(errors)} single tasks)"
    mean = float(
        sum(w * e.mean for w, e in zip(weights, errors, strict=True) if e.mean is not None)
    )
    few = [e for e in errors if e.stderr is None and e.method != "t" and e.n < MIN_CLUSTERS]
    single = [e for e in errors if e.n == 1 and e.method == "t"]
    reason = None
    if few:
        reason = f"in {len(few)} of {len(errors)} single tasks {few[0].reason}"
    elif all(error.stderr is None for error in errors):
        reason = "no single task has any variance"
    elif single:
        found = "1 single task has" if len(single) == 1 else f"{len(single)} single tasks have"
        reason = f"{found} only one item"
    if reason:
        return MeanError(mean, None, math.nan, n, method, reason)
    parts = np.array([(w * (e.stderr or 0.0)) ** 2 for w, e in zip(weights, errors, strict=True)])
    dfs = np.array([e.df if e.stderr is not None else math.inf for e in errors])
    return MeanError(mean, math.sqrt(parts.sum()), satterthwaite(parts, dfs), n, method)


def satterthwaite(variances: NDArray[np.float64], dfs: NDArray[np.float64]) -> float:
    """Degrees of freedom of a sum of independent variances (Satterthwaite 1946), each with its own.

    Infinite ones count as known.
    """
    uncertain = float((variances**2 / dfs).sum())
    return float(variances.sum()) ** 2 / uncertain if uncertain > 0 else math.inf


def is_plain_binary(items: ItemScores) -> bool:
    """Whether the score is a share of independent items that all count the same."""
    if items.clusters is not None or not items.is_binary:
        return False
    weights = item_weights(items.strata, items.stratum_weights)
    return len(items) == 0 or (weights is not None and has_equal_weights(weights))


def items_error(items: ItemScores) -> MeanError:
    """A score with its standard error.

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
