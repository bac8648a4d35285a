"""McNemar's test against statsmodels and the interval that must agree with it."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from suite.stats.discordant import exact_interval, exact_intervals, mcnemar_p_values

LEVELS = (0.8, 0.95, 0.99, 1 - 0.05 * 6 / math.pi**2 / 400)


@pytest.fixture(scope="module")
def statsmodels_mcnemar():
    return pytest.importorskip("statsmodels.stats.contingency_tables").mcnemar


def by_fractions(better: int, worse: int, *, mid: bool) -> Fraction:
    """Two-sided p-value from the binomial coefficients."""
    total, fewer = better + worse, min(better, worse)
    if total == 0:
        return Fraction(1)
    tail = sum(math.comb(total, k) for k in range(fewer + 1))
    exact = min(Fraction(1), Fraction(2 * tail, 2**total))
    observed = Fraction(math.comb(total, fewer), 2**total)
    if not mid:
        return exact
    return exact - (observed / 2 if better == worse else observed)


def test_p_values_equal_exact_fractions():
    for better in range(13):
        for worse in range(13):
            for variant in ("exact", "mid-p"):
                expected = float(by_fractions(better, worse, mid=variant == "mid-p"))
                found = float(mcnemar_p_values(better, worse, variant=variant))
                assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_nearly_even_counts_have_a_p_value_of_exactly_one():
    assert (mcnemar_p_values([3, 500, 0, 1], [4, 499, 0, 0]) == 1.0).all()


@pytest.mark.parametrize(("better", "worse"), [(1, 7), (59, 6), (12, 5), (400, 330), (86, 150)])
def test_exact_p_values_agree_with_statsmodels(statsmodels_mcnemar, better, worse):
    expected = statsmodels_mcnemar([[20, better], [worse, 30]], exact=True).pvalue
    assert float(mcnemar_p_values(better, worse)) == pytest.approx(expected, rel=1e-12)


def test_worked_example_of_fagerland_and_others():
    # Airway hyper-responsiveness before and after transplantation, 2013, table 1: 1 and 7 of 21.
    assert float(mcnemar_p_values(1, 7)) == 0.0703125
    assert float(mcnemar_p_values(1, 7, variant="mid-p")) == pytest.approx(0.0390625, rel=1e-12)


@pytest.mark.parametrize("variant", ["exact", "mid-p"])
@pytest.mark.parametrize("level", LEVELS)
def test_interval_excludes_zero_exactly_when_the_test_rejects(level, variant):
    n = 45
    total = np.arange(n + 1)
    better = np.concatenate([np.arange(m + 1) for m in total])
    worse = np.concatenate([m - np.arange(m + 1) for m in total])
    low, high = exact_intervals(better, worse, n, level=level, variant=variant)
    is_told = mcnemar_p_values(better, worse, variant=variant) < 1 - level
    np.testing.assert_array_equal(high < 0, is_told & (worse > better))
    np.testing.assert_array_equal(low > 0, is_told & (better > worse))


def test_interval_at_a_level_that_the_p_value_meets_exactly_holds_zero():
    p_value = 2 * 0.5**6
    low, high = exact_interval(0, 6, 50, level=1 - p_value)
    assert low < 0
    assert high == 0.0


@given(
    st.integers(0, 400),
    st.integers(0, 400),
    st.integers(0, 500),
    st.floats(0.5, 0.9999),
    st.sampled_from(["exact", "mid-p"]),
)
def test_interval_holds_the_estimate_and_mirrors_under_exchange(
    better, worse, neither, level, variant
):
    n = max(1, better + worse + neither)
    low, high = exact_interval(better, worse, n, level=level, variant=variant)
    rounding = 1e-12
    assert -1 <= low <= (better - worse) / n + rounding
    assert (better - worse) / n - rounding <= high <= 1
    mirrored = exact_interval(worse, better, n, level=level, variant=variant)
    assert mirrored == pytest.approx((-high, -low), abs=1e-12)


def test_interval_lies_within_the_product_of_clopper_pearson_limits():
    better, worse, n, level = 12, 30, 300, 0.95
    share = stats.binomtest(better + worse, n).proportion_ci(level)
    won = stats.binomtest(better, better + worse).proportion_ci(level)
    low, high = exact_interval(better, worse, n, level=level)
    assert (2 * won.low - 1) * share.high < low < high < (2 * won.high - 1) * share.low < 0


def test_limits_follow_the_formula_in_plain_numbers():
    better, worse, n, level = 34, 14, 400, 0.9
    share, excess = 48 / 400, 20 / 48
    shares = stats.binomtest(48, n).proportion_ci(level)
    won = stats.binomtest(better, 48).proportion_ci(level)
    high_excess, low_excess = 2 * won.high - 1, 2 * won.low - 1
    assert low_excess > 0
    up = math.hypot(share * (high_excess - excess), high_excess * (shares.high - share))
    down = math.hypot(share * (excess - low_excess), low_excess * (share - shares.low))
    found = exact_interval(better, worse, n, level=level)
    assert found == pytest.approx((0.05 - down, 0.05 + up), rel=1e-12)


def test_without_discordant_items_the_interval_is_that_of_their_share():
    low, high = exact_interval(0, 0, 200, level=0.95)
    assert high == pytest.approx(1 - 0.025 ** (1 / 200), rel=1e-12)
    assert low == -high


@pytest.mark.parametrize("n", [100, 300])
@pytest.mark.parametrize("level", [0.95, 0.99])
@pytest.mark.parametrize(("share", "difference"), [(0.05, 0.0), (0.05, 0.02), (0.2, 0.05)])
def test_coverage_is_at_least_nominal_on_each_side(n, level, share, difference):
    num = np.arange(n + 1)
    better = np.concatenate([np.arange(m + 1) for m in num])
    total = np.concatenate([np.full(m + 1, m) for m in num])
    probability = stats.binom.pmf(total, n, share)
    probability = probability * stats.binom.pmf(better, total, (1 + difference / share) / 2)
    likely = probability > 1e-12
    better, total, probability = better[likely], total[likely], probability[likely]
    low, high = exact_intervals(better, total - better, n, level=level)
    assert probability[high < difference].sum() <= (1 - level) / 2
    assert probability[low > difference].sum() <= (1 - level) / 2
