"""The moving average over looks: its recursion, its limits, and how often it flags for nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from suite.stats.drift import ewma, implausible_jump, standardise

values = st.lists(st.floats(-5, 5), min_size=1, max_size=12)


def history(rng: np.random.Generator, num_looks: int, loss: float, repeats: float = 0.0):
    """Differences `[K, 500]` to a pinned run; each look loses ability, and may repeat the last."""
    difficulty = 2 * rng.standard_normal(500)
    pinned = rng.random(500) < special.expit(-difficulty)
    rows, last = [], pinned
    for look in range(num_looks):
        new = rng.random(500) < special.expit(-loss * (look + 1) - difficulty)
        last = np.where(rng.random(500) < repeats, last, new) if look else new
        rows.append(last.astype(np.float64) - pinned)
    return np.array(rows)


def flagged(differences: np.ndarray, correlation: float | None = None) -> bool:
    found = standardise(differences)
    used = found.correlation if correlation is None else correlation
    return any(point.is_flagged for point in ewma(found.values, correlation=used))


@settings(max_examples=50, deadline=None)
@given(values)
def test_the_average_follows_its_recursion(z: list[float]) -> None:
    average = 0.0
    for value, point in zip(z, ewma(z), strict=True):
        average = 0.2 * value + 0.8 * average
        assert point.average == pytest.approx(average, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(values, st.floats(0.05, 1), st.floats(1, 4))
def test_limits_of_independent_looks_are_the_textbook_ones(
    z: list[float], weight: float, width: float
) -> None:
    points = ewma(z, correlation=0.0, weight=weight, width=width)
    for look, point in enumerate(points, start=1):
        variance = weight / (2 - weight) * (1 - (1 - weight) ** (2 * look))
        assert point.limit == pytest.approx(width * math.sqrt(variance), rel=1e-9)


def test_limits_of_looks_that_share_the_pinned_run_are_wider() -> None:
    for look, point in enumerate(ewma([0.0] * 20), start=1):
        alone = 0.2 / 1.8 * (1 - 0.8 ** (2 * look))
        shared = (1 - 0.8**look) ** 2
        assert point.limit == pytest.approx(3 * math.sqrt((alone + shared) / 2), rel=1e-9)


def test_standardised_differences_are_in_standard_errors() -> None:
    differences = history(np.random.default_rng(0), 3, 0.1)
    found = standardise(differences)
    for row, value in zip(differences, found.values, strict=True):
        stderr = math.sqrt(sum((x - row.mean()) ** 2 for x in row) / 499 / 500)
        assert value == pytest.approx(row.mean() / stderr, rel=1e-12)
    np.testing.assert_allclose(found.correlation, np.corrcoef(differences), rtol=1e-12)


def test_looks_without_a_difference_stand_still() -> None:
    rows = np.zeros((3, 10))
    rows[1, :4] = -1.0
    rows[2] = -1.0  # every item lost: no spread to measure it by
    found = standardise(rows)
    assert found.values[0] == 0.0
    assert found.values[2] is None
    points = ewma(found.values, correlation=found.correlation)
    assert (points[0].average, points[0].limit, points[0].is_flagged) == (0.0, 0.0, False)
    assert points[2] == points[1]
    (unknown,) = ewma([None])
    assert (unknown.average, unknown.limit, unknown.is_flagged) == (None, None, False)


def test_unchanging_series_are_seldom_flagged() -> None:
    rng = np.random.default_rng(1)
    for repeats in (0.0, 0.8):
        num_flagged = sum(flagged(history(rng, 20, 0.0, repeats)) for _ in range(150))
        # About 1 in 80; 7 of 150 would be a surprise of one in a thousand.
        assert num_flagged < 7


def test_limits_for_independent_looks_would_cry_wolf() -> None:
    rng = np.random.default_rng(2)
    assert sum(flagged(history(rng, 20, 0.0), 0.0) for _ in range(60)) > 6


def test_a_slow_loss_is_flagged_downwards() -> None:
    rng = np.random.default_rng(3)
    assert sum(flagged(history(rng, 20, 0.05)) for _ in range(30)) >= 27
    found = standardise(history(rng, 20, 0.05))
    last = ewma(found.values, correlation=found.correlation)[-1]
    assert last.average is not None
    assert last.average < 0


def test_a_correlation_of_other_looks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^3 looks need a correlation of their number, got \(2, "):
        ewma([0.0, 0.0, 0.0], correlation=np.eye(2))


@pytest.mark.parametrize(
    ("difference", "stderr", "expected"),
    [
        (0.26, 0.1, "a jump up by 0.26, more than 0.25"),
        (-0.4, None, "a jump down by 0.4, more than 0.25"),
        (-0.09, 0.01, "a jump down by 9.0 standard errors, more than 8"),
        (0.09, 0.01, "a jump up by 9.0 standard errors, more than 8"),
        (0.2, 0.05, None),
        (0.2, None, None),
        (0.0, 0.0, None),
    ],
)
def test_jumps_beyond_what_training_does_are_told(
    difference: float, stderr: float | None, expected: str | None
) -> None:
    assert implausible_jump(difference, stderr) == expected


def test_the_scale_says_nothing_about_metrics_without_one() -> None:
    assert implausible_jump(-3.0, 0.5, is_unit_interval=False) is None
    assert implausible_jump(-3.0, 0.3, is_unit_interval=False) is not None
