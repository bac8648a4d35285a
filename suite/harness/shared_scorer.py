"""Scores and texts of an ensemble whose members share outcomes, by vocabulary or mined.

Legend: M members, R requests, O outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from suite.engine.batching import TokenBudget
from suite.engine.ensembles import (
    Ensemble,
    EnsembleRequest,
    KeptScores,
    ScoredText,
    keep_scores,
)
from suite.engine.generation import Choir, Generated, GenerationSettings, Prompts, Speaker, generate
from suite.engine.scoring import NotFiniteError
from suite.ensemble.combine import renormalised
from suite.ensemble.weights import WeightFit
from suite.errors import HarnessError
from suite.harness.contract import PairAnswers, check_room, in_proportion, not_finite
from suite.harness.ensemble_scores import (
    DroppedMass,
    KeptStore,
    fit_to,
    prompt_log_weights,
    text_totals,
)
from suite.harness.generation_kwargs import random_keys, special_stops
from suite.harness.shared_texts import Reading

Tick = Callable[[int], None]


class SharedScorer:
    """Asks the members and combines what they say.

    Attributes:
        ensemble: Members, outcomes, rule and weights.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        reading: Reading,
        budgets: Sequence[TokenBudget],
        store: KeptStore | None,
    ) -> None:
        """Take an ensemble.

        Args:
            ensemble: Members, outcomes, rule and weights.
            reading: How texts become requests of its members.
            budgets: Of each member.
            store: What the same members have said of the same requests before.
        """
        self.ensemble = ensemble
        self._reading = reading
        self._dropped = DroppedMass(len(ensemble.participants))
        self._budgets = budgets
        self._store = store

    def facts(self) -> dict[str, Any]:
        """For the results file: the outcomes, and the mass that members give to no shared one.

        None of it is known of mined members, which are renormalised.
        """
        names = [own.member.name for own in self._reading.opened]
        dropped = None if self._reading.is_mined else self._dropped.facts(names)
        return {"num_outcomes": self.ensemble.space.size, "dropped_mass": dropped}

    def reset(self) -> None:
        """Take dropped mass down anew, for another task."""
        self._dropped.clear()

    def share(self, all_gather: Callable[[Tensor], Tensor]) -> None:
        """Learn what the other ranks' members have dropped."""
        self._dropped.share(all_gather)

    def set_weights(self, weights: Sequence[float]) -> None:
        """Score what follows with these weights."""
        self.ensemble = replace(self.ensemble, weights=tuple(weights))

    def fit(self, requests: Sequence[Any], tick: Tick) -> WeightFit:
        """The weights that make continuations most likely."""
        read = self._reading.pairs(requests, with_contexts=self.ensemble.learns)
        tick = in_proportion(len(requests) * len(self._budgets), len(requests), tick)
        try:
            return fit_to(self.ensemble, read.requests, self._budgets, tick)
        except NotFiniteError as error:
            raise _not_finite(error, requests, read.requests) from error

    def pairs(self, requests: Sequence[Any], tick: Tick) -> PairAnswers:
        """Scores of continuations."""
        store = self._store
        with_contexts = self.ensemble.learns or (store is not None and store.with_contexts)
        read = self._reading.pairs(requests, with_contexts=with_contexts)

        def score(kept: KeptScores | None, tick: Tick) -> list[Any]:
            return self._score(read.requests, kept, tick)

        try:
            found = self._with_kept(read.requests, score, in_wholes(len(requests), tick))
        except NotFiniteError as error:
            raise _not_finite(error, requests, read.requests) from error
        answers = [(scored.log_prob, scored.is_greedy) for scored in found]
        return PairAnswers(answers, read.is_cut, read.is_moved)

    def texts(self, requests: Sequence[Any], tick: Tick) -> list[float]:
        """Log-likelihoods of whole texts."""
        asked: list[EnsembleRequest] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            windows = self._reading.windows(request)
            asked += windows
            owners += [number] * len(windows)
        if not asked:
            tick(len(requests))
            return [0.0] * len(requests)

        def totals(kept: KeptScores | None, tick: Tick) -> list[float]:
            if kept is not None:
                self._drop(torch.stack([kept.entries[m].other for m in self.ensemble.active]))
                return text_totals(self.ensemble, kept, owners, len(requests))
            found = [0.0] * len(requests)
            for owner, window in zip(owners, self._score(asked, None, tick), strict=True):
                found[owner] += window.log_prob
            return found

        try:
            return self._with_kept(asked, totals, in_wholes(len(requests), tick))
        except NotFiniteError as error:
            raise _not_finite(error, [requests[owner] for owner in owners], asked) from error

    def generate(
        self,
        requests: Sequence[Any],
        settings: GenerationSettings,
        max_rows: int,
        on_answer: Callable[[int, Generated], None],
    ) -> list[bool]:
        """Continue prompts; returns which of them were cut on the left."""
        ensemble = self.ensemble
        shortest = min(self._reading.opened, key=lambda own: own.member.max_length).member
        room = check_room(settings.max_tokens, shortest.max_length, shortest.name)
        prompts = [
            self._reading.prompt(request, room, with_contexts=ensemble.learns)
            for request in requests
        ]
        asked = [prompt.request for prompt in prompts]
        is_end, never = torch.zeros(2, ensemble.space.size, dtype=torch.bool)
        is_end[ensemble.space.end] = True
        never[ensemble.space.other] = True
        speakers = [self._speaker(m, settings.stop) for m in ensemble.active]
        generate(
            Choir(speakers, ensemble.rule, is_end, never, self.decode),
            Prompts(
                [[prompt.ids[m] for prompt in prompts] for m in ensemble.active],
                prompt_log_weights(ensemble, asked, self._budgets).float(),
                random_keys(requests),
            ),
            settings,
            max_rows=max_rows,
            budget=self._budgets[ensemble.active[0]],
            on_answer=on_answer,
        )
        return [prompt.is_cut for prompt in prompts]

    def decode(self, outcomes: Sequence[int]) -> str:
        """The text of outcomes, as the first member writes it."""
        ids = [int(self._reading.id_of[0][outcome]) for outcome in outcomes]
        return self._reading.opened[0].text.decode(ids)

    def bytes_of(self, outcomes: Sequence[int]) -> bytes:
        """What outcomes stand for."""
        return b"".join(self.ensemble.space.token_bytes[outcome] for outcome in outcomes)

    def _score(
        self, asked: Sequence[EnsembleRequest], kept: KeptScores | None, tick: Tick
    ) -> list[ScoredText]:
        return self.ensemble.score(
            asked, kept, budgets=self._budgets, on_answer=tick, on_other=self._drop
        )

    def _drop(self, other: Tensor) -> None:
        self._dropped.add(self.ensemble.active, other)

    def _speaker(self, m: int, stop: Sequence[str]) -> Speaker:
        """A member; its own special tokens that spell a stop string end a text, too."""
        own = self.ensemble.participants[m]
        ends = special_stops(self._reading.opened[m].text.hf, stop, own.member.num_entries)
        id_of = torch.full((self.ensemble.space.size,), -1, dtype=torch.int64)
        id_of[: len(own.outcomes.id_of)] = own.outcomes.id_of.cpu()
        to_outcomes = own.outcomes.ending_too(ends).to_outcomes
        if not self.ensemble.renormalise:
            return Speaker(own.member, to_outcomes, id_of)
        return Speaker(own.member, lambda rows: renormalised(to_outcomes(rows)), id_of)

    def _with_kept(
        self,
        asked: Sequence[EnsembleRequest],
        answer: Callable[[KeptScores | None, Tick], list[Any]],
        ticks: Callable[[int], Tick],
    ) -> list[Any]:
        """Answers from what members keep of requests, now or since another ensemble ran them.

        Args:
            asked: The requests.
            answer: Makes the answers; of nothing if the rule needs more than is kept.
            ticks: Given how often a member finishes a request, what to tell each time.
        """
        ensemble = self.ensemble
        active = ensemble.active
        if not ensemble.rule.is_mixture:
            return answer(None, ticks(len(asked) * len(active)))
        # Another ensemble may give a weight to those that have none in this one.
        members = active if self._store is None else tuple(range(len(ensemble.participants)))
        tick = ticks(len(asked) * len(members))
        num_told = 0

        def run() -> KeptScores:
            return keep_scores(
                ensemble.participants, asked, self._budgets, members=members, on_answer=told
            )

        def told(count: int) -> None:
            nonlocal num_told
            num_told += count
            tick(count)

        store = self._store or KeptStore()
        kept = store.scores(ensemble.participants, asked, run)
        if not num_told:
            tick(len(asked) * len(members))
        return answer(kept, lambda count: None)


def in_wholes(num_answers: int, tick: Tick) -> Callable[[int], Tick]:
    """Told how many parts there will be, what to tell of parts so that answers are told."""
    return lambda num_parts: in_proportion(num_parts, num_answers, tick)


def _not_finite(
    error: NotFiniteError, requests: Sequence[Any], asked: Sequence[EnsembleRequest]
) -> HarnessError:
    """The error with the item of the request, or of the first request with the prompt."""
    if error.ask == 0:
        return not_finite(error, requests[error.request])
    owners = [id(request.contexts) for request in asked]
    prompts = list(dict.fromkeys(o for o, r in zip(owners, asked, strict=True) if r.contexts))
    return not_finite(error, requests[owners.index(prompts[error.request])])
