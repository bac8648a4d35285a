"""The loss by loops over rows, tokens, chunks and groups, written from its definition."""

from __future__ import annotations

import math

from loss_batches import PlainChunk, PlainRow

from suite.distill.losses.divergences import DIVERGENCES
from suite.distill.signals import LossInputs

NAMES = list(DIVERGENCES)
TEMPERED = [name for name in NAMES if DIVERGENCES[name].has_temperature]
CASES = [(name, tau) for name in TEMPERED for tau in (1.0, 5.0, 100.0)] + [
    ("log_ratio", None),
    ("kl_limit", None),
]
EPSILON = 1e-6


def plain_divergence(name: str, t: float, s: float, tau: float | None, epsilon: float) -> float:
    """One group, from the definition."""
    if name == "log_ratio":
        return abs(t - s)
    if name == "kl_limit":
        t, s = t - epsilon, s - epsilon
        return (t - s) + t * (math.log(-s) - math.log(-t))
    tau = 100.0 if tau is None else tau
    if name == "squared_log_ratio":
        return ((t - s) / tau) ** 2 / 2
    a, b = t / tau - epsilon, s / tau - epsilon
    p, q = math.exp(a), math.exp(b)
    if name == "total_variation":
        return abs(p - q)
    if name == "reverse_kl":
        a, b, p, q = b, a, q, p
    return p * (a - b) + (1 - p) * (math.log(1 - p) - math.log(1 - q))


def plain_groups(row: PlainRow, boundaries: list[list[float]], mode: dict, weights) -> list[list]:
    """The groups of a row that count, each a list of chunks; a walk from left to right."""
    groups: list[list[PlainChunk]] = []
    current: list[PlainChunk] = []
    for chunk in row.chunks:
        if chunk.is_begin:
            if current:
                groups.append(current)
            current = []
            continue
        current.append(chunk)
        probability = sum(
            weight * math.exp(boundary[chunk.spans[1 + m][1] - 1])
            for m, (weight, boundary) in enumerate(zip(weights, boundaries, strict=True))
        )
        if not mode["merge"] or chunk.closes or probability > mode["gamma"]:
            groups.append(current)
            current = []
    if current:
        groups.append(current)
    return [group for group in groups if all(chunk.in_completion for chunk in group)]


def plain_log_prob(
    group: list[PlainChunk], side: int, token: list[float], boundary: list[float], append: bool
) -> float:
    """A side's log-probability of a group, token by token."""
    total = 0.0
    for chunk in group:
        for place in range(*chunk.spans[side]):
            total += token[place]
    if append:
        total += boundary[group[-1].spans[side][1] - 1]
    return min(total, 0.0)


def plain_loss(
    rows: list[PlainRow],
    inputs: LossInputs,
    mode: dict,
    divergence: str,
    tau: float | None,
    weights: tuple[float, ...] = (1.0,),
    epsilon: float = EPSILON,
) -> tuple[float, int]:
    """The loss and the number of groups, from the definitions."""
    total, count = 0.0, 0
    sides = [inputs.student.log_probs, *(signal.log_probs for signal in inputs.teachers)]
    for b, row in enumerate(rows):
        said = [(side.token[b].tolist(), side.boundary[b].tolist()) for side in sides]
        for group in plain_groups(row, [boundary for _, boundary in said[1:]], mode, weights):
            values = [
                plain_log_prob(group, side, *numbers, mode.get("append", True))
                for side, numbers in enumerate(said)
            ]
            mixed = math.log(sum(w * math.exp(t) for w, t in zip(weights, values[1:], strict=True)))
            total += plain_divergence(divergence, mixed, values[0], tau, epsilon)
            count += 1
    return total, count
