"""How often the gate cries wolf, and how often it finds what it says it can find, by simulation.

A history is a pinned run and a series of checkpoints of one model, all scored on the same items. An
item has a difficulty b ~ N(0, spread); a model of ability a answers it rightly with probability
1 / (1 + exp(b - a)) (the Rasch model), independently of every other answer given the difficulty.
Checkpoints of equal quality have the pinned run's ability, which is one more draw; a worse one has
less ability on every item. What judges them is the code that users get: `exact_intervals`,
`holm_levels`, `look_alpha`, `mde_exact` and `verdict`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from suite.records import Estimate
from suite.stats.discordant import exact_intervals, mcnemar_p_values
from suite.stats.intervals import wilson_interval
from suite.stats.power import mde_exact
from suite.stats.spending import holm_levels, look_alpha
from suite.stats.verdict import Verdict, verdict

# Histories simulated at once: what bounds memory.
BATCH = 100
REGRESSED: frozenset[Verdict] = frozenset({"regressed"})


@dataclass(frozen=True)
class SimulatedGate:
    """A gate and the histories it sees.

    Attributes:
        num_looks: Checkpoints of a history, each checked once.
        num_items: Items of a task.
        num_tasks: Tasks of a look, each with items of its own.
        margin: The gate's margin.
        alpha: The level of the whole series.
        planned_looks: Spend evenly over so many looks; None for the endless series.
        spread: Standard deviation of the items' difficulty, around an ability of 0; 2 gives an
            accuracy of 0.5 and two equally good runs that differ on about 0.26 of the items.
    """

    num_looks: int = 20
    num_items: int = 1_000
    num_tasks: int = 1
    margin: float = 0.0
    alpha: float = 0.05
    planned_looks: int | None = None
    spread: float = 2.0

    def alpha_of(self, look: int) -> float:
        """The level of this look, all its tasks together."""
        return look_alpha(look, alpha=self.alpha, planned_looks=self.planned_looks)


def false_alarm_rate(
    gate: SimulatedGate,
    *,
    num_histories: int = 2_000,
    alarms: Collection[Verdict] = REGRESSED,
    seed: int = 0,
) -> Estimate:
    """Share of histories of equally good checkpoints with an alarm on any task of any look."""
    rng = np.random.default_rng(seed)
    num_false = 0
    for size in _batches(num_histories):
        chance = _chance(_difficulty(gate, size, rng), 0.0)
        pinned = _answers(chance, rng)
        is_alarmed = np.zeros(size, dtype=bool)
        for look in range(1, gate.num_looks + 1):
            better, worse = _discordant(_answers(chance, rng), pinned)
            verdicts = judge(better, worse, gate, look)
            is_alarmed |= np.isin(verdicts, list(alarms)).any(axis=1)
        num_false += int(is_alarmed.sum())
    return wilson_interval(num_false, num_histories)


def naive_false_alarm_rate(
    gate: SimulatedGate, *, num_histories: int = 2_000, seed: int = 0
) -> Estimate:
    """The same for what is often done: one-sided tests at alpha against the best run so far.

    Every task is compared with the run that scored best on it, the pinned one included; no
    correction, no margin.
    """
    rng = np.random.default_rng(seed)
    num_false = 0
    for size in _batches(num_histories):
        chance = _chance(_difficulty(gate, size, rng), 0.0)
        best = _answers(chance, rng)
        is_alarmed = np.zeros(size, dtype=bool)
        for _ in range(gate.num_looks):
            new = _answers(chance, rng)
            better, worse = _discordant(new, best)
            p_values = special.bdtr(better, better + worse, 0.5)
            is_alarmed |= (p_values < gate.alpha).any(axis=1)
            best = np.where((better > worse)[..., None], new, best)
        num_false += int(is_alarmed.sum())
    return wilson_interval(num_false, num_histories)


def power_at_mde(
    gate: SimulatedGate,
    look: int,
    *,
    num_histories: int = 2_000,
    keeps_disagreement: bool = True,
    seed: int = 0,
) -> Estimate:
    """Share of real drops as large as the printed MDE that this look reports as regressed.

    In every history an equally good checkpoint is checked first. The MDE that this check prints is
    then the true drop of another one, on the first task alone; the other tasks stay as good.

    The printed MDE is that at the share of disagreement seen. With `keeps_disagreement` the worse
    checkpoint disagrees with the pinned run as often as an equal one does: it repeats the pinned
    answer on a few items. Without, it loses ability alone and so disagrees a little more often,
    which costs some power.
    """
    rng = np.random.default_rng(seed)
    level = gate.alpha_of(look) / gate.num_tasks
    num_found = 0
    for size in _batches(num_histories):
        difficulty = _difficulty(gate, size, rng)
        chance = _chance(difficulty, 0.0)
        pinned = _answers(chance, rng)
        counts = np.stack(_discordant(_answers(chance, rng), pinned)).sum(axis=0)[:, 0]
        printed = np.array([_mde(count, gate.num_items, level) for count in counts.tolist()])
        ability, repeated = np.zeros((2, size, gate.num_tasks, 1))
        ability[:, 0, 0], repeated[:, 0, 0] = _drop(printed, gate.spread, keeps_disagreement)
        dropped = _answers(_chance(difficulty, ability), rng)
        is_repeated = rng.random(dropped.shape, dtype=np.float32) < repeated
        better, worse = _discordant(np.where(is_repeated, pinned, dropped), pinned)
        num_found += int((judge(better, worse, gate, look)[:, 0] == "regressed").sum())
    return wilson_interval(num_found, num_histories)


def judge(
    better: NDArray[np.int64], worse: NDArray[np.int64], gate: SimulatedGate, look: int
) -> NDArray[np.str_]:
    """The verdicts of one look, from the counts of discordant items.

    Args:
        better: `[H, T]`, items won, of H histories and T tasks.
        worse: `[H, T]`, items lost.
        gate: The gate.
        look: Its number, counted from 1.

    Returns:
        `[H, T]`.
    """
    alpha = gate.alpha_of(look)
    p_values = mcnemar_p_values(better, worse)
    levels = np.array([holm_levels(row, alpha) for row in p_values.tolist()])
    low, high = np.zeros(better.shape), np.zeros(better.shape)
    for level in np.unique(levels):
        here = levels == level
        low[here], high[here] = exact_intervals(
            better[here], worse[here], gate.num_items, level=1 - level
        )
    differences = (better - worse) / gate.num_items
    cells = zip(differences.flat, low.flat, high.flat, strict=True)
    verdicts = [verdict(float(d), float(lo), float(hi), gate.margin) for d, lo, hi in cells]
    return np.array(verdicts).reshape(better.shape)


def _batches(num_histories: int) -> Iterator[int]:
    for start in range(0, num_histories, BATCH):
        yield min(BATCH, num_histories - start)


def _difficulty(gate: SimulatedGate, size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    shape = (size, gate.num_tasks, gate.num_items)
    return np.float32(gate.spread) * rng.standard_normal(shape, dtype=np.float32)


def _chance(
    difficulty: NDArray[np.float32], ability: NDArray[np.float64] | float
) -> NDArray[np.float32]:
    return np.asarray(special.expit(np.float32(ability) - difficulty), dtype=np.float32)


def _answers(chance: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.bool_]:
    return rng.random(chance.shape, dtype=np.float32) < chance


def _discordant(
    new: NDArray[np.bool_], pinned: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`[H, T]` each: items on which only the new run, and only the pinned one, is right."""
    better = (new & ~pinned).sum(axis=-1, dtype=np.int64)
    worse = (pinned & ~new).sum(axis=-1, dtype=np.int64)
    return better, worse


def _mde(num_discordant: int, num_items: int, level: float) -> float:
    printed = mde_exact(num_items, num_discordant / num_items, alpha=level)
    if printed is None:
        raise ValueError(f"{num_items} items are too few to find any drop at level {level}")
    return printed


def _drop(
    size: NDArray[np.float64], spread: float, keeps_disagreement: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ability, and share of repeated answers, of a checkpoint worse by `size` over all items.

    With a share r of repeated answers both the drop and the disagreement shrink by 1 - r: the
    ability is then the one whose drop has the right ratio to its disagreement.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(81)
    weights /= weights.sum()
    abilities = np.linspace(0.0, -20.0, 4_001)
    chances = special.expit(abilities[:, None] - spread * nodes)
    drops = (chances[0] - chances) @ weights
    disagreement = (chances[0] + chances - 2 * chances[0] * chances) @ weights
    if not keeps_disagreement:
        return np.interp(size, drops, abilities), np.zeros(len(size))
    ability = np.interp(size / disagreement[0], drops / disagreement, abilities)
    return ability, 1 - disagreement[0] / np.interp(-ability, -abilities, disagreement)
