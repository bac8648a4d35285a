"""Generates texts with one member or with several that take every step together.

All members read the same outcomes, each by its own ids; caches only grow, so nothing is rolled
back.

Legend: M members, R requests, n rows of a batch, V entries of a member, O outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from suite.engine.batching import TokenBudget
from suite.engine.members import Member
from suite.engine.prefill import NOTHING_READ, Reading, SharedStart, read_prompts, read_start
from suite.engine.sampling import draw, warp
from suite.engine.scoring import NotFiniteError
from suite.engine.stopping import GrowingText
from suite.ensemble.combine import Rule
from suite.errors import ConfigError, ModelError, SuiteError, is_out_of_memory


@dataclass(frozen=True)
class GenerationSettings:
    """How texts are generated, and where they end.

    Attributes:
        stop: Strings that end a text and are not part of it.
        max_tokens: Tokens of the longest text.
        max_bytes: UTF-8 bytes of the longest text; whichever limit comes first.
        do_sample: Draw from the distribution; else take the most probable outcome, of equals the
            first.
        temperature: As `suite.engine.sampling.warp`; 0 for the most probable outcome.
        top_p: As `suite.engine.sampling.warp`.
        top_k: As `suite.engine.sampling.warp`.
        seed: Of the random numbers. Each request has its own, so batches do not matter; see
            `Prompts.keys`.
    """

    stop: tuple[str, ...]
    max_tokens: int
    max_bytes: int | None = None
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = {
            f"max_tokens is {self.max_tokens}, must be at least 1": self.max_tokens < 1,
            f"max_bytes is {self.max_bytes}, must be at least 1": (
                self.max_bytes is not None and self.max_bytes < 1
            ),
            f"temperature is {self.temperature}, must be at least 0": not self.temperature >= 0,
            f"top_p is {self.top_p}, must be above 0 and at most 1": not 0 < self.top_p <= 1,
            f"top_k is {self.top_k}, must be at least 0 (0 for all)": self.top_k < 0,
            f"seed is {self.seed}, must be at least 0": self.seed < 0,
            "a stop string is empty; leave it out": "" in self.stop,
        }
        for sentence, is_wrong in wrong.items():
            if is_wrong:
                raise ConfigError(f"generation: {sentence}")

    @property
    def is_greedy(self) -> bool:
        """Whether nothing is drawn."""
        return not self.do_sample or self.temperature == 0


@dataclass(frozen=True, eq=False)
class Speaker:
    """A member and what its ids mean to the others.

    Attributes:
        member: The model.
        to_outcomes: [n, V] log-probabilities of its entries -> [n, O] of the outcomes.
        id_of: int64 [O] on the CPU, its id of each outcome; -1 where nothing can be fed.
    """

    member: Member
    to_outcomes: Callable[[Tensor], Tensor]
    id_of: Tensor


@dataclass(frozen=True, eq=False)
class Choir:
    """Members that write one text together.

    Attributes:
        speakers: The members; those of weight 0 are left out by the caller.
        rule: How their distributions become one.
        is_end: bool [O], outcomes that end a text. They are not fed.
        never: bool [O], outcomes that are not emitted, whatever their probability.
        decode: The text of outcomes.
    """

    speakers: Sequence[Speaker]
    rule: Rule
    is_end: Tensor
    never: Tensor
    decode: Callable[[Sequence[int]], str]


@dataclass(frozen=True, eq=False)
class Prompts:
    """What is to be continued.

    Attributes:
        ids: By member and request, ids of each prompt: at least one, and few enough that the member
            can read `max_tokens` more.
        log_weights: Of the members, [M], or for each request, [M, R].
        keys: What each request's random numbers follow from beside the seed, at least 0; None for
            its place in the list.
    """

    ids: Sequence[Sequence[Sequence[int]]]
    log_weights: Tensor
    keys: Sequence[int] | None = None


@dataclass(frozen=True)
class Generated:
    """A generated text.

    Attributes:
        text: Without the prompt, cut before a stop string.
        outcomes: All that was generated, what was cut off included, without the end.
        reason: What ended it: a stop string, an end outcome or a limit.
    """

    text: str
    outcomes: tuple[int, ...]
    reason: Literal["stop", "end", "length"]


def generate(
    choir: Choir,
    prompts: Prompts,
    settings: GenerationSettings,
    *,
    max_rows: int,
    budget: TokenBudget | None = None,
    on_answer: Callable[[int, Generated], None] = lambda request, generated: None,
) -> list[Generated]:
    """Generate one text for each request.

    Requests of like length share a batch, and read what their prompts begin with once. A row that
    is done leaves its batch.

    Args:
        choir: The members.
        prompts: What they continue.
        settings: For all requests.
        max_rows: Rows of the largest batch; halved where memory does not suffice.
        budget: For reading prompts; halved with the rows. None for the first device's usual.
        on_answer: Told the number of each finished request and its text.

    Returns:
        The texts in the order of requests.

    Raises:
        NotFiniteError: A member's log-probabilities are not numbers.
        ModelError: Memory does not suffice for one row, or a member leaves nothing to emit.
    """
    ids = [[tuple(map(int, prompt)) for prompt in own] for own in prompts.ids]
    log_weights = prompts.log_weights
    task = _Task(
        choir,
        ids,
        log_weights if log_weights.dim() == 2 else log_weights[:, None].expand(-1, len(ids[0])),
        range(len(ids[0])) if prompts.keys is None else prompts.keys,
        settings,
        budget or TokenBudget.for_device(choir.speakers[0].member.device),
    )
    answers: dict[int, Generated] = {}

    def answer(request: int, generated: Generated) -> None:
        answers[request] = generated
        on_answer(request, generated)

    # The longest first: neighbours are of like length, and memory fails at once or never.
    waiting = sorted(range(len(ids[0])), key=task.num_tokens, reverse=True)
    starts = [NOTHING_READ] * len(choir.speakers)
    if len(waiting) > max_rows:
        starts = task.read_starts(waiting, starts)
    while waiting:
        requests = waiting[:max_rows]
        if not _memory_sufficed(task, requests, starts, answer):
            max_rows = len(requests) // 2
            task.save_memory()
        waiting = [request for request in waiting if request not in answers]
    return [answers[request] for request in range(len(answers))]


def _memory_sufficed(
    task: _Task,
    requests: Sequence[int],
    starts: Sequence[SharedStart],
    answer: Callable[[int, Generated], None],
) -> bool:
    """Generate for one batch; if memory does not suffice, some requests stay unanswered.

    The tensors of a failed batch are free only once this returns.
    """
    try:
        for request, generated in _Batch(task, requests, starts).run():
            answer(request, generated)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(requests) == 1:
            raise _too_large(requests[0], task) from error
        return False
    return True


@dataclass(frozen=True, eq=False)
class _Task:
    """What all batches of one call have in common; `log_weights` are [M, R]."""

    choir: Choir
    prompts: Sequence[Sequence[tuple[int, ...]]]
    log_weights: Tensor
    keys: Sequence[int]
    settings: GenerationSettings
    budget: TokenBudget

    @property
    def members(self) -> list[Member]:
        return [speaker.member for speaker in self.choir.speakers]

    @cached_property
    def ends(self) -> frozenset[int]:
        """The outcomes that end a text."""
        return frozenset(self.choir.is_end.nonzero().flatten().tolist())

    @cached_property
    def never(self) -> Tensor | None:
        """`Choir.never` where outcomes are combined; None if nothing is masked."""
        return self.choir.never.to(self.members[0].device) if self.choir.never.any() else None

    def num_tokens(self, request: int) -> int:
        """Tokens of a request's longest prompt."""
        return max(len(own[request]) for own in self.prompts)

    def read_starts(
        self, requests: Sequence[int], starts: Sequence[SharedStart]
    ) -> list[SharedStart]:
        """Read what some requests begin with, by each member, behind what has been read."""
        return [
            read_start(member, [own[request] for request in requests], self.budget, start)
            for member, own, start in zip(self.members, self.prompts, starts, strict=True)
        ]

    def read_prompts(self, requests: Sequence[int], starts: Sequence[SharedStart]) -> list[Reading]:
        """Read the prompts of some requests by each member, behind what has been read."""
        return [
            read_prompts(member, [own[request] for request in requests], self.budget, start)
            for member, own, start in zip(self.members, self.prompts, starts, strict=True)
        ]

    def save_memory(self) -> None:
        """Read fewer tokens at a time from now on, and give back what is not used."""
        self.budget.halve()
        if any(member.device.type == "cuda" for member in self.members):
            torch.cuda.empty_cache()


