"""What a test says, in one word."""

from __future__ import annotations

import pytest

from suite.records import Comparison, Estimate
from suite.report.compare_record import outcome_of


def comparison(
    difference: float | None, p_value: float | None, p_adjusted: float | None = None
) -> Comparison:
    estimate = Estimate(difference, None, None, 0.95, 10, "t")
    return Comparison(estimate, p_value, "t", True, p_adjusted=p_adjusted)


@pytest.mark.parametrize(
    ("difference", "higher_is_better", "expected"),
    [
        (0.1, True, "better"),
        (-0.1, True, "worse"),
        (0.1, False, "worse"),
        (-0.1, False, "better"),
        (0.1, None, "higher"),
        (-0.1, None, "lower"),
    ],
)
def test_a_significant_difference_is_told_in_the_metrics_direction(
    difference: float, higher_is_better: bool | None, expected: str
) -> None:
    found = comparison(difference, 0.01)
    assert outcome_of(found, higher_is_better=higher_is_better, level=0.95) == expected


def test_the_corrected_p_value_decides_where_there_is_one() -> None:
    found = comparison(0.1, 0.01, 0.06)
    assert outcome_of(found, higher_is_better=True, level=0.95) == "no difference"
    assert outcome_of(found, higher_is_better=True, level=0.9) == "better"


def test_a_p_value_at_the_level_itself_is_no_difference() -> None:
    assert outcome_of(comparison(0.1, 0.5), higher_is_better=True, level=0.5) == "no difference"


@pytest.mark.parametrize("found", [comparison(0.1, None), comparison(None, 0.01)])
def test_without_a_test_nothing_is_said(found: Comparison) -> None:
    assert outcome_of(found, higher_is_better=True, level=0.95) == "not tested"
