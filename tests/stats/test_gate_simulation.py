"""The gate over histories in which nothing changes, and with drops of the size it prints."""

from __future__ import annotations

import numpy as np
import pytest

from suite.records import Estimate
from suite.stats.discordant import exact_interval
from suite.stats.gate_simulation import (
    SimulatedGate,
    false_alarm_rate,
    judge,
    naive_false_alarm_rate,
    power_at_mde,
)
from suite.stats.paired import mcnemar
from suite.stats.spending import holm_levels, look_alpha
from suite.stats.verdict import verdict


def limits(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


def test_two_thousand_unchanging_series_raise_few_false_alarms() -> None:
    rate = false_alarm_rate(SimulatedGate())
    assert rate.n == 2_000
    low, high = limits(rate)
    assert low > 0
    assert high <= 0.06


def test_alarms_both_ways_over_planned_looks_stay_below_the_level_too() -> None:
    gate = SimulatedGate(planned_looks=20)
    rate = false_alarm_rate(gate, num_histories=1_000, alarms=("regressed", "improved"))
    assert limits(rate)[1] <= 0.06


def test_five_tasks_share_a_look_without_more_alarms() -> None:
    gate = SimulatedGate(num_tasks=5, num_items=400)
    rate = false_alarm_rate(gate, num_histories=600, alarms=("regressed", "improved"))
    assert limits(rate)[1] <= 0.06


def test_the_best_run_so_far_as_reference_raises_alarms_in_nearly_every_series() -> None:
    rate = naive_false_alarm_rate(SimulatedGate(), num_histories=400)
    low, high = limits(rate)
    assert low <= 0.95 <= high


@pytest.mark.parametrize("look", [1, 5, 20])
def test_drops_of_the_printed_size_are_found_as_often_as_promised(look: int) -> None:
    low, high = limits(power_at_mde(SimulatedGate(), look))
    assert low <= 0.8 <= high


def test_more_disagreement_after_the_drop_costs_a_little_power() -> None:
    low, high = limits(power_at_mde(SimulatedGate(), 20, keeps_disagreement=False))
    assert low > 0.75
    assert high < 0.82


def test_a_drop_in_one_of_five_tasks_is_found_as_promised() -> None:
    power = power_at_mde(SimulatedGate(num_tasks=5, num_items=500), 5, num_histories=1_000)
    low, high = limits(power)
    assert low <= 0.8 <= high


def test_the_simulation_judges_each_task_as_the_single_functions_do() -> None:
    gate = SimulatedGate(num_items=300, num_tasks=3, margin=0.02)
    rng = np.random.default_rng(5)
    better, worse = rng.integers(0, 60, size=(2, 25, 3))
    found = judge(better, worse, gate, 4)
    assert set(found.flat) >= {"regressed", "improved", "inconclusive"}
    for row in range(25):
        pairs = list(zip(better[row].tolist(), worse[row].tolist(), strict=True))
        levels = holm_levels([mcnemar(*pair) for pair in pairs], look_alpha(4))
        for task, ((won, lost), level) in enumerate(zip(pairs, levels, strict=True)):
            low, high = exact_interval(won, lost, 300, level=1 - level)
            assert found[row, task] == verdict((won - lost) / 300, low, high, 0.02)


def test_the_same_seed_gives_the_same_histories() -> None:
    gate = SimulatedGate(num_looks=3, num_items=100)
    assert power_at_mde(gate, 2, num_histories=50) == power_at_mde(gate, 2, num_histories=50)
    assert false_alarm_rate(gate, num_histories=50) == false_alarm_rate(gate, num_histories=50)


def test_too_few_items_for_any_drop_are_told() -> None:
    with pytest.raises(ValueError, match=r"^5 items are too few to find any drop at level 0.03"):
        power_at_mde(SimulatedGate(num_items=5), 1, num_histories=2)
