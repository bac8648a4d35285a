"""Several members' scores of the same texts made into one.

A mixture of probabilities needs little of each member: it is computed from what one pass of each
has kept, for any rule and weights. Whole distributions are combined where that does not suffice:
for `mean_log_probs`, and where the kept entries do not tell whether greedy decoding would write a
continuation.

Legend: M members, R requests, K scored tokens of all requests, O outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suite.engine.batching import TokenBudget
from suite.engine.members import Member
from suite.engine.outcome_readers import KeptReader, OutcomeReader, OutcomeReading, RowReader
from suite.engine.requests import TokenRequest
from suite.engine.scoring import Ask, NotFiniteError, score, score_all
from suite.engine.texts import MemberText
from suite.ensemble.combine import Rule, posterior_log_weights, renormalised
from suite.ensemble.kept import (
    KeptEntries,
    mixture_greedy,
    mixture_values,
    renormalised_kept,
)
from suite.ensemble.outcomes import OutcomeSpace

# Numbers of one member's whole distributions that are held at a time.
_MAX_HELD = 2**26


@dataclass(frozen=True, eq=False)
class Participant:
    """A member with what is needed to speak with it."""

    member: Member
    text: MemberText
    outcomes: OutcomeReading


@dataclass(frozen=True, eq=False)
class EnsembleRequest:
    """One text as each member reads it.

    Attributes:
        continuations: A request for each member; their targets are outcomes, the same for all.
        contexts: The shared tokens of the prompt, as requests of the same kind; None where they
            are not wanted. One object may serve all requests with that prompt.
    """

    continuations: tuple[TokenRequest, ...]
    contexts: tuple[TokenRequest, ...] | None = None


@dataclass(frozen=True)
class ScoredText:
    """Natural log-probability of a continuation, and whether greedy decoding would write it."""

    log_prob: float
    is_greedy: bool


@dataclass(frozen=True, eq=False)
class KeptScores:
    """What one pass of every member kept of a list of requests.

    Attributes:
        entries: Of each member at the K scored tokens.
        offsets: int64 [R + 1], where each request's tokens begin.
        contexts: Of each member, log-probability of the tokens of all distinct prompts and of all
            shared outcomes together there.
        context_offsets: int64, where each distinct prompt's tokens begin.
        context_of: int64 [R], the prompt of each request; -1 for none.
    """

    entries: tuple[KeptEntries, ...]
    offsets: NDArray[np.int64]
    contexts: tuple[tuple[Tensor, Tensor], ...]
    context_offsets: NDArray[np.int64]
    context_of: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Whole distributions of the members that take part, at K scored tokens of some requests.

    Attributes:
        log_probs: [M, K, O].
        other: Log-probability of `other`, before it is left out if it is. [M, K]
        offsets: int64, where each request's tokens begin.
    """

    log_probs: Tensor
    other: Tensor
    offsets: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Members, and how their distributions are combined.

    Attributes:
        participants: The members.
        space: What they can all predict.
        rule: One of `COMBINERS`.
        weights: Of each member, at least 0, summing to 1; 0 leaves it out.
        posterior_from: Where the sequence mixture begins to learn its weights.
        renormalise: Leave out `other`, so that each member's shared outcomes sum to 1.
    """

    participants: tuple[Participant, ...]
    space: OutcomeSpace
    rule: Rule
    weights: tuple[float, ...]
    posterior_from: Literal["context", "continuation"] = "context"
    renormalise: bool = False

    @property
    def active(self) -> tuple[int, ...]:
        """The members that take part."""
        return tuple(m for m, weight in enumerate(self.weights) if weight > 0)

    @property
    def log_weights(self) -> Tensor:
        """Of the members that take part, float64 [M]."""
        weights = torch.tensor([self.weights[m] for m in self.active], dtype=torch.float64)
        return weights.log()

    @property
    def learns(self) -> bool:
        """Whether the prompt's tokens change the weights."""
        return self.rule.name == "sequence_mixture" and self.posterior_from == "context"

    def score(
        self,
        requests: Sequence[EnsembleRequest],
        kept: KeptScores | None = None,
        *,
        budgets: Sequence[TokenBudget] | None = None,
        on_answer: Callable[[int], None] = lambda count: None,
        on_other: Callable[[Tensor], None] = lambda other: None,
    ) -> list[ScoredText]:
        """Score continuations.

        Args:
            requests: The texts; with prompts if the rule learns from them.
            kept: What `keep_scores` kept of these requests; None to run the members now.
            budgets: Of each member.
            on_answer: Told of every finished request of every member that runs.
            on_other: Told once of every scored token the log-probabilities that the members that
                take part give to `other`, [M, some].

        Raises:
            NotFiniteError: A member's log-probabilities are not numbers.
        """
        budgets = budgets or usual_budgets(self.participants)
        if not self.rule.is_mixture:
            nothing = torch.zeros(len(self.active), len(requests), dtype=torch.float64)
            return self._score_rows(requests, nothing, budgets, on_answer, on_other)
        if kept is None:
            kept = keep_scores(
                self.participants, requests, budgets, members=self.active, on_answer=on_answer
            )
        entries = [kept.entries[m] for m in self.active]
        on_other(torch.stack([own.other for own in entries]))
        if self.renormalise:
            entries = [renormalised_kept(own) for own in entries]
        tokens = torch.stack([own.token for own in entries]).double()
        evidence = self.evidence(kept)
        log_weights = self._posterior(tokens, evidence, kept.offsets)
        values = sums_between(mixture_values(entries, log_weights), kept.offsets)
        targets = targets_of(requests)
        found = mixture_greedy(entries, log_weights.float(), targets, other=self.space.other)
        flags = found.numpy()
        # The least of a request's flags but 0 wins: one token that is not greedy decides.
        scored, undecided = [], []
        for place, value in enumerate(values.tolist()):
            own = flags[kept.offsets[place] : kept.offsets[place + 1]]
            if not (own == 0).any() and (own < 0).any():
                undecided.append(place)
            scored.append(ScoredText(value, bool((own == 1).all())))
        whole = self._score_rows(
            [requests[place] for place in undecided],
            evidence[:, undecided],
            budgets,
            lambda count: None,
            lambda other: None,
        )
        for place, text in zip(undecided, whole, strict=True):
            scored[place] = replace(scored[place], is_greedy=text.is_greedy)
        return scored

    def rows(
        self,
        requests: Sequence[EnsembleRequest],
        budgets: Sequence[TokenBudget],
        on_answer: Callable[[int], None] = lambda count: None,
    ) -> Rows:
        """Whole distributions of the members that take part."""
        # Texts without tokens have no rows.
        log_probs = torch.empty(len(self.active), 0, self.space.size)
        other = torch.empty(len(self.active), 0)
        for place, m in enumerate(self.active):
            own = self.participants[m]
            scored = score(
                own.member,
                [request.continuations[m] for request in requests],
                RowReader(own.outcomes),
                budget=budgets[m],
                on_answer=on_answer,
            )
            if scored.values:
                found = scored.values["rows"]
                if not log_probs.numel():
                    log_probs = found.new_empty(len(self.active), *found.shape)
                    other = found.new_empty(len(self.active), len(found))
                other[place] = found[:, -1]
                log_probs[place] = renormalised(found) if self.renormalise else found
        return Rows(log_probs, other, scored.offsets)

    def _score_rows(
        self,
        requests: Sequence[EnsembleRequest],
        evidence: Tensor,
        budgets: Sequence[TokenBudget],
        on_answer: Callable[[int], None],
        on_other: Callable[[Tensor], None],
    ) -> list[ScoredText]:
        """Score requests by combining whole distributions; `evidence` [M, R] of their prompts."""
        scored: list[ScoredText] = []
        for part in _parts(requests, _MAX_HELD // self.space.size):
            try:
                rows = self.rows(part, budgets, on_answer)
            except NotFiniteError as error:
                place = len(scored) + error.request
                raise NotFiniteError(error.member, error.ask, place) from error
            on_other(rows.other)
            log_probs, offsets = rows.log_probs, rows.offsets
            targets = targets_of(part)
            tokens = log_probs.gather(2, targets.expand(len(log_probs), -1)[..., None])[..., 0]
            own = evidence[:, len(scored) : len(scored) + len(part)]
            log_weights = self._posterior(tokens, own, offsets)
            combined = self.rule.combine(log_probs, log_weights.to(log_probs.dtype))
            values = sums_between(combined.gather(1, targets[:, None])[:, 0].double(), offsets)
            is_greedy = (combined[:, :-1].argmax(dim=1) == targets).numpy()
            scored += [
                ScoredText(value, bool(is_greedy[offsets[r] : offsets[r + 1]].all()))
                for r, value in enumerate(values.tolist())
            ]
        return scored

    def evidence(self, kept: KeptScores) -> Tensor:
        """Log-likelihood of each request's prompt for each member that takes part, float64 [M, R].

        0 where there is no prompt, or where the rule does not learn from it.
        """
        evidence = torch.zeros(len(self.active), len(kept.context_of), dtype=torch.float64)
        has_context = kept.context_of >= 0
        if not self.learns or not has_context.any():
            return evidence
        for row, m in enumerate(self.active):
            token, shared = (values.double() for values in kept.contexts[m])
            own = token - shared if self.renormalise else token
            sums = sums_between(own, kept.context_offsets)
            evidence[row, has_context] = sums[kept.context_of[has_context]]
        return evidence

    def _posterior(self, tokens: Tensor, evidence: Tensor, offsets: NDArray[np.int64]) -> Tensor:
        """Log-weights before each token by the rule, float64 [M, K].

        Args:
            tokens: [M, K], log-probabilities of the scored tokens.
            evidence: [M, R], of what the weights have learnt from before the first of them.
            offsets: int64 [R + 1].
        """
        if self.rule.name != "sequence_mixture":
            return self.log_weights[:, None].expand(-1, tokens.shape[1])
        before = (self.log_weights[:, None] + evidence).log_softmax(dim=0)
        return posterior_log_weights(tokens, before, torch.from_numpy(offsets))


def usual_budgets(participants: Sequence[Participant]) -> list[TokenBudget]:
    """A token budget for each member's device."""
    return [TokenBudget.for_device(own.member.device) for own in participants]


def keep_scores(
    participants: Sequence[Participant],
    requests: Sequence[EnsembleRequest],
    budgets: Sequence[TokenBudget],
    *,
    members: Sequence[int] | None = None,
    on_answer: Callable[[int], None] = lambda count: None,
) -> KeptScores:
    """Run every member once over all requests.

    Args:
        participants: All members.
        requests: The texts.
        budgets: Of each member.
        members: Those to run; None for all. The others' entries are empty.
        on_answer: Told of every finished request of every member that runs.
    """
    distinct = {id(r.contexts): r.contexts for r in requests if r.contexts is not None}
    number = {key: n for n, key in enumerate(distinct)}
    nothing, no_rows = torch.empty(0), torch.empty(0, 0)
    entries = [KeptEntries(nothing, nothing, no_rows, no_rows)] * len(participants)
    contexts = [(nothing, nothing)] * len(participants)
    offsets = context_offsets = np.zeros(1, np.int64)
    for m in range(len(participants)) if members is None else members:
        own = participants[m]
        asks = [
            Ask([r.continuations[m] for r in requests], KeptReader(own.outcomes)),
            Ask([prompt[m] for prompt in distinct.values()], OutcomeReader(own.outcomes)),
        ]
        scored, prompts = score_all(own.member, asks, budget=budgets[m], on_answer=on_answer)
        offsets, context_offsets = scored.offsets, prompts.offsets
        if scored.values:
            entries[m] = KeptEntries(**scored.values)
        if prompts.values:
            contexts[m] = (prompts.values["token"], prompts.values["shared"])
    context_of = np.array([number.get(id(r.contexts), -1) for r in requests], np.int64)
    return KeptScores(tuple(entries), offsets, tuple(contexts), context_offsets, context_of)


def targets_of(requests: Sequence[EnsembleRequest]) -> Tensor:
    """The outcomes of all requests' scored tokens, int64 [K]."""
    targets = [np.empty(0, np.int64), *(request.continuations[0].targets for request in requests)]
    return torch.from_numpy(np.concatenate(targets))


def sums_between(values: Tensor, offsets: NDArray[np.int64]) -> Tensor:
    """Sums of float64 values between neighbouring offsets, [R]."""
    owner = torch.from_numpy(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)))
    return torch.zeros(len(offsets) - 1, dtype=torch.float64).index_add(0, owner, values)


def _parts(requests: Sequence[EnsembleRequest], limit: int) -> Iterator[list[EnsembleRequest]]:
    """Requests in lists with at most `limit` scored tokens, or one request."""
    part: list[EnsembleRequest] = []
    size = 0
    for request in requests:
        count = len(request.continuations[0].scored)
        if part and size + count > limit:
            yield part
            part, size = [], 0
        part.append(request)
        size += count
    if part:
        yield part
