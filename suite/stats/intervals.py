"""Means with their standard errors, and intervals of proportions and means.

An estimate that items do not allow is None and says why; no number stands for a missing one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from suite.records import Estimate

# A variance between fewer clusters is itself known too badly (Cameron and Miller 2015, J. Human
# Resources 50:317, call five to thirty "few"); the same holds for documents of a bootstrap.
MIN_CLUSTERS = 10


@dataclass(frozen=True)
class MeanError:
    """A mean (or what behaves like one) with its standard error.

    Attributes:
        mean: In the metric's unit; None where it is undefined.
        stderr: Positive; None where the items do not tell it.
        df: Degrees of freedom of the standard error; infinite where it counts as known.
        n: Independent units behind it.
        method: How the standard error was computed.
        reason: Why `mean` or `stderr` is None, one sentence.
    """

    mean: float | None
    stderr: float | None
    df: float
    n: int
    method: str
    reason: str | None = None

    def estimate(self, level: float) -> Estimate:
        """The mean with its t interval."""
        if self.mean is None or self.stderr is None:
            return Estimate(self.mean, None, None, level, self.n, self.method, self.reason)
        distance = t_quantile((1.0 + level) / 2.0, self.df) * self.stderr
        low, high = self.mean - distance, self.mean + distance
        return Estimate(self.mean, low, high, level, self.n, self.method)

    def p_value(self) -> float | None:
        """Two-sided, of a true mean of 0; None without a standard error."""
        if self.mean is None or self.stderr is None:
            return None
        tail = -abs(self.mean / self.stderr)
        below = special.ndtr(tail) if math.isinf(self.df) else special.stdtr(self.df, tail)
        return float(2.0 * below)


@dataclass(frozen=True)
class Tested:
    """A difference with its interval and the two-sided p-value of no difference."""

    difference: Estimate
    p_value: float | None


def t_quantile(share: float, df: float) -> float:
    """Below which a t variable lies with probability `share`; the normal one for infinite `df`."""
    return float(special.ndtri(share) if math.isinf(df) else special.stdtrit(df, share))


def wilson_interval(num_correct: int, n: int, *, level: float = 0.95) -> Estimate:
    """The share of items that are right, with its score interval (Wilson 1927).

    It stays within [0, 1] and says something at 0 of n and n of n as well.
    """
    if n == 0:
        return Estimate(None, None, None, level, 0, "Wilson", "there are no items")
    z2 = t_quantile((1.0 + level) / 2.0, math.inf) ** 2
    share = num_correct / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    distance = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At the edges centre and distance are equal; rounding must not push a limit past the value.
    low = 0.0 if num_correct == 0 else max(0.0, centre - distance)
    high = 1.0 if num_correct == n else min(1.0, centre + distance)
    return Estimate(share, low, high, level, n, "Wilson")


def mean_interval(values: ArrayLike, *, level: float = 0.95) -> Estimate:
    """The mean of `values` `[n]` with its t interval."""
    return mean_error(values).estimate(level)


def clustered_interval(values: ArrayLike, clusters: ArrayLike, *, level: float = 0.95) -> Estimate:
    """The mean of `values` `[n]` with an interval that allows for items sharing a cluster.

    Also for the differences of paired items, whose clusters are those of the items.

    Args:
        values: `[n]`.
        clusters: `[n]`, equal for items that share a text.
        level: Nominal coverage.
    """
    return clustered_error(values, clusters).estimate(level)


def mean_error(values: ArrayLike) -> MeanError:
    """Mean of independent `values` `[n]`; its variance divides by n - 1."""
    items = np.asarray(values, dtype=np.float64)
    n, method = len(items), "t"
    unusable = why_unusable(items)
    if unusable:
        return MeanError(None, None, math.nan, n, method, unusable)
    mean = float(items.mean())
    if n == 1:
        return MeanError(mean, None, math.nan, n, method, "one item has no variance")
    if is_constant(items):
        return MeanError(mean, None, math.nan, n, method, f"all {n:,} values are equal")
    return MeanError(mean, float(items.std(ddof=1)) / math.sqrt(n), n - 1.0, n, method)


def clustered_error(values: ArrayLike, clusters: ArrayLike) -> MeanError:
    """Mean of `values` `[n]` whose errors are independent only between `clusters` `[n]`."""
    items = np.asarray(values, dtype=np.float64)
    unusable = why_unusable(items)
    if unusable:
        return MeanError(None, None, math.nan, 0, "clustered t", unusable)
    mean = float(items.mean())
    return clustered_residuals_error(mean, (items - mean) / len(items), clusters)


def clustered_residuals_error(
    mean: float, residuals: NDArray[np.float64], clusters: ArrayLike
) -> MeanError:
    """Standard error of a mean from what each item adds to its error.

    With e the residuals (for a plain mean of n items the distances from it, over n) and C clusters,

        SE^2 = C / (C - 1) sum over clusters (sum of the cluster's e)^2,

    judged by t with C - 1 degrees of freedom (Miller 2024, arXiv 2411.00640, with the correction
    for few clusters; Liang and Zeger 1986). Below `MIN_CLUSTERS` there is no standard error.

    Args:
        mean: The mean itself.
        residuals: `[n]`.
        clusters: `[n]`, equal within a cluster.
    """
    _, members = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(members, residuals)
    num = len(sums)
    method = f"clustered t ({num:,} {'cluster' if num == 1 else 'clusters'})"
    if num < MIN_CLUSTERS:
        return MeanError(mean, None, math.nan, num, method, too_few(num, "cluster"))
    stderr = math.sqrt(num / (num - 1) * float(sums @ sums))
    # Residuals that cancel within every cluster leave only rounding.
    if stderr <= 1e-13 * (abs(mean) + float(np.abs(residuals).sum())):
        reason = f"the {num:,} clusters do not differ"
        return MeanError(mean, None, math.nan, num, method, reason)
    return MeanError(mean, stderr, num - 1.0, num, method)


def too_few(num: int, unit: str) -> str:
    """Why so few clusters or documents have no interval."""
    found = f"1 {unit} is" if num == 1 else f"{num} {unit}s are"
    return f"{found} too few for an interval: at least {MIN_CLUSTERS} are needed"


def why_unusable(values: NDArray[np.float64]) -> str | None:
    """Why there is not even a mean: no items, or items without a number."""
    if len(values) == 0:
        return "there are no items"
    num_missing = int(np.count_nonzero(~np.isfinite(values)))
    if num_missing:
        return f"no finite number for {num_missing:,} of {len(values):,} items"
    return None


def is_constant(values: NDArray[np.float64]) -> bool:
    """Whether the values are equal but for rounding."""
    return bool(np.ptp(values) <= 1e-14 * np.abs(values).max())
