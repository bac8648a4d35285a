"""Corrections for many tests against statsmodels and against loops from the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from suite.stats.multiple import benjamini_hochberg, holm, max_t
from suite.stats.resamples import resample_counts

families = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def loops_holm(p_values: list[float]) -> list[float]:
    """Each p-value raised to the largest m_left * p among those not above it."""
    ranked = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    for step, place in enumerate(ranked):
        steps = [(len(ranked) - k) * p_values[ranked[k]] for k in range(step + 1)]
        adjusted[place] = min(1.0, max(steps))
    return adjusted


def loops_benjamini_hochberg(p_values: list[float]) -> list[float]:
    """Each p-value lowered to the smallest m * p / rank among those not below it."""
    ranked = sorted(range(len(p_values)), key=lambda place: p_values[place])
    num = len(ranked)
    adjusted = [0.0] * num
    for step, place in enumerate(ranked):
        adjusted[place] = min(num * p_values[ranked[k]] / (k + 1) for k in range(step, num))
    return adjusted


@settings(max_examples=50, deadline=None)
@given(families)
def test_adjusted_p_values_are_those_of_the_definitions(p_values: list[float]) -> None:
    np.testing.assert_allclose(holm(p_values), loops_holm(p_values), rtol=1e-12)
    expected = loops_benjamini_hochberg(p_values)
    np.testing.assert_allclose(benjamini_hochberg(p_values), expected, rtol=1e-12)


def test_adjusted_p_values_are_those_of_statsmodels() -> None:
    p_values = [*np.random.default_rng(0).beta(0.4, 2, size=20).tolist(), 0.5, 0.5, 1.0, 0.0]
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(holm(p_values), expected, rtol=1e-12)
    expected = multipletests(p_values, method="fdr_bh")[1]
    np.testing.assert_allclose(benjamini_hochberg(p_values), expected, rtol=1e-12)


def test_holm_of_a_worked_example() -> None:
    # Holm's steps by hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04 raised to the one before it.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_an_untested_hypothesis_stays_none_and_does_not_count(adjust) -> None:
    assert adjust([0.01, None, 0.04, None]) == _with_gaps(adjust)
    assert adjust([None, None]) == [None, None]
    assert adjust([]) == []


def _with_gaps(adjust) -> list[float | None]:
    first, second = adjust([0.01, 0.04])
    return [first, None, second, None]


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.5])
def test_what_is_no_p_value_is_refused(adjust, bad: float) -> None:
    with pytest.raises(ValueError, match=f"^a p-value lies between 0 and 1, got {bad}$"):
        adjust([0.5, bad])


def loops_max_t(differences: np.ndarray, counts: np.ndarray) -> list[float]:
    """Step-down maximum of studentised bootstrap means, one resample and hypothesis at a time."""
    num = len(differences)

    def studentised(sample: np.ndarray, centre: float) -> float:
        spread = math.sqrt(sum((x - sample.mean()) ** 2 for x in sample) / len(sample))
        if spread == 0:
            return math.inf
        return abs(sample.mean() - centre) / (spread / math.sqrt(len(sample)))

    observed = [studentised(row, 0.0) for row in differences]
    order = sorted(range(num), key=lambda k: -observed[k])
    null = [
        [studentised(np.repeat(row, drawn), row.mean()) for row in differences] for drawn in counts
    ]
    adjusted, last = [0.0] * num, 0.0
    for step, k in enumerate(order):
        left = order[step:]
        exceeding = sum(max(resample[j] for j in left) >= observed[k] for resample in null)
        last = max(last, (1 + exceeding) / (1 + len(counts)))
        adjusted[k] = last
    return adjusted


def test_max_t_is_the_step_down_maximum_over_shared_resamples() -> None:
    rng = np.random.default_rng(1)
    differences = rng.choice([-1.0, 0.0, 1.0], size=(4, 30))
    differences += np.array([[0.0], [0.3], [0.6], [0.1]])
    counts = resample_counts(30, 99, 1)
    np.testing.assert_allclose(
        max_t(differences, counts), loops_max_t(differences, counts), rtol=1e-12
    )


def test_max_t_leaves_out_what_has_no_spread() -> None:
    rng = np.random.default_rng(1)
    moving = rng.normal(0.2, 1, size=(1, 40))
    counts = resample_counts(40, 199, 2)
    flat = np.zeros((1, 40))
    assert max_t(np.concatenate([flat, moving]), counts) == [None, *max_t(moving, counts)]
    assert max_t(flat, counts) == [None]
    assert max_t(np.zeros((0, 40)), counts) == []


def test_max_t_of_copies_costs_nothing_where_holm_pays() -> None:
    rng = np.random.default_rng(1)
    row = rng.normal(0.4, 1, size=60)
    counts = resample_counts(60, 999, 3)
    (alone,) = max_t(row[None], counts)
    assert alone is not None
    assert max_t(np.stack([row] * 5), counts) == [alone] * 5
    assert holm([alone] * 5) == pytest.approx([min(1.0, 5 * alone)] * 5)


def test_max_t_keeps_its_level_when_nothing_differs() -> None:
    rng = np.random.default_rng(0)
    counts = resample_counts(120, 199, 4)
    num_false = 0
    for _ in range(200):
        common = rng.choice([-1.0, 0.0, 1.0], size=120, p=[0.2, 0.6, 0.2])
        own = rng.choice([-1.0, 0.0, 1.0], size=(6, 120), p=[0.2, 0.6, 0.2])
        adjusted = max_t(np.where(rng.random((6, 120)) < 0.5, common, own), counts)
        num_false += min(p for p in adjusted if p is not None) <= 0.05
    # 10 expected; 19 is the 99.5 % point.
    assert num_false <= 19


def test_max_t_refuses_counts_of_other_items() -> None:
    with pytest.raises(ValueError, match=r"^differences \[k, n\] and counts \[R, n\] are needed"):
        max_t(np.zeros((2, 5)), resample_counts(6, 3, 0))
