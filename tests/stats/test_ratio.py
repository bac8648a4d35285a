"""Ratio metrics: loops over the same resamples, and the delta method by differentiation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.results.item_scores import ItemScores
from suite.stats.ratio import (
    linearised,
    ratio_difference,
    ratio_interval,
    ratio_value,
    resampled_ratios,
)
from suite.stats.resamples import percentile_limits, resample_counts


def documents(values, weights, aggregation="bits_per_byte", clusters=None) -> ItemScores:
    n = len(values)
    return ItemScores(
        keys=np.array([f"{i:04d}" for i in range(n)], dtype="S36"),
        values=np.asarray(values, dtype=float),
        aggregation=aggregation,
        higher_is_better=False,
        strata=np.zeros(n, dtype=np.int64),
        stratum_weights=np.ones(1),
        weights=np.asarray(weights, dtype=float),
        clusters=clusters,
    )


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.fixture
def pair(rng):
    weights = rng.integers(20, 400, 40)
    first = -weights * rng.normal(0.8, 0.1, 40)
    return weights, first, first - weights * rng.normal(0.01, 0.02, 40)


def test_worked_values():
    values, weights = [-math.log(2) * 30, -math.log(2) * 10], [10, 10]
    assert ratio_value(documents(values, weights)) == pytest.approx(2.0, rel=1e-15)
    assert ratio_value(documents(values, weights, "perplexity")) == pytest.approx(4.0, rel=1e-15)


@pytest.mark.parametrize("aggregation", ["bits_per_byte", "perplexity"])
def test_interval_and_difference_equal_loops_over_the_same_resamples(pair, aggregation):
    weights, first, second = pair
    counts = resample_counts(40, 300, seed=4)

    def metric(values, row) -> float:
        nats = -sum(c * v for c, v in zip(row, values, strict=True))
        nats /= sum(c * w for c, w in zip(row, weights, strict=True))
        return nats / math.log(2) if aggregation == "bits_per_byte" else math.exp(nats)

    rows = counts.astype(float).tolist()
    new = documents(first, weights, aggregation)
    reference = documents(second, weights, aggregation)
    expected = percentile_limits(np.array([metric(first, row) for row in rows]), 0.9)
    found = ratio_interval(new, counts, level=0.9)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-12)
    assert found.value == pytest.approx(metric(first, [1.0] * 40), rel=1e-12)

    replicates = np.array([metric(first, row) - metric(second, row) for row in rows])
    tested = ratio_difference(new, reference, counts, level=0.9)
    limits = (tested.difference.low, tested.difference.high)
    assert limits == pytest.approx(percentile_limits(replicates, 0.9), rel=1e-12)


def test_perplexity_limits_are_those_of_bits_per_byte_carried_over(pair):
    weights, first, _ = pair
    counts = resample_counts(40, 300)
    bits = ratio_interval(documents(first, weights), counts)
    perplexity = ratio_interval(documents(first, weights, "perplexity"), counts)
    assert perplexity.low == pytest.approx(2**bits.low, rel=1e-12)
    assert perplexity.high == pytest.approx(2**bits.high, rel=1e-12)


@pytest.mark.parametrize("aggregation", ["bits_per_byte", "perplexity"])
def test_linearised_shares_are_the_derivative_of_the_metric(pair, aggregation):
    weights, first, _ = pair
    whole = documents(first, weights, aggregation)
    shares, n, step = linearised(whole), 40, 1e-6
    assert shares.mean() == pytest.approx(ratio_value(whole), rel=1e-12)
    for item in (0, 7, 39):
        # Count one document a little more, in its values and its weight alike.
        counted = np.ones(n)
        counted[item] += step
        moved = ratio_value(documents(first * counted, weights * counted, aggregation))
        slope = (moved - ratio_value(whole)) / step * n
        assert shares[item] - shares.mean() == pytest.approx(slope, rel=1e-4)


@given(st.floats(0.1, 10.0))
def test_the_unit_of_log_likelihoods_scales_bits_per_byte(factor):
    values, weights = np.linspace(-90, -20, 12), np.linspace(30, 50, 12)
    counts = resample_counts(12, 60)
    here = resampled_ratios(documents(values, weights), counts)
    there = resampled_ratios(documents(values * factor, weights), counts)
    np.testing.assert_allclose(there, here * factor, rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "weights", "reason"),
    [
        ([], [], "there are no documents"),
        ([-1.0, -2.0], [0.0, 0.0], "the documents' weights sum to 0"),
        ([-1.0, math.nan], [1.0, 1.0], "no finite number for 1 of 2 documents"),
    ],
)
def test_what_has_no_value_says_why(values, weights, reason):
    items = documents(values, weights)
    counts = np.ones((50, len(values)), dtype=np.uint8)
    found = ratio_interval(items, counts)
    assert (found.value, found.low, found.reason) == (None, None, reason)
    tested = ratio_difference(items, items, counts)
    assert (tested.difference.value, tested.p_value) == (None, None)
    assert tested.difference.reason == reason


def test_few_documents_have_a_value_and_no_interval():
    items = documents([-5.0, -6.0, -4.0], [3.0, 3.0, 3.0])
    found = ratio_interval(items, resample_counts(3, 50))
    assert found.value == pytest.approx(5 / 3 / math.log(2))
    assert found.reason == "3 documents are too few for an interval: at least 10 are needed"


def test_clusters_of_documents_are_counted_as_the_units(pair):
    weights, first, second = pair
    clusters = np.arange(40) // 2
    counts = resample_counts(40, 300, clusters=clusters)
    new = documents(first, weights, clusters=clusters)
    found = ratio_difference(new, documents(second, weights, clusters=clusters), counts)
    assert found.difference.n == 20
    assert found.difference.method == "bootstrap over clusters (300 resamples)"


def test_equal_models_have_no_interval_of_their_difference(pair):
    weights, first, _ = pair
    items = documents(first, weights)
    found = ratio_difference(items, items, resample_counts(40, 50))
    assert (found.difference.value, found.difference.low, found.p_value) == (0.0, None, None)
    assert found.difference.reason == "all resamples give the same value"


def test_resamples_without_any_weight_give_no_interval():
    weights = np.zeros(12)
    weights[0] = 5.0
    found = ratio_interval(documents(-np.ones(12), weights), resample_counts(12, 200))
    assert (found.low, found.reason) == (None, "some resamples have no value")
