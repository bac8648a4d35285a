"""How often intervals hold the truth: by enumeration where that is possible, else simulated."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from suite.stats.intervals import mean_interval, wilson_interval
from suite.stats.resamples import percentile_limits, resample_counts, resampled_sums

NUM_DATA_SETS = 2_000


def wilson_coverage(n: int, p: float, level: float) -> float:
    """Probability that the Wilson interval of n items holds the true share p, by enumeration."""
    covered = 0.0
    for num_correct, probability in enumerate(stats.binom.pmf(np.arange(n + 1), n, p)):
        interval = wilson_interval(num_correct, n, level=level)
        if interval.low is not None and interval.high is not None:
            covered += float(probability) * (interval.low <= p <= interval.high)
    return covered


def simulate_coverage(
    kind: Literal["t", "bootstrap"],
    n: int,
    p: float,
    *,
    level: float = 0.95,
    num_data_sets: int = NUM_DATA_SETS,
    num_resamples: int = 2_000,
    seed: int = 0,
) -> float:
    """Share of simulated data sets of n 0/1 items whose interval holds their true mean p.

    A data set without an interval (all items alike) counts as a miss. The bootstrap uses one matrix
    of resamples for all data sets, as a table does for all models of a task.
    """
    values = (np.random.default_rng(seed).random((num_data_sets, n)) < p).astype(np.float64)
    limits = (
        _t_limits(values, level)
        if kind == "t"
        else _bootstrap_limits(values, level, num_resamples, seed + 1)
    )
    return float(((limits[0] <= p) & (p <= limits[1])).mean())


def _t_limits(values: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """`[2, sets]`, NaN without an interval; equal totals share one interval."""
    totals = values.sum(axis=1).astype(np.int64)
    limits = np.full((2, values.shape[1] + 1), np.nan)
    for total, first in zip(*np.unique(totals, return_index=True), strict=True):
        interval = mean_interval(values[first], level=level)
        if interval.low is not None and interval.high is not None:
            limits[:, total] = interval.low, interval.high
    return limits[:, totals]


def _bootstrap_limits(
    values: NDArray[np.float64], level: float, num_resamples: int, seed: int
) -> NDArray[np.float64]:
    n = values.shape[1]
    means = resampled_sums(resample_counts(n, num_resamples, seed), values.T) / n
    limits = [percentile_limits(replicates, level) for replicates in means.T]
    return np.array([found or (np.nan, np.nan) for found in limits]).T
