"""What an ensemble's members have said of a task's texts, kept for other rules and weights.

Legend: M members, K scored tokens, R texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suite.engine.batching import TokenBudget
from suite.engine.ensembles import (
    Ensemble,
    EnsembleRequest,
    KeptScores,
    OutcomeReader,
    OutcomeReading,
    Participant,
    keep_scores,
)
from suite.engine.scoring import score
from suite.ensemble.kept import renormalised_kept
from suite.ensemble.weights import WeightFit, fit_log_linear, fit_mixture


class KeptStore:
    """What members kept of the requests of one task, for several ensembles of the same members.

    The first ensemble runs the members, whatever its weights; those that follow with the same
    requests run none. `with_contexts` also keeps the prompts' tokens, for ensembles that learn
    their weights from these.
    """

    def __init__(self, *, with_contexts: bool = False) -> None:
        self.with_contexts = with_contexts
        self._found: dict[str, KeptScores] = {}

    def scores(
        self,
        participants: Sequence[Participant],
        requests: Sequence[EnsembleRequest],
        run: Callable[[], KeptScores],
    ) -> KeptScores:
        """What is kept of the requests.

        Args:
            participants: All members.
            requests: The texts.
            run: Makes it if it is not known yet.
        """
        key = _key(participants, requests)
        if key not in self._found:
            self._found[key] = run()
        return self._found[key]


def _key(participants: Sequence[Participant], requests: Sequence[EnsembleRequest]) -> str:
    """Of equal requests to the same members in memory."""
    digest = hashlib.sha256()
    for own in participants:
        outcomes = own.outcomes
        kind = getattr(outcomes, "inner", outcomes)
        digest.update(f"{id(own.member)} {type(kind).__name__}".encode())
        digest.update(outcomes.id_of.cpu().numpy().tobytes())
    numbers: dict[int, int] = {}
    for request in requests:
        parts = [*request.continuations]
        if request.contexts is not None:
            # Many requests share one prompt, which is hashed once.
            is_new = id(request.contexts) not in numbers
            number = numbers.setdefault(id(request.contexts), len(numbers))
            digest.update(f"prompt {number}".encode())
            parts += request.contexts if is_new else []
        for part in parts:
            digest.update(f"{len(part.ids)} {len(part.scored)} ".encode())
            digest.update(part.ids.tobytes() + part.scored.tobytes() + part.targets.tobytes())
    return digest.hexdigest()


class DroppedMass:
    """The probability that each member gives to what the others do not share, over all positions.

    Attributes:
        totals: Sum, largest value and number of positions, float64 [M, 3].
    """

    def __init__(self, num_members: int) -> None:
        self.totals = torch.zeros(num_members, 3, dtype=torch.float64)

    def add(self, m: int, other: Tensor) -> None:
        """Take in log-probabilities of the `other` bin of one member."""
        if other.numel():
            mass = other.double().exp()
            self.totals[m, 0] += mass.sum().cpu()
            self.totals[m, 1] = self.totals[m, 1].maximum(mass.max().cpu())
            self.totals[m, 2] += mass.numel()

    def facts(self, names: Sequence[str]) -> dict[str, Any]:
        """Mean and maximum by member; None before anything was scored."""
        return {
            name: {"mean": float(total / count), "max": float(largest)} if count else None
            for name, (total, largest, count) in zip(names, self.totals.tolist(), strict=True)
        }


def text_totals(
    ensemble: Ensemble, kept: KeptScores, owners: Sequence[int], num_texts: int
) -> list[float]:
    """Log-likelihoods of whole texts under a mixture, from the windows they were scored in.

    A sequence mixture learns over all of a text, across its windows.

    Args:
        ensemble: Members, rule and weights.
        kept: Of all windows.
        owners: The text of each window.
        num_texts: R.
    """
    tokens = _member_tokens(ensemble, kept)
    owner_of = torch.from_numpy(np.repeat(np.array(owners, np.int64), np.diff(kept.offsets)))
    log_weights = ensemble.log_weights[:, None]
    if ensemble.rule.name == "sequence_mixture":
        totals = torch.zeros(len(tokens), num_texts, dtype=torch.float64)
        totals.index_add_(1, owner_of, tokens)
        found = (totals + log_weights).logsumexp(0)
    else:
        found = torch.zeros(num_texts, dtype=torch.float64)
        found.index_add_(0, owner_of, (tokens + log_weights).logsumexp(0))
    return [float(value) for value in found]


def prompt_log_weights(
    ensemble: Ensemble, requests: Sequence[EnsembleRequest], budgets: Sequence[TokenBudget]
) -> Tensor:
    """Log-weights of the members that take part, after each prompt, float64 [M, R]."""
    log_weights = ensemble.log_weights[:, None].expand(-1, len(requests))
    if not ensemble.learns:
        return log_weights
    return (log_weights + _prompt_totals(ensemble, requests, budgets)).log_softmax(0)


def _prompt_totals(
    ensemble: Ensemble, requests: Sequence[EnsembleRequest], budgets: Sequence[TokenBudget]
) -> Tensor:
    """Log-likelihoods of the prompts' shared tokens, of members that take part, float64 [M, R]."""
    rows = []
    for m in ensemble.active:
        own = ensemble.participants[m]
        asked = [request.contexts[m] for request in requests if request.contexts is not None]
        scored = score(own.member, asked, OutcomeReader(own.outcomes), budget=budgets[m])
        nothing = torch.empty(0, dtype=torch.float64)
        token = scored.values.get("token", nothing).double()
        if ensemble.renormalise:
            token = token - torch.log1p(-scored.values.get("other", nothing).double().exp())
        rows.append(_sums(token, scored.offsets))
    return torch.stack(rows)