class _Row:
    """One request of a batch."""

    def __init__(self, request: int, task: _Task) -> None:
        settings = task.settings
        self.request = request
        self.text = GrowingText(task.choir.decode, settings.stop, settings.max_bytes)
        self.random = np.random.default_rng((settings.seed, task.keys[request]))
        self.has_ended = False

    def take(self, outcome: int, task: _Task) -> bool:
        """Take the next outcome; whether the row is done."""
        self.has_ended = outcome in task.ends
        if self.has_ended:
            return True
        is_over = self.text.add(outcome)
        return is_over or len(self.text.outcomes) == task.settings.max_tokens

    def generated(self) -> Generated:
        text, is_stopped = self.text.cut()
        unstopped: Literal["end", "length"] = "end" if self.has_ended else "length"
        return Generated(text, tuple(self.text.outcomes), "stop" if is_stopped else unstopped)


class _Batch:
    """Rows that take every step together."""

    def __init__(self, task: _Task, requests: Sequence[int], starts: Sequence[SharedStart]) -> None:
        """Read the prompts."""
        self._task = task
        self._rows = [_Row(request, task) for request in requests]
        self._log_weights = task.log_weights[:, list(requests)].to(task.members[0].device)
        self._readings = task.read_prompts(requests, task.read_starts(requests, starts))

    def run(self) -> Iterator[tuple[int, Generated]]:
        """Take steps until every row is done; each request's number and text once it is."""
        while True:
            log_probs, scores = self._predict()
            chosen = self._choose(log_probs, scores)
            stay = []
            for place, outcome in enumerate(chosen.tolist()):
                row = self._rows[place]
                if row.take(outcome, self._task):
                    yield row.request, row.generated()
                else:
                    stay.append(place)
            if not stay:
                return
            self._feed(chosen, log_probs, stay)

    def _predict(self) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the outcomes, each member's [M, n, O] and combined [n, O]."""
        choir, members = self._task.choir, self._task.members
        found = [
            speaker.to_outcomes(speaker.member.log_probs(reading.states)).to(members[0].device)
            for speaker, reading in zip(choir.speakers, self._readings, strict=True)
        ]
        if len(found) == 1:  # By every rule one member speaks for itself.
            return found[0][None], found[0]
        log_probs = torch.stack(found)
        self._log_weights = self._log_weights.to(log_probs.dtype)
        return log_probs, choir.rule.combine(log_probs, self._log_weights)

    def _choose(self, log_probs: Tensor, scores: Tensor) -> Tensor:
        """The next outcome of each row, int64 [n]."""
        never, settings = self._task.never, self._task.settings
        if never is not None:
            scores = scores.masked_fill(never, -torch.inf)
        largest, first_largest = scores.max(dim=-1)
        if not bool(largest.isfinite().all()):
            raise self._refusal(log_probs, largest)
        if settings.is_greedy:
            return first_largest
        uniform = torch.tensor([row.random.random() for row in self._rows], dtype=torch.float64)
        warped = warp(
            scores,
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
        )
        return draw(warped, uniform.to(scores.device))

    def _feed(self, chosen: Tensor, log_probs: Tensor, stay: list[int]) -> None:
        """Let the rows that stay read what was chosen for them."""
        task = self._task
        kept = torch.tensor(stay, device=chosen.device)
        chosen = chosen[kept]
        self._log_weights = task.choir.rule.update(
            self._log_weights[:, kept], log_probs[:, kept, chosen]
        )
        outcomes = chosen.cpu()
        everything = torch.ones(len(stay), 1, dtype=torch.bool)
        for place, (speaker, reading) in enumerate(
            zip(task.choir.speakers, self._readings, strict=True)
        ):
            past = reading.past
            if len(stay) < len(self._rows):
                past = past.select(stay)
            states, past = speaker.member.read(speaker.id_of[outcomes][:, None], everything, past)
            self._readings[place] = Reading(states[:, -1], past)
        self._rows = [self._rows[place] for place in stay]

    def _refusal(self, log_probs: Tensor, largest: Tensor) -> SuiteError:
        """Why a row of the combined distribution has no finite entry."""
        row = int((~largest.isfinite()).nonzero()[0, 0])
        request = self._rows[row].request
        for member, own in zip(self._task.members, log_probs[:, row], strict=True):
            if bool(own.isnan().any()):
                return NotFiniteError(member.name, 0, request)
        names = ", ".join(member.name for member in self._task.members)
        return ModelError(
            f"{names}: all that may be generated for request {request} has probability 0;"
            " give weight to a member that can go on"
        )


def _too_large(request: int, task: _Task) -> ModelError:
    names = ", ".join(member.name for member in task.members)
    return ModelError(
        f"{names}: out of memory while generating for request {request} alone"
        f" ({task.num_tokens(request)} tokens of prompt, at most {task.settings.max_tokens} new);"
        " lower max_length or the number of new tokens"
    )
