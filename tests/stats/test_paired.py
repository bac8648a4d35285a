"""Paired tests against statsmodels, full enumeration and loops over the same resamples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from suite.stats.intervals import clustered_interval
from suite.stats.paired import mcnemar, paired_bootstrap, paired_t, sign_flip
from suite.stats.resamples import percentile_limits, resample_counts


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_mcnemar_is_one_without_discordant_items():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 0, variant="mid-p") == 1.0


def test_paired_t_agrees_with_scipy_and_statsmodels(rng):
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    new, reference = rng.normal(0.3, 1, 40), rng.normal(0, 1, 40)
    found = paired_t(new - reference)
    assert found.p_value == pytest.approx(stats.ttest_rel(new, reference).pvalue, rel=1e-12)
    expected = weightstats.DescrStatsW(new - reference).tconfint_mean()
    assert (found.difference.low, found.difference.high) == pytest.approx(expected, rel=1e-12)


def test_paired_t_of_clusters_is_the_clustered_interval(rng):
    differences, clusters = rng.normal(0.2, 1, 60), np.arange(60) // 4
    found = paired_t(differences, clusters=clusters)
    assert found.difference == clustered_interval(differences, clusters)
    t = found.difference.value / (
        (found.difference.high - found.difference.value) / stats.t.ppf(0.975, 14)
    )
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(t), 14), rel=1e-10)


def by_enumeration(units) -> float:
    reached, extreme, total = abs(sum(units)), 0, 0
    for signs in itertools.product((1, -1), repeat=len(units)):
        extreme += abs(sum(s * u for s, u in zip(signs, units, strict=True))) >= reached - 1e-12
        total += 1
    return extreme / total


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_sign_flips_of_few_items_are_enumerated(numbers):
    assert sign_flip(numbers) == pytest.approx(by_enumeration(numbers), rel=1e-12)
    assert sign_flip([-number for number in numbers]) == sign_flip(numbers)


def test_sign_flip_of_binary_differences_is_the_exact_mcnemar_test():
    assert sign_flip([1.0] * 9 + [-1.0] * 3 + [0.0] * 50) == pytest.approx(mcnemar(9, 3), rel=1e-12)


def test_random_sign_flips_come_near_the_exact_test():
    found = sign_flip([1.0] * 40 + [-1.0] * 24 + [0.0] * 100, num_flips=20_000)
    assert found == pytest.approx(mcnemar(40, 24), abs=0.006)
    assert found == sign_flip([1.0] * 40 + [-1.0] * 24, num_flips=20_000)


def test_random_sign_flips_are_never_impossible():
    assert sign_flip(np.ones(200), num_flips=999) == 1 / 1000


def test_sign_flip_turns_whole_clusters():
    values = [1.0, 2.0, -0.5, 3.0, 1.0, 1.5]
    clusters = [4, 4, 1, 1, 0, 0]
    assert sign_flip(values, clusters=clusters) == by_enumeration([3.0, 2.5, 2.5])


def test_sign_flip_agrees_with_scipy(rng):
    differences = rng.normal(0.4, 1, 11)
    expected = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip(differences) == pytest.approx(expected.pvalue, rel=1e-12)


def test_bootstrap_equals_a_loop_over_the_same_resamples(rng):
    differences, counts = rng.normal(0.2, 1, 30), resample_counts(30, 400, seed=2)
    means = []
    for row in counts:
        drawn = [differences[item] for item, times in enumerate(row) for _ in range(times)]
        means.append(sum(drawn) / len(drawn))
    found = paired_bootstrap(differences, counts, level=0.9)
    expected = percentile_limits(np.array(means), 0.9)
    assert (found.difference.low, found.difference.high) == pytest.approx(expected, rel=1e-12)
    below = sum(mean <= 0 for mean in means) + 1
    above = sum(mean >= 0 for mean in means) + 1
    assert found.p_value == min(1.0, 2 * min(below, above) / 401)


def test_replicates_that_are_zero_but_for_rounding_count_on_both_sides():
    # Of weights that float64 cannot hold, equal wins and losses sum to 1e-17, not to 0.
    differences, weights = np.array([1.0] * 10 + [-1.0] * 10), np.full(20, 0.1 / 3)
    counts = resample_counts(20, 2000)
    weighted = paired_bootstrap(differences, counts, weights=weights)
    plain = paired_bootstrap(differences, counts)
    assert weighted.p_value == plain.p_value


def test_bootstrap_mirrors_under_exchange(rng):
    differences, counts = rng.normal(0.2, 1, 30), resample_counts(30, 400)
    here, there = paired_bootstrap(differences, counts), paired_bootstrap(-differences, counts)
    assert there.p_value == here.p_value
    limits = (there.difference.low, there.difference.high)
    assert limits == pytest.approx((-here.difference.high, -here.difference.low), rel=1e-12)


def test_bca_comes_near_scipys(rng):
    differences = rng.exponential(1.0, 60)
    found = paired_bootstrap(differences, resample_counts(60, 20_000), limits="bca")
    expected = stats.bootstrap(
        (differences,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    limits = (found.difference.low, found.difference.high)
    assert limits == pytest.approx((expected.low, expected.high), abs=0.02)
    assert found.p_value is None
    assert found.difference.method == "BCa bootstrap over items (20,000 resamples)"


@pytest.mark.parametrize(
    ("differences", "reason"),
    [
        ([], "there are no items"),
        ([1.0], "1 item is too few for an interval: at least 10 are needed"),
        ([0.5] * 12, "all 12 values are equal"),
        ([0.5] * 11 + [np.inf], "no finite number for 1 of 12 items"),
    ],
)
def test_bootstrap_of_degenerate_samples_gives_a_reason(differences, reason):
    counts = np.ones((50, len(differences)), dtype=np.uint8)
    found = paired_bootstrap(differences, counts)
    assert (found.difference.low, found.p_value) == (None, None)
    assert found.difference.reason == reason


def test_bootstrap_of_items_without_weight_gives_a_reason():
    found = paired_bootstrap(
        np.arange(12.0), np.ones((50, 12), dtype=np.uint8), weights=np.zeros(12)
    )
    assert (found.difference.value, found.p_value) == (None, None)
    assert found.difference.reason == "the weights sum to 0"


def test_bootstrap_of_few_clusters_gives_a_reason(rng):
    clusters = np.arange(40) % 4
    found = paired_bootstrap(
        rng.normal(size=40), resample_counts(40, 100, clusters=clusters), clusters=clusters
    )
    reason = "4 clusters are too few for an interval: at least 10 are needed"
    assert (found.difference.low, found.difference.n, found.difference.reason) == (None, 4, reason)
