"""Which look a check is, and every way to spend the error rate twice."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.errors import ConfigError
from suite.track.looks import Spending, which_look


def check(look: int, checkpoint: str, alpha: float = 0.05, planned: Any = None) -> dict[str, Any]:
    return {"look": look, "checkpoint": checkpoint, "alpha": alpha, "planned_looks": planned}


CHECKS = [check(1, "a"), check(2, "b")]


def test_a_new_checkpoint_is_the_next_look_and_an_old_one_its_own() -> None:
    assert which_look([], "a", Spending(), None) == 1
    assert which_look(CHECKS, "c", Spending(), None) == 3
    assert which_look(CHECKS, "a", Spending(), None) == 1
    assert which_look(CHECKS, "b", Spending(), 2) == 2
    assert which_look(CHECKS, "c", Spending(), 7) == 7
    assert which_look([check(7, "a")], "b", Spending(), None) == 8


@pytest.mark.parametrize(
    ("checkpoint", "spending", "given", "said"),
    [
        (
            "c",
            Spending(),
            1,
            "--look is 1, but 2 looks of the series are over already; leave --look out, the store"
            " counts",
        ),
        (
            "a",
            Spending(),
            2,
            "--look is 2, but this checkpoint was look 1 of the series; leave --look out, the store"
            " counts",
        ),
        (
            "c",
            Spending(0.1),
            None,
            "look 1 of the series was taken with --alpha 0.05, this one is with --alpha 0.1; a"
            " mixture keeps no error rate, give the same options, or pin another run to begin"
            " again",
        ),
        (
            "a",
            Spending(planned_looks=4),
            None,
            "look 1 of the series was taken with --alpha 0.05, this one is with --alpha 0.05"
            " --planned-looks 4; a mixture keeps no error rate, give the same options, or pin"
            " another run to begin again",
        ),
    ],
)
def test_misuse_is_one_sentence(
    checkpoint: str, spending: Spending, given: int | None, said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        which_look(CHECKS, checkpoint, spending, given)
    assert str(error.value) == said


def test_a_look_beyond_the_planned_ones_is_refused() -> None:
    assert Spending(0.05, 4).of_look(4) == 0.05 / 4
    with pytest.raises(ConfigError) as error:
        Spending(0.05, 4).of_look(5)
    assert str(error.value) == (
        "look 5 is beyond the 4 of --planned-looks, whose error rate is spent; pin another run to"
        " begin again"
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Spending(0.0), "--alpha is 0, expected between 0 and 1"),
        (lambda: Spending(1.0), "--alpha is 1, expected between 0 and 1"),
        (lambda: Spending(math.nan), "--alpha is nan, expected between 0 and 1"),
        (lambda: Spending(0.05, 0), "--planned-looks is 0, expected at least 1"),
        (lambda: Spending().of_look(0), "--look is 0, expected at least 1"),
    ],
)
def test_a_wrong_number_is_one_sentence(make: Any, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert str(error.value) == said


@given(st.lists(st.sampled_from("abcdefgh"), max_size=30))
def test_whatever_is_checked_again_the_levels_of_all_checkpoints_sum_to_at_most_alpha(
    order: list[str],
) -> None:
    checks: dict[str, dict[str, Any]] = {}
    for checkpoint in order:
        look = which_look(list(checks.values()), checkpoint, Spending(), None)
        assert checks.setdefault(checkpoint, check(look, checkpoint))["look"] == look
    assert sorted(c["look"] for c in checks.values()) == list(range(1, len(checks) + 1))
    assert sum(Spending().of_look(c["look"]) for c in checks.values()) < 0.05
