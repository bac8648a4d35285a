"""Tests of two models on the same items.

Each takes the items' differences, new - reference, and returns a two-sided p-value.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from suite.records import Estimate
from suite.stats.averages import has_few_clusters
from suite.stats.discordant import Variant, mcnemar_p_values
from suite.stats.intervals import (
    MIN_CLUSTERS,
    Tested,
    clustered_error,
    is_constant,
    mean_error,
    too_few,
    why_unusable,
)
from suite.stats.resamples import (
    BLOCK_NUMBERS,
    NUM_RESAMPLES,
    SEED,
    Counts,
    bca_limits,
    judge_replicates,
    resampled_means,
)

# Up to so many independent signs all combinations are gone through: 16,384.
MAX_ENUMERATED = 14
# Sums that are equal but for rounding, relative to their terms.
TIE = 1e-12


def mcnemar(num_better: int, num_worse: int, *, variant: Variant = "exact") -> float:
    """Two-sided p-value of McNemar's test; see `mcnemar_p_values`."""
    return float(mcnemar_p_values(num_better, num_worse, variant=variant))


def paired_t(
    differences: ArrayLike, *, level: float = 0.95, clusters: ArrayLike | None = None
) -> Tested:
    """The paired t test, with cluster-robust standard error where items share `clusters`.

    Args:
        differences: `[n]`, new - reference.
        level: Nominal coverage of the interval.
        clusters: `[n]`.
    """
    error = mean_error(differences) if clusters is None else clustered_error(differences, clusters)
    return Tested(error.estimate(level), error.p_value())


def sign_flip(
    differences: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    num_flips: int = NUM_RESAMPLES,
    seed: int = SEED,
) -> float:
    """Permutation test that the differences are symmetric about 0, by their sum.

    Exact (all 2^m sign patterns) up to `MAX_ENUMERATED` differences that are not 0, else
    (k + 1) / (R + 1) for k of R random patterns at least as extreme. 1 where all differences are 0.

    Args:
        differences: `[n]`, new - reference, times the items' weights where these differ.
        clusters: `[n]`; the items of a cluster change sign together.
        num_flips: R.
        seed: Of the random patterns.
    """
    units = np.asarray(differences, dtype=np.float64)
    if clusters is not None:
        _, members = np.unique(np.asarray(clusters), return_inverse=True)
        units = np.asarray(np.bincount(members, units), dtype=np.float64)
    units = units[units != 0]
    num = len(units)
    reached = abs(units.sum()) - TIE * np.abs(units).sum()
    if num <= MAX_ENUMERATED:
        every = (np.arange(2**num)[:, None] >> np.arange(num)) & 1
        return float((np.abs(_flipped_sums(every, units)) >= reached).mean())
    rng = np.random.default_rng(seed)
    block, extreme = max(1, BLOCK_NUMBERS // num), 0
    for start in range(0, num_flips, block):
        rows = min(block, num_flips - start)
        packed = rng.integers(0, 256, size=(rows, -(-num // 8)), dtype=np.uint8)
        patterns = np.unpackbits(packed, axis=1)[:, :num]
        extreme += int(np.count_nonzero(np.abs(_flipped_sums(patterns, units)) >= reached))
    return (extreme + 1) / (num_flips + 1)


def _flipped_sums(patterns: NDArray[Any], units: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums with the signs of 1s turned; `patterns` is `[rows, m]` of 0 and 1."""
    return np.asarray(units.sum() - 2.0 * (patterns.astype(np.float64) @ units))


def paired_bootstrap(
    differences: ArrayLike,
    counts: Counts,
    *,
    weights: NDArray[np.float64] | None = None,
    clusters: NDArray[np.int64] | None = None,
    strata: NDArray[np.int64] | None = None,
    level: float = 0.95,
    limits: Literal["percentile", "bca"] = "percentile",
) -> Tested:
    """Bootstrap of the mean difference over resampled items, drawn once for both models.

    Args:
        differences: `[n]`, new - reference.
        counts: `[R, n]` of `resample_counts`, with the same clusters and strata.
        weights: `[n]`, what each item counts in the mean; None for equal ones.
        clusters: `[n]`, what was drawn in place of items.
        strata: `[n]`, within which the mean is taken before the weights join them.
        level: Nominal coverage.
        limits: "percentile" agrees with the p-value; "bca" corrects for bias and skewness and has
            no p-value.

    Returns:
        No interval and no p-value below `MIN_CLUSTERS` items, or clusters of a stratum, or where
        all differences are equal.
    """
    items = np.asarray(differences, dtype=np.float64)
    shares = np.ones(len(items)) if weights is None else weights
    units, unit = np.arange(len(items)), "item"
    if clusters is not None:
        units, unit = np.unique(np.asarray(clusters), return_inverse=True)[1], "cluster"
    n = int(units.max()) + 1 if len(items) else 0
    kind = "bootstrap" if limits == "percentile" else "BCa bootstrap"
    method = f"{kind} over {unit}s ({len(counts):,} resamples)"
    empty = Estimate(None, None, None, level, n, method)
    reason = why_unusable(items) or ("the weights sum to 0" if not shares.sum() > 0 else None)
    if reason:
        return Tested(replace(empty, reason=reason), None)
    value = float(items @ shares / shares.sum())
    if n < MIN_CLUSTERS or is_constant(items):
        reason = too_few(n, unit) if n < MIN_CLUSTERS else f"all {len(items):,} values are equal"
        return Tested(replace(empty, value=value, reason=reason), None)
    strata = np.zeros(len(items), dtype=np.int64) if strata is None else strata
    if has_few_clusters(strata, clusters, np.bincount(strata, shares)):
        reason = "a single task has too few clusters for an interval: at least "
        return Tested(
            replace(empty, value=value, reason=f"{reason}{MIN_CLUSTERS} are needed"), None
        )
    replicates = resampled_means(counts, items, shares, strata)
    # A mean that is 0 but for rounding speaks for neither model.
    replicates[np.abs(replicates) <= TIE * np.abs(items).max()] = 0.0
    if limits == "bca":
        totals = np.maximum(np.bincount(strata, shares), np.finfo(float).tiny)
        middles = np.bincount(strata, shares * items) / totals
        influence = np.asarray(np.bincount(units, shares * (items - middles[strata])), np.float64)
        return Tested(_bca(replicates, influence, replace(empty, value=value)), None)
    return judge_replicates(replicates, value, level, n, method)


def _bca(
    replicates: NDArray[np.float64], influence: NDArray[np.float64], empty: Estimate
) -> Estimate:
    """`empty` with its limits; `influence` is what each unit adds to the statistic's error."""
    skewness = float((influence**3).sum() / (6.0 * (influence**2).sum() ** 1.5))
    found = bca_limits(replicates, float(empty.value or 0.0), skewness, empty.level)
    if found is None:
        reason = f"{len(replicates):,} resamples are too few for a level of {empty.level:.10g}"
        return replace(empty, reason=reason)
    return replace(empty, low=found[0], high=found[1])
