"""Agreement of two models against counts and sums by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from suite.stats.agreement import (
    agreement,
    double_fault,
    error_correlation,
    label_loyalty,
    oracle_accuracy,
    pairwise,
    probability_loyalty,
)
from suite.stats.intervals import clustered_interval

RIGHT = np.array([[1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]], dtype=bool)

rows = st.lists(
    st.lists(st.floats(-30, 0), min_size=3, max_size=3).map(np.array), min_size=2, max_size=5
)


def names(*values: str) -> np.ndarray:
    return np.array([value.encode() for value in values], dtype="S8")


def test_agreement_leaves_out_items_that_one_model_did_not_answer() -> None:
    found = agreement(names("a", "b", "", "c", ""), names("a", "c", "x", "c", ""))
    assert (found.value, found.n, found.method) == (2 / 3, 3, "Wilson")
    expected = proportion_confint(2, 3, method="wilson")
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-12)


def test_agreement_without_any_answer_is_undefined() -> None:
    found = agreement(names("", "a"), names("b", ""))
    assert (found.value, found.reason) == (None, "there are no items")


def test_shared_errors_and_the_ceiling_of_all_models() -> None:
    assert double_fault(RIGHT[0], RIGHT[1]).value == 2 / 6
    assert oracle_accuracy(RIGHT[:2]).value == 4 / 6
    assert oracle_accuracy(RIGHT).value == 5 / 6


def loops_phi(first: np.ndarray, second: np.ndarray) -> float:
    """From the four cells: (n11 n00 - n10 n01) over the root of the margins' product."""
    cells = {(a, b): 0 for a in (0, 1) for b in (0, 1)}
    for a, b in zip(first, second, strict=True):
        cells[int(a), int(b)] += 1
    margins = math.prod(
        cells[first_cell] + cells[second_cell]
        for first_cell, second_cell in (
            ((1, 1), (1, 0)),
            ((0, 1), (0, 0)),
            ((1, 1), (0, 1)),
            ((1, 0), (0, 0)),
        )
    )
    return (cells[1, 1] * cells[0, 0] - cells[1, 0] * cells[0, 1]) / math.sqrt(margins)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_the_correlation_of_errors_is_phi(pairs: list[tuple[bool, bool]]) -> None:
    first, second = (np.array(column) for column in zip(*pairs, strict=True))
    found = error_correlation(first, second)
    if first.all() or second.all() or not first.any() or not second.any():
        assert found.value is None
        assert found.reason in ("a model has no errors", "a model has nothing but errors")
        return
    assert found.value == pytest.approx(loops_phi(first, second), abs=1e-12)
    assert error_correlation(second, first).value == pytest.approx(found.value, abs=1e-15)
    if found.low is not None:
        assert found.high is not None
        assert -1 <= found.low <= found.value <= found.high <= 1


def test_the_interval_of_phi_covers_as_it_says() -> None:
    rng = np.random.default_rng(0)
    shared = 0.5  # the second model repeats the first on this share: phi is 0.5
    hits = 0
    for _ in range(400):
        first, other = rng.random((2, 300)) < 0.6
        second = np.where(rng.random(300) < shared, first, other)
        found = error_correlation(first, second)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= shared <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_identical_errors_correlate_perfectly_and_have_no_interval() -> None:
    found = error_correlation(RIGHT[0], RIGHT[0])
    assert (found.value, found.low) == (pytest.approx(1.0), None)
    assert found.reason == "all errors are shared, so nothing varies"
    turned = error_correlation(RIGHT[0], ~RIGHT[0])
    assert turned.value == pytest.approx(-1.0)
    assert turned.reason == "all errors are opposite, so nothing varies"
    assert error_correlation(RIGHT[0][:0], RIGHT[0][:0]).reason == "there are no items"


def loops_loyalty(teacher: list[np.ndarray], student: list[np.ndarray]) -> float:
    """1 - sqrt of the Jensen-Shannon divergence in bits, item by item."""
    total = 0.0
    for first, second in zip(teacher, student, strict=True):
        p = [math.exp(x) / sum(math.exp(y) for y in first) for x in first]
        q = [math.exp(x) / sum(math.exp(y) for y in second) for x in second]
        divergence = 0.0
        for a, b in zip(p, q, strict=True):
            middle = (a + b) / 2
            divergence += a / 2 * math.log2(a / middle) if a else 0
            divergence += b / 2 * math.log2(b / middle) if b else 0
        total += 1 - math.sqrt(max(0.0, divergence))
    return total / len(teacher)


@settings(max_examples=40, deadline=None)
@given(rows, st.randoms(use_true_random=False))
def test_probability_loyalty_is_the_sum_over_options(teacher, random) -> None:
    student = [row + random.uniform(-3, 3) * np.arange(3) for row in teacher]
    found = probability_loyalty(teacher, student)
    assert found.value == pytest.approx(loops_loyalty(teacher, student), abs=1e-7)
    assert probability_loyalty(student, teacher).value == pytest.approx(found.value, abs=1e-9)


def test_equal_distributions_are_wholly_loyal_and_disjoint_ones_not_at_all() -> None:
    teacher = [np.array([-1.0, -2.0]), np.array([-1.0, -2.0, -3.0]), np.array([-4.0, -1.0])]
    shifted = [row - 7.0 for row in teacher]
    assert probability_loyalty(teacher, shifted).value == pytest.approx(1.0, abs=1e-7)
    sure = [np.array([0.0, -np.inf])] * 2
    other = [np.array([-np.inf, 0.0])] * 2
    found = probability_loyalty(sure, other)
    assert (found.value, found.reason) == (0.0, "all 2 values are equal")


def test_label_loyalty_compares_preferred_options() -> None:
    teacher = [np.array([-1.0, -2.0]), np.array([-3.0, -2.0, -9.0]), np.array([-1.0, -1.0])]
    student = [np.array([-5.0, -6.0]), np.array([-1.0, -2.0, -0.5]), np.array([-2.0, -3.0])]
    assert label_loyalty(teacher, student).value == pytest.approx(2 / 3)


def test_other_items_or_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^both models need the same items, got 2 and 3$"):
        agreement(names("a", "b"), names("a", "b", "c"))
    with pytest.raises(ValueError, match=r"^teacher and student need the same items and options$"):
        label_loyalty([np.zeros(2)], [np.zeros(3)])


@pytest.mark.parametrize("row", [[-np.inf, -np.inf], [np.nan, -1.0], []])
def test_an_item_without_a_possible_option_leaves_no_loyalty_but_a_reason(row) -> None:
    models = [np.array([-1.0, -2.0]), np.array(row)]
    for measure in (probability_loyalty, label_loyalty):
        found = measure(models, models)
        assert (found.value, found.low) == (None, None)
        assert found.reason == "no finite log-likelihood of an option for 1 of 2 items"


def test_pairs_of_models_fill_a_symmetric_matrix() -> None:
    matrix = pairwise(list(RIGHT), double_fault)
    for row in range(3):
        for column in range(3):
            found = matrix[row][column]
            if row == column:
                assert found is None
            else:
                assert found == double_fault(RIGHT[row], RIGHT[column])


def test_agreement_on_items_that_share_a_text_has_a_clustered_interval() -> None:
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(20), 5)
    first, second = (np.repeat(rng.integers(0, 2, 20), 5).astype("S1") for _ in range(2))
    found = agreement(first, second, clusters=clusters)
    expected = clustered_interval(first == second, clusters)
    assert (found.low, found.high) == (expected.low, expected.high)
    assert found.high - found.low > agreement(first, second).high - agreement(first, second).low
