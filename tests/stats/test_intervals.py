"""Means and their intervals against statsmodels, plain loops and worked examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from suite.records import Estimate
from suite.stats.coverage import simulate_coverage, wilson_coverage
from suite.stats.intervals import (
    MeanError,
    clustered_error,
    clustered_interval,
    mean_error,
    mean_interval,
    wilson_interval,
)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture(scope="module")
def statsmodels():
    return pytest.importorskip("statsmodels.api")


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("num", "n"), [(0, 20), (20, 20), (3, 7), (610, 1000), (1, 1), (0, 1)])
def test_wilson_agrees_with_statsmodels(statsmodels, num, n, level):
    expected = statsmodels.stats.proportion_confint(num, n, alpha=1 - level, method="wilson")
    found = wilson_interval(num, n, level=level)
    assert found.value == num / n
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)


def test_wilson_worked_example_of_newcombe():
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3: 81/263, 15/148, 0/20, 1/29.
    cases = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605)}
    cases |= {(0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for (num, n), limits in cases.items():
        found = wilson_interval(num, n)
        assert (round(found.low, 4), round(found.high, 4)) == limits


def test_all_wrong_and_all_right_still_have_an_interval():
    wrong, right = wilson_interval(0, 50), wilson_interval(50, 50)
    assert (wrong.value, wrong.low) == (0.0, 0.0)
    assert wrong.high == pytest.approx(0.0713, abs=1e-4)
    assert (right.low, right.high) == pytest.approx((1 - wrong.high, 1.0), abs=1e-15)


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_value_and_mirrors(case):
    num, n = case
    found, mirrored = wilson_interval(num, n), wilson_interval(n - num, n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-9)


def test_wilson_of_no_items_says_so():
    reason = "there are no items"
    assert wilson_interval(0, 0) == Estimate(None, None, None, 0.95, 0, "Wilson", reason)


def test_mean_interval_agrees_with_statsmodels(statsmodels, rng):
    values = rng.normal(3.0, 2.0, 37)
    expected = statsmodels.stats.DescrStatsW(values).tconfint_mean(alpha=0.1)
    found = mean_interval(values, level=0.9)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-12)
    assert (found.value, found.n, found.method) == (pytest.approx(values.mean()), 37, "t")


def by_loops(values, clusters) -> float:
    """Miller 2024, appendix A, with C / (C - 1): sum over pairs of items that share a cluster."""
    n, total = len(values), 0.0
    mean = math.fsum(values) / n
    for i in range(n):
        for j in range(n):
            if clusters[i] == clusters[j]:
                total += (values[i] - mean) * (values[j] - mean)
    num = len(set(clusters))
    return math.sqrt(num / (num - 1) * total) / n


def test_clustered_error_equals_plain_loops(rng):
    clusters = rng.integers(0, 15, 120)
    values = (rng.random(120) < 0.4 + 0.02 * clusters).astype(float)
    found = clustered_error(values, clusters)
    assert found.stderr == pytest.approx(by_loops(values.tolist(), clusters.tolist()), rel=1e-12)
    assert (found.df, found.n, found.method) == (14, 15, "clustered t (15 clusters)")


def test_clustered_interval_agrees_with_statsmodels(statsmodels, rng):
    clusters = np.repeat(np.arange(12), rng.integers(1, 9, 12))
    n = len(clusters)
    values = rng.normal(size=n) + rng.normal(size=12)[clusters]
    # statsmodels multiplies by C / (C - 1) (n - 1) / (n - k), which is C / (C - 1) for a mean.
    fitted = statsmodels.OLS(values, np.ones(n)).fit(
        cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True
    )
    found = clustered_interval(values, clusters, level=0.95)
    assert (found.low, found.high) == pytest.approx(fitted.conf_int(0.05)[0], rel=1e-11)


def test_clusters_of_one_item_give_the_plain_interval(rng):
    values = rng.normal(size=40)
    plain, clustered = mean_error(values), clustered_error(values, np.arange(40))
    assert clustered.stderr == pytest.approx(plain.stderr, rel=1e-12)
    assert clustered.df == plain.df


@given(st.lists(st.floats(-50, 50), min_size=10, max_size=30), st.floats(-10, 10))
def test_intervals_hold_the_mean_and_move_with_the_values(values, shift):
    items = np.array(values)
    if np.ptp(items) < 1e-3:
        return
    clusters = np.arange(len(items))
    for interval in (mean_interval, lambda x: clustered_interval(x, clusters)):
        here, there = interval(items), interval(items + shift)
        assert here.low <= here.value <= here.high
        assert there.low - here.low == pytest.approx(shift, abs=1e-9)
        assert there.high - here.high == pytest.approx(shift, abs=1e-9)


@pytest.mark.parametrize(
    ("values", "mean", "reason"),
    [
        ([], None, "there are no items"),
        ([0.5], 0.5, "one item has no variance"),
        ([0.1] * 30, pytest.approx(0.1), "all 30 values are equal"),
        ([0.0] * 12, 0.0, "all 12 values are equal"),
        ([1.0, math.nan, 2.0], None, "no finite number for 1 of 3 items"),
    ],
)
def test_what_a_mean_does_not_allow_is_none_with_a_reason(values, mean, reason):
    found = mean_interval(values)
    assert (found.value, found.low, found.high, found.reason) == (mean, None, None, reason)
    assert mean_error(values).p_value() is None


@pytest.mark.parametrize(
    ("num_clusters", "reason"),
    [
        (1, "1 cluster is too few for an interval: at least 10 are needed"),
        (9, "9 clusters are too few for an interval: at least 10 are needed"),
    ],
)
def test_few_clusters_have_no_interval(rng, num_clusters, reason):
    found = clustered_interval(rng.random(90), np.arange(90) % num_clusters)
    assert (found.low, found.high, found.reason, found.n) == (None, None, reason, num_clusters)
    assert found.value is not None


def test_clusters_without_spread_have_no_interval():
    found = clustered_interval([0.0, 1.0] * 20, np.repeat(np.arange(20), 2))
    assert (found.value, found.low) == (0.5, None)
    assert found.reason == "the 20 clusters do not differ"


def test_p_value_is_that_of_the_t_test(rng):
    values = rng.normal(0.2, 1.0, 25)
    expected = stats.ttest_1samp(values, 0.0).pvalue
    assert mean_error(values).p_value() == pytest.approx(expected, rel=1e-12)
    known = MeanError(1.96, 1.0, math.inf, 10, "known")
    assert known.p_value() == pytest.approx(2 * stats.norm.sf(1.96), rel=1e-12)


@pytest.mark.parametrize("n", [50, 200, 1000])
@pytest.mark.parametrize("p", [0.02, 0.5, 0.98])
def test_wilson_covers_at_least_92_percent(n, p):
    assert wilson_coverage(n, p, 0.95) >= 0.92


def test_enumerated_coverage_equals_a_plain_sum():
    covered = 0.0
    for num in range(31):
        interval = wilson_interval(num, 30, level=0.9)
        if interval.low <= 0.2 <= interval.high:
            covered += math.comb(30, num) * 0.2**num * 0.8 ** (30 - num)
    assert wilson_coverage(30, 0.2, 0.9) == pytest.approx(covered, rel=1e-12)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("kind", "n"), [("bootstrap", 200), ("t", 500)])
def test_bootstrap_and_t_cover_within_two_points_of_nominal(kind, n, p):
    assert simulate_coverage(kind, n, p) == pytest.approx(0.95, abs=0.02)
