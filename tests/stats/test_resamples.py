"""Counts of resamples, and intervals and p-values made from replicates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.stats.resamples import (
    BLOCK_NUMBERS,
    bca_limits,
    bootstrap_p_value,
    judge_replicates,
    percentile_limits,
    resample_counts,
    resampled_means,
    resampled_sums,
)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def test_each_resample_draws_as_many_items_as_there_are():
    counts = resample_counts(37, 500, seed=3)
    assert counts.shape == (500, 37)
    assert counts.dtype == np.uint8
    assert (counts.sum(axis=1, dtype=int) == 37).all()


def test_counts_are_the_same_for_the_same_seed_and_others_for_another():
    first = resample_counts(20, 50, seed=1)
    np.testing.assert_array_equal(first, resample_counts(20, 50, seed=1))
    assert not np.array_equal(first, resample_counts(20, 50, seed=2))


def test_counts_are_multinomial():
    counts = resample_counts(10, 20_000, seed=0).astype(float)
    covariance = np.cov(counts.T)
    np.testing.assert_allclose(counts.mean(axis=0), 1.0, atol=0.03)
    np.testing.assert_allclose(np.diag(covariance), 0.9, atol=0.04)
    np.testing.assert_allclose(covariance[np.triu_indices(10, 1)], -0.1, atol=0.04)


def test_blocks_of_draws_do_not_repeat_each_other():
    n = BLOCK_NUMBERS // 3
    counts = resample_counts(n, 4, seed=0)
    assert (counts.sum(axis=1, dtype=int) == n).all()
    assert not np.array_equal(counts[0], counts[3])


def test_items_of_a_cluster_are_drawn_together():
    clusters = np.array([7, 7, 2, 2, 2, 9])
    counts = resample_counts(6, 200, clusters=clusters)
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 2:5] == counts[:, 2:3]).all()
    assert (counts[:, [0, 2, 5]].sum(axis=1, dtype=int) == 3).all()


def test_strata_keep_their_sizes():
    strata = np.array([1, 0, 1, 1, 0])
    counts = resample_counts(5, 200, strata=strata).astype(int)
    assert (counts[:, strata == 0].sum(axis=1) == 2).all()
    assert (counts[:, strata == 1].sum(axis=1) == 3).all()


def test_clusters_are_drawn_within_their_strata():
    strata = np.repeat([0, 1], [6, 4])
    clusters = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    counts = resample_counts(10, 200, clusters=clusters, strata=strata).astype(int)
    assert (counts[:, ::2] == counts[:, 1::2]).all()
    assert (counts[:, :6:2].sum(axis=1) == 3).all()
    assert (counts[:, 6::2].sum(axis=1) == 2).all()


def test_a_stratum_keeps_its_weight_in_every_resample():
    counts = np.array([[2, 0, 0, 0], [0, 2, 2, 0]], dtype=np.uint8)
    values, strata = np.array([1.0, 0.0, 4.0, 8.0]), np.array([0, 0, 1, 1])
    means = resampled_means(counts, values, np.full(4, 0.25), strata)
    np.testing.assert_array_equal(means, [np.nan, 2.0])


def test_sums_equal_a_loop_over_the_drawn_items(rng):
    columns = rng.normal(size=(9, 2))
    counts = resample_counts(9, 30, seed=5)
    sums = resampled_sums(counts, columns)
    for row, found in zip(counts, sums, strict=True):
        drawn = [item for item, times in enumerate(row) for _ in range(times)]
        np.testing.assert_allclose(found, sum(columns[item] for item in drawn), rtol=1e-12)


@given(
    st.lists(st.integers(-3, 6), min_size=5, max_size=120),
    st.floats(0.3, 0.995),
)
def test_percentile_limits_exclude_zero_exactly_when_the_p_value_is_small(numbers, level):
    replicates = np.array(numbers, dtype=float)
    limits = percentile_limits(replicates, level)
    is_told = bootstrap_p_value(replicates) < 1 - level
    assert (limits is not None and (limits[0] > 0 or limits[1] < 0)) == is_told
    assert 0 < bootstrap_p_value(replicates) <= 1
    assert limits is None or limits[0] <= limits[1]


def test_percentile_limits_are_the_usual_order_statistics():
    replicates = np.random.default_rng(0).permutation(np.arange(1.0, 10_001.0))
    assert percentile_limits(replicates, 0.95) == (250.0, 9751.0)
    assert percentile_limits(replicates, 0.9) == (500.0, 9501.0)


def test_too_few_resamples_for_a_level_have_no_interval():
    replicates = np.random.default_rng(0).normal(size=99)
    assert percentile_limits(replicates, 0.99) is None
    found = judge_replicates(replicates, 0.0, 0.99, 50, "bootstrap")
    assert found.difference.reason == "99 resamples are too few for a level of 0.99"
    assert (found.difference.value, found.difference.low, found.p_value) == (0.0, None, None)


@pytest.mark.parametrize(
    ("replicates", "reason"),
    [
        ([0.25] * 500, "all resamples give the same value"),
        ([0.25] * 499 + [np.nan], "some resamples have no value"),
    ],
)
def test_replicates_that_tell_nothing_give_a_reason(replicates, reason):
    found = judge_replicates(np.array(replicates), 0.25, 0.95, 50, "bootstrap")
    assert (found.difference.low, found.p_value, found.difference.reason) == (None, None, reason)


def test_smallest_p_value_is_two_over_one_more_than_the_resamples():
    assert bootstrap_p_value(np.ones(999)) == 2 / 1000
    assert bootstrap_p_value(np.zeros(999)) == 1.0


def test_bca_without_bias_and_skewness_is_the_percentile_interval():
    replicates = np.concatenate([-np.arange(1.0, 5001), np.arange(1.0, 5001)])
    found = bca_limits(replicates, 0.0, 0.0, 0.9)
    assert found == pytest.approx(percentile_limits(replicates, 0.9), abs=2)


def test_bca_has_no_limits_where_the_value_lies_outside_of_all_replicates():
    assert bca_limits(np.arange(1.0, 100.0), 0.0, 0.0, 0.9) is None
