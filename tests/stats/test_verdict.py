"""The rule from interval and margin to verdict."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.stats.discordant import exact_interval
from suite.stats.verdict import Verdict, verdict


@pytest.mark.parametrize(
    ("difference", "low", "high", "margin", "expected"),
    [
        (-0.03, -0.05, -0.01, 0.02, "regressed"),
        (-0.02, -0.03, -0.01, 0.02, "regressed"),  # exactly the margin
        (0.03, 0.01, 0.05, 0.02, "improved"),
        (0.02, 0.01, 0.05, 0.02, "improved"),
        (-0.01, -0.015, -0.005, 0.02, "pass"),  # real but small
        (-0.01, -0.03, -0.001, 0.02, "inconclusive"),  # real, small so far, could be large
        (0.0, -0.01, 0.01, 0.02, "pass"),
        (0.0, -0.02, 0.02, 0.02, "inconclusive"),  # a drop as large as the margin is not excluded
        (-0.03, -0.06, 0.0, 0.02, "inconclusive"),  # 0 itself is not excluded
        (0.05, -0.01, 0.11, 0.02, "pass"),
        (0.01, 0.005, 0.015, 0.02, "pass"),
        (-0.001, -0.002, -0.0005, 0.0, "regressed"),
        (0.001, 0.0005, 0.002, 0.0, "improved"),
        (0.0, -0.01, 0.01, 0.0, "inconclusive"),
    ],
)
def test_the_rule(
    difference: float, low: float, high: float, margin: float, expected: Verdict
) -> None:
    assert verdict(difference, low, high, margin) == expected


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from([0.0, 0.02, 0.1]))
def test_swapping_the_models_turns_regressions_into_improvements(
    better: int, worse: int, margin: float
) -> None:
    low, high = exact_interval(better, worse, 200, level=0.97)
    d = (better - worse) / 200
    forth, back = verdict(d, low, high, margin), verdict(-d, -high, -low, margin)
    assert (forth == "regressed") == (back == "improved")
    assert (forth == "improved") == (back == "regressed")
    if forth == "inconclusive":
        assert low <= -margin
    if margin == 0:
        assert forth != "pass"


def test_a_negative_margin_and_limits_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^a margin is 0 or more, got -0.1$"):
        verdict(0.0, -0.1, 0.1, -0.1)
    with pytest.raises(
        ValueError, match=r"^a difference and its limits are needed, got 0.1, 0.2, 0"
    ):
        verdict(0.1, 0.2, 0.1, 0.0)
    with pytest.raises(ValueError, match=r"^a difference and its limits are needed, got nan, -0.1"):
        verdict(math.nan, -0.1, 0.1, 0.0)


def test_an_interval_that_misses_a_skewed_difference_still_decides() -> None:
    assert verdict(0.1, 0.2, 0.3, 0.0) == "improved"
    assert verdict(-0.1, 0.2, 0.3, 0.0) == "pass"
