"""Weights of an ensemble: checked, or fitted to what the members predict on a development split.

Both fits climb a concave function to its global maximum and stop when a bound on what is left to
gain falls below `TOLERANCE` nats an item.

Legend: M members, K items (tokens, pieces or whole texts), O outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from suite.ensemble.config import weights_problem
from suite.errors import ConfigError

TOLERANCE = 1e-6
MAX_STEPS = 10_000

# Of an Armijo rule: the share of the promised gain that a step has to bring.
_SUFFICIENT = 1e-4
_MAX_HALVINGS = 40
_BLOCK_ENTRIES = 1 << 22
_LEAST_TURN = 1e-300


@dataclass(frozen=True)
class WeightFit:
    """Weights and how they were found.

    Attributes:
        weights: Of each member; at least 0, sum to 1.
        log_likelihood: Of all items that took part, in nats.
        num_items: How many took part: those that every member (log-linear) or any member (mixture)
            holds possible. No weights change the others.
        num_steps: Steps taken.
        converged: Whether the mean log-likelihood is within `TOLERANCE` of its maximum.
    """

    weights: tuple[float, ...]
    log_likelihood: float
    num_items: int
    num_steps: int
    converged: bool


def check_weights(weights: Sequence[float], num_members: int, name: str) -> None:
    """Check that weights are a distribution over the members of the ensemble `name`.

    Raises:
        ConfigError: One is missing, too many, negative or no number, or they do not sum to 1.
    """
    problem = weights_problem(weights, num_members)
    if problem is not None:
        raise ConfigError(f"ensemble '{name}': weights: {problem}")


def fit_mixture(log_probs: Tensor) -> WeightFit:
    """The weights that maximise sum_k log sum_m w_m e^(log_probs[m, k]), by EM from equal weights.

    For a mixture of tokens the items are tokens, for a mixture of whole texts they are texts (with
    their contexts where the posterior starts there), for `word_mixture` they are pieces.

    Args:
        log_probs: Each member's log-probability of each item, [M, K].
    """
    items = log_probs.double().cpu()
    items = items[:, ~items.isneginf().all(0)]
    weights = torch.full((len(items),), 1 / len(items), dtype=torch.float64)
    num_items = items.shape[1]
    if not num_items:
        return _fit(weights, 0.0, 0, 0, converged=True)
    largest = items.amax(0)
    relative = (items - largest).exp()
    num_steps = 0
    # Of the mean log-likelihood: at most its largest entry less 1 is left to gain.
    gradient = (relative / (weights @ relative)).mean(1)
    while gradient.max() > 1 + TOLERANCE and num_steps < MAX_STEPS:
        weights = weights * gradient
        weights = weights / weights.sum()
        gradient = (relative / (weights @ relative)).mean(1)
        num_steps += 1
    value = float((weights @ relative).log().sum() + largest.sum())
    converged = bool(gradient.max() <= 1 + TOLERANCE)
    return _fit(weights, value, num_items, num_steps, converged=converged)


def fit_log_linear(rows: Tensor, targets: Tensor) -> WeightFit:
    """The weights of `mean_log_probs` that maximise the likelihood of the realised outcomes.

    Exponentiated gradient from equal weights: the logarithms of the weights move along the
    gradient, by a step that follows from the last two gradients (Barzilai and Borwein) and is
    halved until the likelihood rises enough.

    Args:
        rows: Each member's log-probabilities of all outcomes, [M, K, O].
        targets: The realised outcomes, int64 [K].
    """
    num_members = len(rows)
    realised = rows.gather(2, targets.expand(num_members, -1)[..., None])[..., 0].double()
    is_possible = ~realised.isneginf().any(0)
    places = is_possible.nonzero().flatten()
    problem = _LogLinear(rows, places, realised[:, is_possible])
    start = rows.new_zeros(num_members, dtype=torch.float64).log_softmax(0)
    if not len(places):
        return _fit(start.exp(), 0.0, 0, 0, converged=True)
    best = problem.at(start)
    size, num_steps = 1.0, 0
    while best.gap > TOLERANCE and num_steps < MAX_STEPS:
        climbed = _climb(problem, best, size)
        if climbed is None:
            break
        size = _next_size(best, climbed)
        best = climbed
        num_steps += 1
    value = best.value * len(places)
    return _fit(best.weights, value, len(places), num_steps, converged=best.gap <= TOLERANCE)


@dataclass(frozen=True, eq=False)
class _Point:
    """Log-weights, and the mean log-likelihood there with its gradient by the weights; [M] each."""

    log_weights: Tensor
    value: float
    gradient: Tensor

    @property
    def weights(self) -> Tensor:
        return self.log_weights.exp()

    @property
    def gap(self) -> float:
        """At most this is left to gain, because the function is concave."""
        return float(self.gradient.max() - self.weights @ self.gradient)


@dataclass(frozen=True, eq=False)
class _LogLinear:
    """The mean log-likelihood of a log-linear mixture.

    Attributes:
        rows: [M, K, O].
        places: The rows that take part, int64 [R].
        realised: Log-probabilities of the realised outcomes, float64 [M, R].
    """

    rows: Tensor
    places: Tensor
    realised: Tensor

    def at(self, log_weights: Tensor) -> _Point:
        """Value and gradient, a block of rows at a time."""
        num_members, _, num_outcomes = self.rows.shape
        weights = log_weights.exp()
        block = max(1, _BLOCK_ENTRIES // (num_members * num_outcomes))
        log_normalisers = 0.0
        expected = torch.zeros_like(weights)
        for first in range(0, len(self.places), block):
            rows = self.rows[:, self.places[first : first + block]].double()
            is_empty = rows.isneginf().any(0)
            rows.masked_fill_(is_empty, 0)
            scores = torch.einsum("m,mko->ko", weights, rows).masked_fill_(is_empty, -torch.inf)
            largest = scores.amax(1)
            probs = scores.sub_(largest[:, None]).exp_()
            sums = probs.sum(1)
            log_normalisers += float((largest + sums.log()).sum())
            expected += torch.einsum("ko,mko->m", probs.div_(sums[:, None]), rows)
        num_rows = len(self.places)
        value = float((weights @ self.realised).sum() - log_normalisers) / num_rows
        return _Point(log_weights, value, (self.realised.sum(1) - expected) / num_rows)


def _climb(problem: _LogLinear, here: _Point, size: float) -> _Point | None:
    """A higher point along the exponentiated gradient; None where rounding hides any gain."""
    for _ in range(_MAX_HALVINGS):
        there = problem.at((here.log_weights + size * here.gradient).log_softmax(0))
        promised = float(here.gradient @ (there.weights - here.weights))
        if there.value >= here.value + _SUFFICIENT * promised:
            return there
        size /= 2
    return None


def _next_size(before: _Point, after: _Point) -> float:
    """Barzilai and Borwein's step: the last move, over how much the gradient turned along it."""
    moved = after.weights - before.weights
    turned = float(moved @ (before.gradient - after.gradient))
    return float(moved @ (after.log_weights - before.log_weights)) / max(turned, _LEAST_TURN)


def _fit(
    weights: Tensor, log_likelihood: float, num_items: int, num_steps: int, *, converged: bool
) -> WeightFit:
    return WeightFit(tuple(weights.tolist()), log_likelihood, num_items, num_steps, converged)
