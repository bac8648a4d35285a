"""Tests against a margin, by statsmodels and by the interval that says the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from suite.stats.equivalence import non_inferiority, tost
from suite.stats.intervals import MeanError, clustered_error, mean_error

DIFFERENCES = np.random.default_rng(3).normal(0.05, 1.0, size=80)


@pytest.mark.parametrize("margin", [0.05, 0.3, 0.6])
def test_tost_is_that_of_statsmodels(margin: float) -> None:
    expected = ttost_paired(DIFFERENCES, np.zeros(80), -margin, margin)[0]
    found = tost(mean_error(DIFFERENCES), margin)
    assert found.p_value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("margin", [0.05, 0.3, 0.6])
def test_non_inferiority_is_the_lower_of_the_two_tests(margin: float) -> None:
    expected = DescrStatsW(DIFFERENCES).ttest_mean(-margin, alternative="larger")[1]
    found = non_inferiority(mean_error(DIFFERENCES), margin)
    assert found.p_value == pytest.approx(expected, rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.floats(-1, 1), st.floats(0.01, 1), st.integers(1, 50), st.floats(0.01, 1))
def test_a_margin_is_excluded_exactly_where_the_interval_stays_within(
    mean: float, stderr: float, df: int, margin: float
) -> None:
    error = MeanError(mean, stderr, df, df + 1, "t")
    both, lower = tost(error, margin), non_inferiority(error, margin)
    for found, excess in ((both, None), (lower, math.inf)):
        low, high = found.difference.low, found.difference.high
        assert low is not None
        assert high is not None
        # Rounding may decide where a limit lies on the margin.
        if min(abs(low + margin), abs(high - margin)) > 1e-9:
            upper = margin if excess is None else excess
            assert found.is_shown == (low > -margin and high < upper)
    assert both.difference.level == pytest.approx(0.9)
    assert both.p_value is not None
    assert lower.p_value is not None
    assert both.p_value >= lower.p_value


def test_the_normal_approximation_serves_a_known_error() -> None:
    error = MeanError(0.0, 0.01, math.inf, 100, "t")
    assert tost(error, 0.0196).p_value == pytest.approx(0.025, abs=1e-4)


def test_clusters_make_it_harder_to_show() -> None:
    values = np.repeat(np.random.default_rng(1).normal(0, 0.2, size=20), 5)
    clusters = np.repeat(np.arange(20), 5)
    alone = tost(mean_error(values), 0.1).p_value
    clustered = tost(clustered_error(values, clusters), 0.1).p_value
    assert alone is not None
    assert clustered is not None
    assert clustered > alone


def test_without_variance_nothing_is_shown() -> None:
    found = tost(mean_error(np.zeros(40)), 0.1)
    assert found.p_value is None
    assert found.is_shown is None
    assert found.difference.value == 0
    assert found.difference.reason == "all 40 values are equal"


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan])
def test_a_margin_must_be_positive(margin: float) -> None:
    with pytest.raises(ValueError, match=f"^a margin above 0 is needed, got {margin}$"):
        tost(mean_error(DIFFERENCES), margin)
