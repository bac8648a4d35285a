"""How often intervals hold the truth: by enumeration where there are few cases, else simulated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.stats import binom

from suite.records import Estimate
from suite.results.item_scores import ItemScores
from suite.stats.coverage import simulate_coverage, wilson_coverage
from suite.stats.discordant import exact_intervals
from suite.stats.intervals import wilson_interval
from suite.stats.ratio import ratio_interval
from suite.stats.resamples import resample_counts

LEVEL = 0.95
ENUMERATED = "enumeration"
_NORMAL_95 = 1.959963984540054
_SHARES = (0.1, 0.3, 0.5, 0.9)
_WITHIN = 0.02
_LEAST_WILSON = 0.92


@dataclass(frozen=True)
class Effort:
    """How much is simulated.

    Attributes:
        data_sets: For the coverage of an interval.
        resamples: Of a bootstrap.
        histories: Of checkpoints under a gate.
    """

    data_sets: int = 2_000
    resamples: int = 2_000
    histories: int = 2_000


QUICK = Effort(data_sets=200, resamples=400, histories=200)


@dataclass(frozen=True)
class CoverageRow:
    """How often an interval of nominal coverage 0.95 holds the true value.

    Attributes:
        interval: Its name.
        n: Items.
        truth: What is estimated, in words.
        found_by: `enumeration`, or so many simulated data sets.
        coverage: Share of cases.
        low: Lower 95 % limit of the coverage; itself where it is enumerated.
        high: Upper 95 % limit.
        least: Where the coverage must not be below; None for no demand.
        most: Where it must not be above.
    """

    interval: str
    n: int
    truth: str
    found_by: str
    coverage: float
    low: float
    high: float
    least: float | None = None
    most: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the coverage is what is demanded; None without a demand."""
        if self.least is None:
            return None
        return self.least <= self.coverage <= (1.0 if self.most is None else self.most)


def coverage_rows(effort: Effort, seed: int = 0) -> Iterator[CoverageRow]:
    """All rows, one at a time."""
    rng = np.random.default_rng(seed)
    for n in (50, 200, 1000):
        for share in (0.02, 0.5, 0.98):
            yield _enumerated("Wilson", n, share, wilson_coverage(n, share, LEVEL), _LEAST_WILSON)
            yield _enumerated("normal, for comparison", n, share, _normal(n, share), None)
    resamples = f"{effort.resamples:,} resamples"
    for n in (500, 1000):
        for share in _SHARES:
            yield _simulated_mean("t", "t", n, share, effort)
    for n in (200, 500):
        for share in _SHARES:
            yield _simulated_mean(
                "bootstrap", f"percentile bootstrap, {resamples}", n, share, effort
            )
    for n in (200, 500):
        yield _simulated_ratio(n, effort, rng)
    for n in (200, 1000):
        for discordant, difference in ((0.1, 0.0), (0.1, 0.05), (0.3, 0.0), (0.3, -0.1)):
            yield _simulated_paired(n, discordant, difference, effort, rng)


def _enumerated(
    name: str, n: int, share: float, coverage: float, least: float | None
) -> CoverageRow:
    return CoverageRow(name, n, f"p = {share:g}", ENUMERATED, coverage, coverage, coverage, least)


def _normal(n: int, share: float) -> float:
    """Probability that the textbook interval holds the true share."""
    numbers = np.arange(n + 1)
    found = numbers / n
    distance = _NORMAL_95 * np.sqrt(found * (1 - found) / n)
    holds = np.abs(found - share) <= distance
    return float(binom.pmf(numbers, n, share)[holds].sum())


def _simulated_mean(
    kind: Literal["t", "bootstrap"], name: str, n: int, share: float, effort: Effort
) -> CoverageRow:
    coverage = simulate_coverage(
        kind, n, share, num_data_sets=effort.data_sets, num_resamples=effort.resamples
    )
    return _simulated(name, n, f"p = {share:g}", round(coverage * effort.data_sets), effort)


def _simulated_ratio(n: int, effort: Effort, rng: np.random.Generator) -> CoverageRow:
    """Bits per byte of documents whose lengths differ, long ones being easier."""
    mean_log, spread, slope, level = 6.0, 0.7, -0.1, 1.6
    # The truth is E[w (level + slope ln w)] / E[w] for a log-normal length w.
    truth = level + slope * (mean_log + spread**2)
    keys = np.array([f"{number:06d}".encode() for number in range(n)])
    counts = resample_counts(n, effort.resamples)
    covered = 0
    for _ in range(effort.data_sets):
        logs = rng.normal(mean_log, spread, n)
        weights = np.exp(logs)
        bits = level + slope * logs + rng.normal(0.0, 0.15, n)
        items = ItemScores(
            keys=keys,
            values=-bits * weights * math.log(2),
            aggregation="bits_per_byte",
            higher_is_better=False,
            strata=np.zeros(n, np.int64),
            stratum_weights=np.ones(1),
            weights=weights,
        )
        covered += _holds(ratio_interval(items, counts, level=LEVEL), truth)
    name = f"document bootstrap, {effort.resamples:,} resamples"
    return _simulated(name, n, "bits per byte", covered, effort)


def _simulated_paired(
    n: int, discordant: float, difference: float, effort: Effort, rng: np.random.Generator
) -> CoverageRow:
    better = (discordant + difference) / 2
    shares = [better, discordant - better, 1 - discordant]
    drawn = rng.multinomial(n, shares, effort.data_sets)
    low, high = exact_intervals(drawn[:, 0], drawn[:, 1], n, level=LEVEL)
    covered = int(((low <= difference) & (difference <= high)).sum())
    truth = f"d = {difference:g}, {discordant:g} discordant"
    row = _simulated("exact, paired", n, truth, covered, effort)
    return replace(row, most=None)


def _simulated(name: str, n: int, truth: str, covered: int, effort: Effort) -> CoverageRow:
    found = wilson_interval(covered, effort.data_sets)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    return CoverageRow(
        interval=name,
        n=n,
        truth=truth,
        found_by=f"{effort.data_sets:,} data sets",
        coverage=found.value,
        low=found.low,
        high=found.high,
        least=LEVEL - _WITHIN,
        most=LEVEL + _WITHIN,
    )


def _holds(found: Estimate, truth: float) -> bool:
    """Whether an interval holds the truth; one that is not there does not."""
    return found.low is not None and found.high is not None and found.low <= truth <= found.high
