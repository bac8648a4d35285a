"""Spearman's rank correlation of two models' scores, with bootstrap intervals over items.

Legend: n items, K options of an item, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from suite.records import Estimate

Floats = NDArray[np.float64]

_NUM_RESAMPLES = 1000
_LEAST_ITEMS = 10
_METHOD = "percentile bootstrap over items"


def spearman(first: Floats, second: Floats) -> Floats:
    """Spearman's correlation along the last axis; ties get their mean rank.

    Args:
        first: [..., n].
        second: [..., n].

    Returns:
        [...], NaN where one side's values are all equal, or there are fewer than two.
    """
    if first.shape[-1] < 2:
        return np.full(first.shape[:-1], np.nan)
    one, other = (rankdata(values, axis=-1) for values in (first, second))
    one, other = (ranks - ranks.mean(axis=-1, keepdims=True) for ranks in (one, other))
    norm = np.sqrt((one**2).sum(axis=-1) * (other**2).sum(axis=-1))
    with np.errstate(invalid="ignore"):
        found: Floats = np.where(norm > 0, (one * other).sum(axis=-1) / norm, np.nan)
    # Ranks of thousands of items round to a little more than 1.
    return np.clip(found, -1.0, 1.0)


def within_items(first: Sequence[Floats], second: Sequence[Floats]) -> Floats:
    """Spearman's correlation of the options' scores of each item.

    Args:
        first: One array of K options an item; K may differ from item to item.
        second: The same items and options.

    Returns:
        [n], NaN where an item's options are all equal for one side, or it has fewer than two.
    """
    found = np.full(len(first), np.nan)
    sizes = np.array([len(options) for options in first], dtype=np.int64)
    for size in np.unique(sizes):
        index = np.flatnonzero(sizes == size)
        one, other = (
            np.stack([side[place] for place in index.tolist()]) for side in (first, second)
        )
        found[index] = spearman(one, other)
    return found


def mean_within_items(
    first: Sequence[Floats], second: Sequence[Floats], *, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Mean over items of `within_items`, with a percentile bootstrap interval over items.

    Items for which it is not defined are left out. None without any; no interval below ten.
    """
    values = within_items(first, second)
    values = values[~np.isnan(values)]
    if not len(values):
        return _undefined("no item has options that both models order", level, _METHOD)
    replicates = None
    if len(values) >= _LEAST_ITEMS:
        replicates = values[_draws(len(values), seed)].mean(axis=1)
    return _estimate(float(values.mean()), replicates, len(values), level)


def mean_over_strata(
    strata: Sequence[tuple[Floats, Floats]], *, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Spearman's correlation over the items of each stratum, mean over strata.

    Items are drawn within their stratum, so that differences between tasks are no correlation. A
    stratum without a correlation is left out; no interval where one has fewer than ten items.

    Args:
        strata: Both models' scores of a stratum's items, [n] each.
        level: Of the interval.
        seed: Of the draws.
    """
    values = [float(spearman(*pair)) for pair in strata]
    kept = [pair for pair, value in zip(strata, values, strict=True) if not np.isnan(value)]
    if not kept:
        return _undefined("one model gives every item the same score", level, _METHOD)
    value = float(np.mean([value for value in values if not np.isnan(value)]))
    replicates = None
    if min(len(first) for first, _ in kept) >= _LEAST_ITEMS:
        replicates = np.mean(
            [_replicates(*pair, seed=seed + number) for number, pair in enumerate(kept)], axis=0
        )
    return _estimate(value, replicates, sum(len(first) for first, _ in kept), level)


def _undefined(reason: str, level: float, method: str) -> Estimate:
    """No value, and why."""
    return Estimate(None, None, None, level, 0, method, reason)


def _estimate(value: float, replicates: Floats | None, n: int, level: float) -> Estimate:
    if replicates is None:
        return Estimate(
            value, None, None, level, n, _METHOD, f"fewer than {_LEAST_ITEMS} items, no interval"
        )
    usable = replicates[~np.isnan(replicates)]
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), level, n, _METHOD)


def _replicates(first: Floats, second: Floats, *, seed: int) -> Floats:
    index = _draws(len(first), seed)
    return spearman(first[index], second[index])


def _draws(n: int, seed: int) -> NDArray[np.int64]:
    """Which items each resample holds, [R, n]."""
    return np.random.default_rng(seed).integers(0, n, (_NUM_RESAMPLES, n))
