"""Showing that a difference is small: equivalence and non-inferiority within a margin.

A test that finds no difference shows nothing by that. Here the hypothesis to be rejected is that
the difference reaches the margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special

from suite.records import Estimate
from suite.stats.intervals import MeanError


@dataclass(frozen=True)
class MarginTest:
    """Whether a difference stays within a margin.

    Attributes:
        difference: With its interval at 1 - 2 alpha, which stays within the margin exactly when
            the test rejects at alpha.
        margin: In the metric's unit, positive.
        alpha: The test's one-sided level.
        p_value: Of the difference being at or beyond the margin; None with the interval, for the
            reason that `difference` gives.
    """

    difference: Estimate
    margin: float
    alpha: float
    p_value: float | None

    @property
    def is_shown(self) -> bool | None:
        """Whether the margin is excluded; None where it cannot be tested."""
        return None if self.p_value is None else self.p_value < self.alpha


def tost(error: MeanError, margin: float, *, alpha: float = 0.05) -> MarginTest:
    """Two one-sided t tests that |difference| < margin (Schuirmann 1987).

    Args:
        error: A paired difference with its standard error, as of `difference_error`.
        margin: In the metric's unit, positive.
        alpha: Level of each of the two, and of both together.

    Raises:
        ValueError: a margin that is not positive.
    """
    return _tested(error, margin, alpha, is_two_sided=True)


def non_inferiority(error: MeanError, margin: float, *, alpha: float = 0.05) -> MarginTest:
    """One-sided t test that difference > -margin: at least as good, but for the margin.

    Args:
        error: A paired difference new - reference, oriented so that more is better.
        margin: In the metric's unit, positive.
        alpha: One-sided level.

    Raises:
        ValueError: a margin that is not positive.
    """
    return _tested(error, margin, alpha, is_two_sided=False)


def _tested(error: MeanError, margin: float, alpha: float, *, is_two_sided: bool) -> MarginTest:
    if not margin > 0:
        raise ValueError(f"a margin above 0 is needed, got {margin}")
    difference = error.estimate(1 - 2 * alpha)
    if error.mean is None or error.stderr is None:
        return MarginTest(difference, margin, alpha, None)
    # By the far tail each time, which keeps its digits when it is small.
    p_value = _below((-margin - error.mean) / error.stderr, error.df)
    if is_two_sided:
        p_value = max(p_value, _below((error.mean - margin) / error.stderr, error.df))
    return MarginTest(difference, margin, alpha, p_value)


def _below(t: float, df: float) -> float:
    return float(special.ndtr(t) if math.isinf(df) else special.stdtr(df, t))