def fit_to(
    ensemble: Ensemble,
    requests: Sequence[EnsembleRequest],
    budgets: Sequence[TokenBudget],
    on_answer: Callable[[int], None],
) -> WeightFit:
    """Weights that make these continuations most likely under the ensemble's rule.

    A sequence mixture is fitted to whole texts, prompts included where it learns from them.
    """
    num_members = len(ensemble.participants)
    even = replace(ensemble, weights=(1 / num_members,) * num_members)
    if not ensemble.rule.is_mixture:
        rows, _ = even.rows(requests, budgets, on_answer)
        targets = np.concatenate([request.continuations[0].targets for request in requests])
        return fit_log_linear(rows, torch.from_numpy(targets))
    kept = keep_scores(even.participants, requests, budgets, on_answer=on_answer)
    tokens = _member_tokens(even, kept)
    if ensemble.rule.name != "sequence_mixture":
        return fit_mixture(tokens)
    totals = torch.stack([_sums(own, kept.offsets) for own in tokens])
    if ensemble.learns:
        totals += _prompt_totals(even, requests, budgets)
    return fit_mixture(totals)


def _member_tokens(ensemble: Ensemble, kept: KeptScores) -> Tensor:
    """Log-probabilities of the scored tokens, of the members that take part, float64 [M, K]."""
    entries = [kept.entries[m] for m in ensemble.active]
    if ensemble.renormalise:
        entries = [renormalised_kept(own) for own in entries]
    return torch.stack([own.token for own in entries]).double()


def _sums(values: Tensor, offsets: NDArray[np.int64]) -> Tensor:
    """Sums of float64 values between neighbouring offsets."""
    owner = torch.from_numpy(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)))
    return torch.zeros(len(offsets) - 1, dtype=torch.float64).index_add(0, owner, values)


class MeasuredOutcomes:
    """A member's outcomes, with its dropped mass taken down whenever they are computed."""

    def __init__(self, inner: OutcomeReading, m: int, dropped: DroppedMass) -> None:
        self.inner = inner
        self.m = m
        self.dropped = dropped

    @property
    def id_of(self) -> Tensor:
        """The member's entry for each shared token, int64 [N]."""
        return self.inner.id_of

    def to_outcomes(self, log_probs: Tensor) -> Tensor:
        """[n, V] -> [n, O]."""
        outcomes = self.inner.to_outcomes(log_probs)
        self.dropped.add(self.m, outcomes[..., -1])
        return outcomes
