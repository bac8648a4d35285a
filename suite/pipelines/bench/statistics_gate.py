"""How often the gate and what is often done instead cry wolf, and what the gate finds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from suite.pipelines.bench.statistics_coverage import Effort
from suite.records import Estimate
from suite.stats.drift import ewma, implausible_jump, standardise
from suite.stats.gate_simulation import (
    SimulatedGate,
    false_alarm_rate,
    naive_false_alarm_rate,
    power_at_mde,
)
from suite.stats.intervals import wilson_interval

MOST_FALSE_ALARMS = 0.06
WANTED_POWER = 0.8
LOOKS = (1, 5, 20)
_BATCH = 100


@dataclass(frozen=True)
class GateRow:
    """A share of simulated histories.

    Attributes:
        measure: `false alarms` or `power`.
        rule: How a checkpoint is judged.
        num_tasks: Of a look.
        look: Of the check, for the power; None for all looks together.
        num_histories: Simulated.
        rate: Share of histories.
        low: Its lower 95 % limit.
        high: Its upper 95 % limit.
        holds: Whether it is what is demanded; None without a demand.
    """

    measure: str
    rule: str
    num_tasks: int
    look: int | None
    num_histories: int
    rate: float
    low: float
    high: float
    holds: bool | None


def gate_rows(effort: Effort, seed: int = 0) -> Iterator[GateRow]:
    """All rows, one at a time."""
    num = effort.histories
    for num_tasks in (1, 5):
        gate = SimulatedGate(num_tasks=num_tasks)
        yield _alarms(
            "gate, margin 0",
            gate,
            false_alarm_rate(gate, num_histories=num, seed=seed),
            demands=True,
        )
        planned = replace(gate, planned_looks=gate.num_looks)
        found = false_alarm_rate(planned, num_histories=num, seed=seed)
        yield _alarms("gate, margin 0, 20 planned looks", planned, found, demands=True)
        wide = replace(gate, margin=0.02)
        yield _alarms(
            "gate, margin 0.02",
            wide,
            false_alarm_rate(wide, num_histories=num, seed=seed),
            demands=True,
        )
        yield _alarms(
            "best run so far", gate, naive_false_alarm_rate(gate, num_histories=num, seed=seed)
        )
        for reference in ("previous", "pinned"):
            found = uncorrected_rate(gate, reference, num_histories=num, seed=seed)
            yield _alarms(f"{reference} run, no correction", gate, found)
    for num_tasks in (1, 5):
        gate = SimulatedGate(num_tasks=num_tasks)
        for look in LOOKS:
            found = power_at_mde(gate, look, num_histories=num, seed=seed)
            yield _row("power", "gate at the MDE it prints", num_tasks, look, found)
    for flag, found in flag_rates(SimulatedGate(), num_histories=num, seed=seed).items():
        yield replace(_row("false flags", flag, 1, None, found), holds=None)


def uncorrected_rate(
    gate: SimulatedGate,
    reference: Literal["previous", "pinned"],
    *,
    num_histories: int,
    seed: int = 0,
) -> Estimate:
    """Share of histories of equally good checkpoints with a false alarm, without any correction.

    Every task of every look is tested against one run, one-sided at the gate's alpha by McNemar's
    exact test.

    Args:
        gate: For looks, items, tasks, alpha and the spread of difficulty.
        reference: Compare with the checkpoint before, or always with the first run.
        num_histories: How many are simulated.
        seed: Of what is drawn.
    """
    rng = np.random.default_rng(seed)
    num_false = 0
    for start in range(0, num_histories, _BATCH):
        shape = (min(_BATCH, num_histories - start), gate.num_tasks, gate.num_items)
        chance = special.expit(gate.spread * rng.standard_normal(shape, dtype=np.float32))
        held = _answers(chance, rng)
        is_alarmed = np.zeros(shape[0], dtype=np.bool_)
        for _ in range(gate.num_looks):
            new = _answers(chance, rng)
            better, worse = (new & ~held).sum(axis=-1), (held & ~new).sum(axis=-1)
            p_values = special.bdtr(better, better + worse, 0.5)
            is_alarmed |= (p_values < gate.alpha).any(axis=1)
            held = new if reference == "previous" else held
        num_false += int(is_alarmed.sum())
    return wilson_interval(num_false, num_histories)


def flag_rates(gate: SimulatedGate, *, num_histories: int, seed: int = 0) -> dict[str, Estimate]:
    """Share of histories of equally good checkpoints of one task with a flag at any look.

    Args:
        gate: For looks, items and the spread of difficulty.
        num_histories: How many are simulated.
        seed: Of what is drawn.
    """
    rng = np.random.default_rng(seed)
    num_flagged = {"slow drift": 0, "implausible jump": 0}
    for _ in range(num_histories):
        difficulty = rng.standard_normal(gate.num_items, dtype=np.float32)
        chance = special.expit(gate.spread * difficulty)
        runs = _answers(np.broadcast_to(chance, (gate.num_looks + 1, gate.num_items)), rng)
        differences = runs[1:].astype(np.float64) - runs[0]
        found = standardise(differences)
        points = ewma(found.values, correlation=found.correlation)
        num_flagged["slow drift"] += any(point.is_flagged for point in points)
        errors = differences.std(axis=1, ddof=1) / math.sqrt(gate.num_items)
        pairs = zip(differences.mean(axis=1).tolist(), errors.tolist(), strict=True)
        num_flagged["implausible jump"] += any(implausible_jump(*pair) for pair in pairs)
    return {flag: wilson_interval(num, num_histories) for flag, num in num_flagged.items()}


def _answers(chance: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.bool_]:
    return rng.random(chance.shape, dtype=np.float32) < chance


def _alarms(rule: str, gate: SimulatedGate, found: Estimate, *, demands: bool = False) -> GateRow:
    row = _row("false alarms", rule, gate.num_tasks, None, found)
    return replace(row, holds=row.high <= MOST_FALSE_ALARMS if demands else None)


def _row(measure: str, rule: str, num_tasks: int, look: int | None, found: Estimate) -> GateRow:
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    reaches = found.high >= WANTED_POWER
    return GateRow(
        measure, rule, num_tasks, look, found.n, found.value, found.low, found.high, reaches
    )
