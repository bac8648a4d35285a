"""Paired 0/1 scores: the exact McNemar test and an interval that never contradicts it.

Of n items, b are won (right only in the new model) and c are lost; the others say nothing about a
difference. With p the chance that a discordant item is won and t the share of discordant items,
the difference is d = t (2p - 1). Given b + c, b is binomial: the sign of d rests on p alone, which
is what the test looks at.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Variant = Literal["exact", "mid-p"]

# Halvings of [0, 1]: the width left is below the spacing of float64 next to 1.
HALVINGS = 60
TINY = float(np.finfo(np.float64).tiny)


def mcnemar_p_values(
    num_better: ArrayLike, num_worse: ArrayLike, *, variant: Variant = "exact"
) -> NDArray[np.float64]:
    """Two-sided p-values of McNemar's test; 1 where no item is discordant.

    "exact" doubles the binomial tail; "mid-p" subtracts the probability of what was observed, and
    half of it where both counts are equal (Fagerland, Lydersen and Laake 2013, BMC Medical
    Research Methodology 13:91). Mid-p has more power; its level is nearly kept, not guaranteed.

    Args:
        num_better: `[...]`, items won.
        num_worse: `[...]`, items lost.
        variant: Which of the two.
    """
    better, worse = np.broadcast_arrays(np.asarray(num_better), np.asarray(num_worse))
    total, fewer = better + worse, np.minimum(better, worse)
    # Counts that differ by one at most have both tails at a half or more, without rounding.
    is_even = np.abs(better - worse) <= 1
    exact = np.where(is_even, 1.0, 2.0 * special.bdtr(fewer, total, 0.5))
    if variant == "exact":
        return np.asarray(exact, dtype=np.float64)
    observed = _point_probability(fewer, total)
    return np.where(total == 0, 1.0, exact - np.where(better == worse, 0.5, 1.0) * observed)


def _point_probability(
    num_better: NDArray[np.int64], total: NDArray[np.int64]
) -> NDArray[np.float64]:
    below = np.where(num_better > 0, special.bdtr(num_better - 1, total, 0.5), 0.0)
    return np.asarray(special.bdtr(num_better, total, 0.5) - below)


def exact_intervals(
    num_better: ArrayLike,
    num_worse: ArrayLike,
    n: int,
    *,
    level: float,
    variant: Variant = "exact",
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Limits of d for many pairs of models scored on the same n items.

    p has its Clopper-Pearson limits (mid-p ones with that variant) and t its own; the distances of
    both from their estimates are joined by squaring and adding, the one of t at the limit of
    2p - 1 (MOVER, Zou and Donner 2008, Statistics in Medicine 27:1693, with that change):

        high = d + sqrt((t (e_high - e))^2 + (e_high (t' - t))^2),    e = 2p - 1,

    with t' the upper limit of t for e_high > 0 and the lower one otherwise. So `high` has the sign
    of e_high, which is that of the test, and lies within the product of the two limits, which
    covers at least at `level` but is far too wide. With no discordant item the limits are those of
    t on both sides.

    Args:
        num_better: `[...]`, items won.
        num_worse: `[...]`, items lost.
        n: All items, at least one.
        level: Nominal coverage; an interval excludes 0 exactly when the p-value is below 1 - level.
        variant: The test it agrees with.

    Returns:
        Lower and upper limits, `[...]`, within -1 and 1.
    """
    better, worse = np.broadcast_arrays(
        np.asarray(num_better, dtype=np.int64), np.asarray(num_worse, dtype=np.int64)
    )
    tail = (1.0 - level) / 2.0
    total = better + worse
    share = total / n
    share_low, share_high = _clopper_pearson(total, np.full_like(total, n), tail)
    if variant == "exact":
        won_low, won_high = _clopper_pearson(better, total, tail)
    else:
        won_high = _mid_p_upper(better, total, tail)
        won_low = 1.0 - _mid_p_upper(worse, total, tail)
    excess = np.where(total > 0, (better - worse) / np.maximum(total, 1), 0.0)
    high = _upper(excess, 2.0 * won_high - 1.0, share, share_low, share_high)
    low = -_upper(-excess, 1.0 - 2.0 * won_low, share, share_low, share_high)
    # Rounding must not decide at the edge: the test does.
    is_told = mcnemar_p_values(better, worse, variant=variant) < 1.0 - level
    high = np.where(is_told & (better < worse), np.minimum(high, -TINY), np.maximum(high, 0.0))
    low = np.where(is_told & (better > worse), np.maximum(low, TINY), np.minimum(low, 0.0))
    return low, high


def exact_interval(
    num_better: int, num_worse: int, n: int, *, level: float, variant: Variant = "exact"
) -> tuple[float, float]:
    """Limits of d = P(won) - P(lost) for one pair of models; see `exact_intervals`."""
    low, high = exact_intervals(num_better, num_worse, n, level=level, variant=variant)
    return float(low), float(high)


def _upper(
    excess: NDArray[np.float64],
    excess_high: NDArray[np.float64],
    share: NDArray[np.float64],
    share_low: NDArray[np.float64],
    share_high: NDArray[np.float64],
) -> NDArray[np.float64]:
    limit = np.where(excess_high > 0, share_high, share_low)
    distance = np.hypot(share * (excess_high - excess), excess_high * (limit - share))
    return np.asarray(share * excess + distance)


def _clopper_pearson(
    num: NDArray[np.int64], total: NDArray[np.int64], tail: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low = special.betaincinv(np.maximum(num, 1), np.maximum(total - num, 0) + 1, tail)
    high = special.betaincinv(num + 1, np.maximum(total - num, 1), 1.0 - tail)
    return np.where(num == 0, 0.0, low), np.where(num == total, 1.0, high)


def _mid_p_upper(
    num: NDArray[np.int64], total: NDArray[np.int64], tail: float
) -> NDArray[np.float64]:
    """Where the tail up to `num`, with half of its last term, has shrunk to `tail`."""
    low, high = np.zeros(num.shape), np.ones(num.shape)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        below = np.where(num > 0, special.bdtr(np.maximum(num - 1, 0), total, middle), 0.0)
        is_left = (below + special.bdtr(num, total, middle)) / 2.0 > tail
        low, high = np.where(is_left, middle, low), np.where(is_left, high, middle)
    return np.where(num == total, 1.0, high)
