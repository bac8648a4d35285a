"""What an ensemble's members have said of a task's texts, kept for other rules and weights.

Legend: M members that take part, K scored tokens, R texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suite.engine.batching import TokenBudget
from suite.engine.ensembles import (
    Ensemble,
    EnsembleRequest,
    KeptScores,
    Participant,
    keep_scores,
    sums_between,
    targets_of,
)
from suite.ensemble.kept import renormalised_kept
from suite.ensemble.weights import WeightFit, fit_log_linear, fit_mixture
from suite.errors import ConfigError

# Numbers of whole distributions that a fit may hold: 4.3 GB of float32.
_MAX_FITTED = 2**30


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
        digest.update(f"{id(own.member)} {type(own.outcomes).__name__}".encode())
        digest.update(own.outcomes.id_of.cpu().numpy().tobytes())
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
    """The probability that members give to what the others do not share, over scored tokens.

    Attributes:
        totals: Of every member, sum, largest value and number of tokens, float64 [members, 3].
    """

    def __init__(self, num_members: int) -> None:
        self.totals = torch.zeros(num_members, 3, dtype=torch.float64)
        self._of_all_ranks = self.totals

    def clear(self) -> None:
        """Begin anew."""
        self.totals.zero_()
        self._of_all_ranks = self.totals

    def add(self, members: Sequence[int], other: Tensor) -> None:
        """Take in some members' log-probabilities of `other`, [M, some]."""
        if other.numel():
            mass = other.double().exp()
            rows = list(members)
            self.totals[rows, 0] += mass.sum(dim=1)
            self.totals[rows, 1] = self.totals[rows, 1].maximum(mass.amax(dim=1))
            self.totals[rows, 2] += mass.shape[1]

    def share(self, all_gather: Callable[[Tensor], Tensor]) -> None:
        """Learn what all ranks have taken in; each of them has to call it."""
        found = all_gather(self.totals[None]).cpu()
        largest = found[..., 1].amax(dim=0)
        self._of_all_ranks = torch.stack([found[..., 0].sum(0), largest, found[..., 2].sum(0)], 1)

    def facts(self, names: Sequence[str]) -> dict[str, Any]:
        """Mean and maximum by member; None where it scored nothing."""
        return {
            name: {"mean": float(total / count), "max": float(largest)} if count else None
            for name, (total, largest, count) in zip(
                names, self._of_all_ranks.tolist(), strict=True
            )
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
    kept = keep_scores(ensemble.participants, requests, budgets, members=ensemble.active)
    return (log_weights + ensemble.evidence(kept)).log_softmax(0)


def fit_to(
    ensemble: Ensemble,
    requests: Sequence[EnsembleRequest],
    budgets: Sequence[TokenBudget],
    on_answer: Callable[[int], None],
) -> WeightFit:
    """Weights that make these continuations most likely under the ensemble's rule.

    A sequence mixture is fitted to whole texts, prompts included where it learns from them.

    Raises:
        ConfigError: A log-linear fit would hold too many distributions.
    """
    num_members = len(ensemble.participants)
    even = replace(ensemble, weights=(1 / num_members,) * num_members)
    if not ensemble.rule.is_mixture:
        targets = targets_of(requests)
        _check_memory(ensemble, len(targets))
        rows = even.rows(requests, budgets, on_answer)
        return fit_log_linear(rows.log_probs, targets)
    kept = keep_scores(even.participants, requests, budgets, on_answer=on_answer)
    tokens = _member_tokens(even, kept)
    if ensemble.rule.name != "sequence_mixture":
        return fit_mixture(tokens)
    totals = torch.stack([sums_between(own, kept.offsets) for own in tokens])
    return fit_mixture(totals + even.evidence(kept))


def _check_memory(ensemble: Ensemble, num_tokens: int) -> None:
    row_size = len(ensemble.participants) * ensemble.space.size
    if num_tokens * row_size > _MAX_FITTED:
        raise ConfigError(
            f"weights.fit: {ensemble.rule.name} is fitted to whole distributions, of which"
            f" {num_tokens:,} tokens are more than the {_MAX_FITTED // row_size:,} that are held in"
            " memory; lower items"
        )


def _member_tokens(ensemble: Ensemble, kept: KeptScores) -> Tensor:
    """Log-probabilities of the scored tokens, of the members that take part, float64 [M, K]."""
    entries = [kept.entries[m] for m in ensemble.active]
    if ensemble.renormalise:
        entries = [renormalised_kept(own) for own in entries]
    return torch.stack([own.token for own in entries]).double()
