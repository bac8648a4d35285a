"""Levels of looks, and how Holm's procedure divides one among tasks."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.errors import ConfigError
from suite.stats.discordant import exact_interval
from suite.stats.paired import mcnemar
from suite.stats.spending import holm_levels, look_alpha

ITEMS = 200
task_counts = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=6)


def rejected_by_holm(p_values: list[float], alpha: float) -> list[bool]:
    """From small to large against alpha / (tests left), up to the first that fails."""
    is_rejected = [False] * len(p_values)
    ranked = sorted(range(len(p_values)), key=lambda place: p_values[place])
    for step, place in enumerate(ranked):
        if p_values[place] >= alpha / (len(p_values) - step):
            break
        is_rejected[place] = True
    return is_rejected


def test_an_endless_series_spends_no_more_than_its_level() -> None:
    spent = [look_alpha(look) for look in range(1, 20_001)]
    assert spent[0] == pytest.approx(0.05 * 6 / math.pi**2, rel=1e-14)
    assert spent[4] == pytest.approx(spent[0] / 25, rel=1e-14)
    assert 0.04999 < sum(spent) < 0.05


def test_planned_looks_share_the_level() -> None:
    assert [look_alpha(k, alpha=0.1, planned_looks=4) for k in (1, 2, 3, 4)] == [0.025] * 4


@pytest.mark.parametrize(
    ("look", "planned", "message"),
    [
        (0, None, "looks are counted from 1, got 0"),
        (1, 0, "at least one look must be planned, got 0"),
        (
            6,
            5,
            "look 6 is beyond the 5 planned ones, which have spent the whole level: pin a new "
            "reference, or check without planned looks",
        ),
    ],
)
def test_looks_without_a_level_are_refused(look: int, planned: int | None, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        look_alpha(look, planned_looks=planned)
    assert str(error.value) == message


def test_levels_of_a_worked_example() -> None:
    # 0.01 < 0.05 / 3 is rejected, 0.03 stops at 0.05 / 2, and 0.04 is judged there too, although
    # it is below the 0.05 that it would have met.
    assert holm_levels([0.04, 0.01, 0.03], 0.05) == [0.025, 0.05 / 3, 0.025]
    assert holm_levels([0.2], 0.05) == [0.05]
    assert holm_levels([], 0.05) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.sampled_from([0.05, 0.0304, 0.3]))
def test_p_is_below_its_level_exactly_where_holm_rejects(
    p_values: list[float], alpha: float
) -> None:
    below = [p < level for p, level in zip(p_values, holm_levels(p_values, alpha), strict=True)]
    assert below == rejected_by_holm(p_values, alpha)


@settings(max_examples=50, deadline=None)
@given(task_counts, st.sampled_from([0.05, 0.0304, 0.0012]))
def test_the_interval_at_the_level_excludes_zero_exactly_where_holm_rejects(
    counts: list[tuple[int, int]], alpha: float
) -> None:
    p_values = [mcnemar(better, worse) for better, worse in counts]
    is_rejected = rejected_by_holm(p_values, alpha)
    for (better, worse), level, expected in zip(
        counts, holm_levels(p_values, alpha), is_rejected, strict=True
    ):
        low, high = exact_interval(better, worse, ITEMS, level=1 - level)
        assert (high < 0 or low > 0) == expected


@settings(max_examples=30, deadline=None)
@given(task_counts)
def test_no_task_gets_more_than_the_look_or_less_than_its_share(
    counts: list[tuple[int, int]],
) -> None:
    levels = holm_levels([mcnemar(*pair) for pair in counts], 0.05)
    assert all(0.05 / len(counts) <= level <= 0.05 for level in levels)


def test_levels_of_what_is_no_p_value_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^a p-value lies between 0 and 1, got nan$"):
        holm_levels([0.1, math.nan], 0.05)
