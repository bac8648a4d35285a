"""The gate's verdicts against plain loops, and what must not depend on how things are told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gated_items import binary_pair, exact_p, items_of, pair_of
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.stats.discordant import exact_interval
from suite.stats.gate_simulation import SimulatedGate
from suite.stats.gate_simulation import judge as simulated
from suite.stats.power import mde_exact
from suite.stats.spending import look_alpha
from suite.track.regress import IDENTICAL, TaskPair, judge, overall


def holm_rejects(p_values: list[float], alpha: float) -> list[bool]:
    """Holm's procedure, step by step as in the textbook."""
    rejected = [False] * len(p_values)
    left = list(range(len(p_values)))
    while left:
        smallest = min(left, key=lambda place: p_values[place])
        if not p_values[smallest] < alpha / len(left):
            break
        rejected[smallest] = True
        left.remove(smallest)
    return rejected


def word_of(difference: float, low: float, high: float, margin: float) -> str:
    """The rule of the gate, of a difference turned so that more is better."""
    if high < 0 and difference <= -margin:
        return "regressed"
    if low > 0 and difference >= margin:
        return "improved"
    return "pass" if low > -margin else "inconclusive"


COUNTS = [(3, 40), (12, 30), (20, 21), (50, 9), (0, 0)]


@pytest.mark.parametrize("look", [1, 3, 20])
@pytest.mark.parametrize("margin", [0.0, 0.02, 0.1])
def test_verdicts_follow_from_the_exact_interval_at_holms_level(look: int, margin: float) -> None:
    alpha = look_alpha(look)
    assert alpha == pytest.approx(0.05 * 6 / (math.pi**2 * look**2), rel=1e-15)
    pairs = [binary_pair(500, b, c, margin=margin, task=f"t{b}") for b, c in COUNTS]
    results = judge(pairs, alpha)
    p_values = [exact_p(b, c) for b, c in COUNTS]
    rejected = holm_rejects(p_values, alpha)
    for (better, worse), found, p_value, is_rejected in zip(
        COUNTS, results, p_values, rejected, strict=True
    ):
        difference = (better - worse) / 500
        low, high = exact_interval(better, worse, 500, level=1 - found.level)
        assert found.p_value == pytest.approx(p_value, rel=1e-12)
        assert (found.num_better, found.num_worse) == (better, worse)
        assert (found.low, found.high) == (low, high)
        assert ((low > 0) or (high < 0)) == is_rejected
        assert found.verdict == word_of(difference, low, high, margin)
        assert found.mde == mde_exact(500, (better + worse) / 500, alpha=1.0 - (1 - found.level))


@pytest.mark.parametrize("look", [1, 4])
def test_the_gate_that_is_simulated_is_this_one(look: int) -> None:
    gate = SimulatedGate(num_items=300, num_tasks=3, margin=0.02)
    rng = np.random.default_rng(0)
    better, worse = rng.integers(0, 45, (2, 15, 3))
    expected = simulated(better, worse, gate, look)
    for row, (won, lost) in enumerate(zip(better, worse, strict=True)):
        pairs = [
            binary_pair(300, b, c, margin=0.02)
            for b, c in zip(won.tolist(), lost.tolist(), strict=True)
        ]
        found = [result.verdict for result in judge(pairs, look_alpha(look))]
        assert found == expected[row].tolist()
    assert len(set(expected.ravel().tolist())) >= 3


def test_less_is_better_turns_the_verdict_but_not_the_difference() -> None:
    up = judge([binary_pair(500, 60, 5)], 0.05)[0]
    new, old = binary_pair(500, 60, 5).new, binary_pair(500, 60, 5).pinned
    down = judge(
        [pair_of(items_of(new.values, better=False), items_of(old.values, better=False))], 0.05
    )
    assert (up.verdict, down[0].verdict) == ("improved", "regressed")
    assert up.difference == down[0].difference == pytest.approx(55 / 500)
    assert (down[0].num_better, down[0].num_worse) == (5, 60)


def bits_pair(new: list[float], old: list[float], weights: list[float]) -> TaskPair:
    facts = {"aggregation": "bits_per_byte", "weights": np.array(weights), "better": False}
    return pair_of(items_of(new, **facts), items_of(old, **facts))


def test_a_ratio_metric_is_judged_by_the_delta_method() -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(50, 400, 60).astype(float)
    old = -weights * rng.uniform(0.5, 0.9, 60)
    new = old - weights * rng.normal(0.01, 0.02, 60)
    found = judge([bits_pair(list(new), list(old), list(weights))], 1e-4)[0]
    # By hand: influences of sum(v) / sum(w), then t with n - 1 degrees of freedom.
    total = float(sum(weights))
    terms = []
    for v_new, v_old, w in zip(new, old, weights, strict=True):
        r_new, r_old = -sum(new) / total, -sum(old) / total
        terms.append(((-v_new - r_new * w) - (-v_old - r_old * w)) / total / math.log(2))
    stderr = math.sqrt(60 / 59 * sum(term**2 for term in terms))
    difference = (-sum(new) + sum(old)) / total / math.log(2)
    from scipy import stats

    half = stats.t.isf(1e-4 / 2, 59) * stderr
    assert found.difference == pytest.approx(difference, rel=1e-9)
    assert found.low == pytest.approx(difference - half, rel=1e-9)
    assert found.high == pytest.approx(difference + half, rel=1e-9)


def test_the_same_likelihoods_to_the_last_bit_pass_although_they_have_no_interval() -> None:
    values, weights = [-10.0, -20.0, -31.5], [5.0, 11.0, 17.0]
    found = judge([bits_pair(values, values, weights)], 0.05)[0]
    assert (found.verdict, found.low, found.high) == ("pass", None, None)
    assert found.reason == IDENTICAL


def test_equal_differences_without_a_spread_are_inconclusive_with_the_reason() -> None:
    pair = pair_of(items_of([0.5, 0.7, 0.9]), items_of([0.25, 0.45, 0.65]))
    found = judge([pair], 0.05)[0]
    assert (found.verdict, found.low, found.mde) == ("inconclusive", None, None)
    assert found.reason == "all 3 values are equal"


def test_a_jump_of_half_the_scale_is_a_flag_and_no_verdict() -> None:
    jump = judge([binary_pair(100, 60, 0)], 0.05)[0]
    assert jump.verdict == "improved"
    assert jump.flags == ("implausible: a jump up by 0.6, more than 0.25",)


def test_the_gravest_verdict_names_the_look() -> None:
    assert overall(["pass", "improved", "inconclusive", "regressed"]) == "regressed"
    assert overall(["pass", "improved", "inconclusive"]) == "inconclusive"
    assert overall(["pass", "improved"]) == "improved"
    assert overall(["pass"]) == "pass"


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=5))
def test_the_order_of_tasks_changes_nothing(counts: list[tuple[int, int]]) -> None:
    pairs = [binary_pair(100, b, c, task=str(place)) for place, (b, c) in enumerate(counts)]
    forth, back = judge(pairs, 0.01), judge(pairs[::-1], 0.01)
    assert {r.task: r.verdict for r in forth} == {r.task: r.verdict for r in back}


@settings(max_examples=25)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 30))
def test_a_later_look_never_claims_what_an_earlier_one_does_not(b: int, c: int, look: int) -> None:
    pair = binary_pair(200, b, c)
    early, late = (judge([pair], look_alpha(k))[0] for k in (look, look + 1))
    assert late.verdict in (early.verdict, "inconclusive")
