"""Calibration against loops over items and bins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.stats.calibration import (
    Binning,
    brier_score,
    brier_score_of_choice,
    expected_calibration_error,
    reliability_bins,
)
from suite.stats.intervals import wilson_interval
from suite.stats.resamples import resample_counts

COUNTS = resample_counts(12, 99, 0)
samples = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=12, max_size=12)


def loops_ece(confidence: np.ndarray, correct: np.ndarray, num_bins: int) -> float:
    total = 0.0
    for place in range(num_bins):
        low, high = place / num_bins, (place + 1) / num_bins
        is_last = place == num_bins - 1
        inside = [
            (c, y)
            for c, y in zip(confidence, correct, strict=True)
            if low <= c and (c < high or is_last)
        ]
        if inside:
            accuracy = sum(y for _, y in inside) / len(inside)
            mean = sum(c for c, _ in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


@settings(max_examples=40, deadline=None)
@given(samples, st.sampled_from([1, 2, 4, 8]))
def test_ece_is_the_weighted_gap_of_the_bins(sample, num_bins: int) -> None:
    confidence, correct = (np.array(column) for column in zip(*sample, strict=True))
    found = expected_calibration_error(confidence, correct, num_bins=num_bins, counts=COUNTS)
    assert found.value == pytest.approx(loops_ece(confidence, correct, num_bins), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(samples, st.sampled_from(["equal width", "equal mass"]), st.integers(1, 9))
def test_bins_hold_every_item_once_and_give_the_ece(
    sample, binning: Binning, num_bins: int
) -> None:
    confidence, correct = (np.array(column) for column in zip(*sample, strict=True))
    bins = reliability_bins(confidence, correct, num_bins=num_bins, binning=binning)
    assert sum(part.accuracy.n for part in bins) == 12
    assert len(bins) <= num_bins
    gap = sum(
        part.accuracy.n * abs((part.accuracy.value or 0.0) - part.mean_confidence) for part in bins
    )
    found = expected_calibration_error(
        confidence, correct, num_bins=num_bins, binning=binning, counts=COUNTS
    )
    assert found.value == pytest.approx(gap / 12, abs=1e-12)
    for part in bins:
        assert part.low - 1e-15 <= part.mean_confidence <= part.high + 1e-15


def test_bins_of_equal_mass_share_the_items_evenly() -> None:
    confidence = np.random.default_rng(0).beta(5, 1, size=100)
    bins = reliability_bins(confidence, confidence > 0.5, num_bins=4, binning="equal mass")
    assert [part.accuracy.n for part in bins] == [25, 25, 25, 25]
    assert bins[0].accuracy == wilson_interval(int((np.sort(confidence)[:25] > 0.5).sum()), 25)


def test_equal_confidences_share_one_bin() -> None:
    bins = reliability_bins(np.full(20, 0.7), np.arange(20) < 10, num_bins=5, binning="equal mass")
    assert [(part.low, part.high, part.accuracy.n) for part in bins] == [(0.7, 0.7, 20)]


def test_items_without_a_choice_are_left_out() -> None:
    confidence = np.concatenate([np.linspace(0.3, 0.9, 30), [np.nan, np.nan]])
    correct = np.arange(32) % 3 > 0
    counts = resample_counts(32, 199, 0)
    found = expected_calibration_error(confidence, correct, counts=counts)
    alone = expected_calibration_error(confidence[:30], correct[:30], counts=counts[:, :30])
    assert found == alone
    assert found.n == 30
    assert found.method == "15 bins of equal width, basic bootstrap (199 resamples)"
    kept = brier_score_of_choice(confidence[:30], correct[:30])
    assert brier_score_of_choice(confidence, correct) == kept


def test_without_any_confidence_there_is_no_error() -> None:
    nothing, none = np.array([np.nan]), np.array([True])
    assert expected_calibration_error(nothing, none).reason == "no item has a confidence"
    assert reliability_bins(nothing, none) == ()
    assert brier_score_of_choice(nothing, none).reason == "there are no items"


def test_few_items_have_an_error_but_no_interval() -> None:
    found = expected_calibration_error(np.array([0.9, 0.8]), np.array([True, False]))
    assert found.value == pytest.approx(0.45)
    assert found.low is None
    assert found.reason == "2 items are too few for an interval: at least 10 are needed"


def test_resamples_without_variety_give_no_interval() -> None:
    found = expected_calibration_error(np.full(20, 0.75), np.ones(20, dtype=bool))
    assert (found.value, found.low) == (0.25, None)
    assert found.reason == "the resamples are too few or too alike for an interval"


def test_the_interval_of_exact_confidence_starts_at_zero() -> None:
    rng = np.random.default_rng(0)
    counts = resample_counts(300, 500, 1)
    at_zero = 0
    for _ in range(40):
        confidence = rng.beta(4, 2, size=300)
        found = expected_calibration_error(confidence, rng.random(300) < confidence, counts=counts)
        assert found.low is not None
        at_zero += found.low == 0
    assert at_zero >= 37


def test_the_interval_finds_overconfidence() -> None:
    rng = np.random.default_rng(0)
    counts = resample_counts(1_000, 500, 1)
    hits = 0
    for _ in range(60):
        confidence = rng.uniform(0.5, 1.0, size=1_000)
        found = expected_calibration_error(
            confidence, rng.random(1_000) < confidence - 0.15, counts=counts
        )
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.15 <= found.high
    # 54 expected at 90 %; 48 is below the 1 % point.
    assert hits >= 48


def test_brier_scores_are_sums_of_squares() -> None:
    lls = [np.array([-1.0, -2.0]), np.array([-3.0, -1.0, -2.0]), np.array([-1.0, -1.0])]
    correct = np.array([0, 2, -1])
    total = 0.0
    for row, right in list(zip(lls, correct, strict=True))[:2]:
        probs = [math.exp(x) / sum(math.exp(y) for y in row) for x in row]
        total += sum((p - (k == right)) ** 2 for k, p in enumerate(probs))
    found = brier_score(lls, correct)
    assert found.value == pytest.approx(total / 2, rel=1e-12)
    assert found.n == 2
    chosen = brier_score_of_choice(np.array([0.9, 0.6]), np.array([True, False]))
    assert chosen.value == pytest.approx((0.01 + 0.36) / 2, rel=1e-12)


def test_a_brier_score_without_known_answers_is_undefined() -> None:
    found = brier_score([np.zeros(2)], np.array([-1]))
    assert (found.value, found.reason) == (None, "there are no items")


def test_other_numbers_of_items_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^2 confidences for 3 answers$"):
        reliability_bins(np.zeros(2), np.zeros(3, dtype=bool))


def test_an_item_without_a_possible_option_leaves_no_brier_score_but_a_reason() -> None:
    rows = [np.array([-1.0, -2.0]), np.array([np.nan, -1.0]), np.array([-np.inf])]
    found = brier_score(rows, np.array([0, 1, -1]))
    assert (found.value, found.low) == (None, None)
    assert found.reason == "no finite log-likelihood of an option for 1 of 2 items"
