"""Bootstrap resamples as counts: how often each item is drawn.

One matrix a task serves all models and all pairs of them, so that every comparison sees the same
resamples. A statistic that is made of sums over items is a matrix product.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from suite.records import Estimate
from suite.stats.intervals import Tested

Counts = NDArray[np.uint8]

NUM_RESAMPLES = 10_000
SEED = 0
# Numbers of a block of the matrix: as 8-byte ones 1.6 MB, which a processor keeps at hand.
BLOCK_NUMBERS = 200_000
# Replicates that are equal but for rounding.
SAME = 1e-13


def resample_counts(
    n: int,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
    clusters: NDArray[np.int64] | None = None,
    strata: NDArray[np.int64] | None = None,
) -> Counts:
    """How often each of n items is drawn, with replacement, in each resample.

    Args:
        n: Items, at least one.
        num_resamples: R.
        seed: The same numbers for the same seed.
        clusters: `[n]`; whole clusters are drawn instead of items.
        strata: `[n]`; every stratum keeps its number of items, or of clusters. Clusters that reach
            over strata are drawn from all.

    Returns:
        `[R, n]`, one byte a number: 10,000 resamples of 10,000 items take 100 MB.
    """
    rng = np.random.default_rng(seed)
    units = np.arange(n)
    if clusters is not None:
        units = np.unique(clusters, return_inverse=True)[1]
        strata = None if strata is not None and reach_over(clusters, strata) else strata
    if strata is None:
        strata = np.zeros(n, dtype=np.int64)
    # One stratum without clusters, the usual case, needs no copy.
    if clusters is None and bool((strata == strata[0]).all()):
        return _draw(n, num_resamples, rng)
    counts = np.empty((num_resamples, n), dtype=np.uint8)
    for stratum in np.unique(strata):
        inside = np.flatnonzero(strata == stratum)
        own, members = np.unique(units[inside], return_inverse=True)
        counts[:, inside] = _draw(len(own), num_resamples, rng)[:, members]
    return counts


def reach_over(clusters: NDArray[np.int64], strata: NDArray[np.int64]) -> bool:
    """Whether a cluster has items of several strata; both `[n]`."""
    pairs = np.unique(np.stack([clusters, strata]), axis=1)
    return bool(pairs.shape[1] > len(np.unique(clusters)))


def _draw(n: int, num_resamples: int, rng: np.random.Generator) -> Counts:
    # One byte will do: 256 draws of one item have a probability below 1e-500.
    counts = np.empty((num_resamples, n), dtype=np.uint8)
    block = max(1, BLOCK_NUMBERS // n)
    for start in range(0, num_resamples, block):
        rows = min(block, num_resamples - start)
        drawn = rng.integers(0, n, size=(rows, n)) + np.arange(rows)[:, None] * n
        counts[start : start + rows] = np.bincount(drawn.ravel(), minlength=rows * n).reshape(
            rows, n
        )
    return counts


def resampled_sums(counts: Counts, columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over the drawn items, in blocks so that no float copy of all counts is made.

    Args:
        counts: `[R, n]`.
        columns: `[n, k]`, one column for each quantity to be summed.

    Returns:
        `[R, k]`.
    """
    sums = np.empty((len(counts), columns.shape[1]))
    block = max(1, BLOCK_NUMBERS // max(1, counts.shape[1]))
    for start in range(0, len(counts), block):
        sums[start : start + block] = counts[start : start + block].astype(np.float64) @ columns
    return sums


def resampled_means(
    counts: Counts,
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    strata: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """The weighted mean in every resample, `[R]`; NaN where nothing of weight was drawn.

    A stratum keeps its weight however many items its drawn clusters hold.

    Args:
        counts: `[R, n]`.
        values: `[n]`.
        weights: `[n]`, not all 0.
        strata: `[n]`; None for a single one.
    """
    if strata is None or bool((strata == strata[0]).all()):
        sums = resampled_sums(counts, np.stack([weights * values, weights], axis=1))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(sums[:, 0] / sums[:, 1])
    total = np.zeros(len(counts))
    for stratum in np.unique(strata[weights > 0]):
        inside = np.flatnonzero(strata == stratum)
        means = resampled_means(counts[:, inside], values[inside], weights[inside])
        total += weights[inside].sum() / weights.sum() * means
    return total


def bootstrap_p_value(replicates: NDArray[np.float64]) -> float:
    """Two-sided: twice the smaller share of replicates at or beyond 0, each count raised by one.

    Never 0, and below 1 - level exactly when `percentile_limits` exclude 0.
    """
    below = int(np.count_nonzero(replicates <= 0)) + 1
    above = int(np.count_nonzero(replicates >= 0)) + 1
    return min(1.0, 2.0 * min(below, above) / (len(replicates) + 1))


def percentile_limits(replicates: NDArray[np.float64], level: float) -> tuple[float, float] | None:
    """The order statistics that leave half of 1 - level outside on each side.

    None where there are too few resamples for the level.
    """
    num = len(replicates)
    # The largest count of replicates on the wrong side of 0 with which the p-value is below 1 -
    # level; found by the same comparison, so that rounding cannot part the two.
    alpha = 1.0 - level
    outside = math.ceil(alpha / 2.0 * (num + 1)) + 1
    while outside >= 0 and not 2.0 * (outside + 1) / (num + 1) < alpha:
        outside -= 1
    if outside < 0:
        return None
    ordered = np.partition(replicates, (outside, num - 1 - outside))
    return float(ordered[outside]), float(ordered[num - 1 - outside])


def judge_replicates(
    replicates: NDArray[np.float64], value: float, level: float, n: int, method: str
) -> Tested:
    """Percentile interval and p-value of a statistic from its replicates.

    Args:
        replicates: `[R]`.
        value: The statistic of the sample itself.
        level: Nominal coverage.
        n: Units that were drawn.
        method: What the estimate says about itself.

    Returns:
        Neither interval nor p-value, but a reason, where a replicate is undefined, all are equal,
        or there are too few for the level.
    """
    reason, limits = None, None
    if not np.isfinite(replicates).all():
        reason = "some resamples have no value"
    elif np.ptp(replicates) <= SAME * max(abs(value), float(np.abs(replicates).max())):
        reason = "all resamples give the same value"
    else:
        limits = percentile_limits(replicates, level)
        if limits is None:
            reason = f"{len(replicates):,} resamples are too few for a level of {level:.10g}"
    if limits is None:
        return Tested(Estimate(value, None, None, level, n, method, reason), None)
    difference = Estimate(value, limits[0], limits[1], level, n, method)
    return Tested(difference, bootstrap_p_value(replicates))


def bca_limits(
    replicates: NDArray[np.float64], value: float, skewness: float, level: float
) -> tuple[float, float] | None:
    """Bias-corrected and accelerated limits (Efron 1987, JASA 82:171).

    Args:
        replicates: `[R]`.
        value: The statistic of the sample itself.
        skewness: a, a sixth of the skewness of the statistic's jackknife values.
        level: Nominal coverage.

    Returns:
        None where the value lies outside all replicates, or the limits do.
    """
    num = len(replicates)
    below = (np.count_nonzero(replicates < value) + np.count_nonzero(replicates <= value)) / 2
    if not 0 < below < num:
        return None
    bias = special.ndtri(below / num)
    limits = []
    for share in ((1.0 - level) / 2.0, (1.0 + level) / 2.0):
        moved = bias + special.ndtri(share)
        place = float(special.ndtr(bias + moved / (1.0 - skewness * moved)))
        if not 1.0 / (num + 1) <= place <= num / (num + 1):
            return None
        limits.append(float(np.quantile(replicates, place, method="weibull")))
    return limits[0], limits[1]
