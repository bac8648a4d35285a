"""Spearman's correlation of two models' scores, against plain loops and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from suite.stats.rank_correlation import (
    mean_over_strata,
    mean_within_items,
    spearman,
    within_items,
)

VALUES = st.lists(st.integers(-3, 3), min_size=2, max_size=12)


def ranks(values: list[float]) -> list[float]:
    """Mean rank of each value, counted from 1."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def by_hand(first: list[float], second: list[float]) -> float:
    """Pearson's correlation of the ranks."""
    one, other = ranks(first), ranks(second)
    means = sum(one) / len(one), sum(other) / len(other)
    top = sum((a - means[0]) * (b - means[1]) for a, b in zip(one, other, strict=True))
    below = sum((a - means[0]) ** 2 for a in one) * sum((b - means[1]) ** 2 for b in other)
    return top / math.sqrt(below) if below else math.nan


@settings(max_examples=60)
@given(st.data())
def test_it_is_pearsons_correlation_of_mean_ranks(data):
    first = data.draw(VALUES)
    second = data.draw(st.lists(st.integers(-3, 3), min_size=len(first), max_size=len(first)))
    found = float(spearman(np.array(first, float), np.array(second, float)))
    expected = by_hand([*map(float, first)], [*map(float, second)])
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_it_agrees_with_scipy_on_many_rows_at_once():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5, 40))
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(spearman(first, second), expected, rtol=0, atol=1e-12)


def test_a_single_value_and_equal_values_have_no_correlation():
    assert np.isnan(spearman(np.array([1.0]), np.array([2.0])))
    assert np.isnan(spearman(np.array([1.0, 1.0]), np.array([2.0, 3.0])))


def test_items_may_have_different_numbers_of_options():
    first = [np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0]), np.array([5.0])]
    second = [np.array([1.0, 3.0, 2.0]), np.array([1.0, 0.0]), np.array([5.0])]
    found = within_items(first, second)
    assert found[:2].tolist() == pytest.approx([0.5, -1.0])
    assert np.isnan(found[2])


def test_the_mean_over_items_leaves_out_those_without_an_order():
    first = [np.array([0.0, 1.0])] * 9 + [np.array([1.0, 1.0])]
    second = [np.array([0.0, 1.0])] * 8 + [np.array([1.0, 0.0])] * 2
    found = mean_within_items(first, second)
    assert (found.value, found.n) == (pytest.approx(7 / 9), 9)
    assert (found.low, found.high) == (None, None)
    assert found.reason == "fewer than 10 items, no interval"


def test_models_that_order_nothing_have_no_value_but_a_reason():
    flat = [np.zeros(4)] * 20
    found = mean_within_items(flat, flat)
    assert (found.value, found.low, found.n) == (None, None, 0)
    assert found.reason == "no item has options that both models order"
    found = mean_over_strata([(np.zeros(20), np.arange(20.0))])
    assert found.value is None
    assert found.reason == "one model gives every item the same score"


def test_the_interval_is_that_of_resampled_items():
    rng = np.random.default_rng(1)
    first = rng.normal(size=60)
    second = first + rng.normal(size=60)
    found = mean_over_strata([(first, second)], seed=3)
    draws = np.random.default_rng(3).integers(0, 60, (1000, 60))
    replicates = [spearmanr(first[index], second[index]).statistic for index in draws]
    low, high = np.quantile(replicates, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.value == pytest.approx(spearmanr(first, second).statistic)


def test_differences_between_strata_are_no_correlation():
    rng = np.random.default_rng(2)
    strata = [(level + rng.normal(size=200), level + rng.normal(size=200)) for level in (0.0, 99.0)]
    found = mean_over_strata(strata)
    assert found.value is not None
    assert abs(found.value) < 0.15
    assert found.n == 400


def test_a_model_against_itself_has_correlation_one():
    values = np.random.default_rng(3).normal(size=3000)
    found = mean_over_strata([(values, values)])
    assert found.value == pytest.approx(1.0, abs=1e-12)
    assert found.low == pytest.approx(1.0, abs=1e-12)
