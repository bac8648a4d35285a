"""What lm-eval asks of a backend, on the engine: order, windows, settings, counts and caching.

One model and an ensemble differ in how they score and generate, not in any of this.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from suite.engine.generation import Generated, GenerationSettings
from suite.engine.scoring import NotFiniteError
from suite.engine.stopping import cut_text, without_unfinished
from suite.errors import ConfigError, HarnessError
from suite.harness.generation_kwargs import (
    cut_reasoning,
    generation_settings,
    grouping_key,
    stop_strings,
)
from suite.harness.protocol import Protocol
from suite.harness.reporting import ReportingBackend

# Generated tokens whose bytes tell whether a text ends within a character; some may have none.
_LAST_TOKENS = 16
# Where lm-eval keeps answers, so many requests are scored between two of its writes.
_CACHED_BLOCK = 256


@dataclass(frozen=True)
class EngineOptions:
    """How requests are read and batched.

    Attributes:
        batch_size: Texts generated at once.
        token_budget: Places that a forward pass may hold; None for what suits the device.
        protocol: Which tokenisation rule.
        enable_thinking: Given to chat templates that know it.
        strip_reasoning: What ends a model's reasoning, a string or a token id: only what follows
            is the answer, and stop strings count only there.
    """

    batch_size: int = 16
    token_budget: int | None = None
    protocol: Protocol = "lm-eval"
    enable_thinking: bool | None = None
    strip_reasoning: str | int | None = None

    def __post_init__(self) -> None:
        if self.enable_thinking and self.strip_reasoning is None:
            raise ConfigError(
                "enable_thinking is on without strip_reasoning, so that reasoning would be scored;"
                " give the string that ends it, such as </think>"
            )


@dataclass(frozen=True, eq=False)
class PairAnswers:
    """Answers to `loglikelihood`, and which requests were cut or had their border moved."""

    answers: list[tuple[float, bool]]
    is_cut: Sequence[bool]
    is_moved: Sequence[bool]


class EngineBackend(ReportingBackend):
    """A backend whose scores and texts come from the engine."""

    options: EngineOptions

    def start(self, options: EngineOptions, device: torch.device) -> None:
        """Take the options; every constructor calls it."""
        super().__init__()
        self.options = options
        self._device = device
        self.start_reporting(device)
        self._batch_size = options.batch_size

    @property
    def batch_size(self) -> int:
        """Texts generated at once."""
        return self._batch_size

    def set_batch_size(self, batch_size: int) -> None:
        """Generate so many texts at once from now on."""
        self._batch_size = batch_size

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """Log-likelihood in nats of continuations, and whether greedy decoding gives them.

        Raises:
            HarnessError: One cannot be scored; names the item.
        """
        if self.options.enable_thinking and requests:
            raise HarnessError(
                f"{item_name(requests[0])} asks for likelihoods, which a model that reasons first"
                " does not give; set enable_thinking: false for such tasks"
            )
        return self._in_blocks("loglikelihood", requests, self._score_pairs)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Log-likelihood in nats of whole texts, each after one begin (or end) token."""
        return self._in_blocks("loglikelihood_rolling", requests, self._score_texts)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Texts generated after the prompts, cut before the first stop string.

        Raises:
            ConfigError: A generation setting is not known.
            HarnessError: A prompt leaves no room for an answer.
        """
        self._on_start(len(requests))
        groups: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(grouping_key(request.args[1]), []).append(number)
        texts: list[str] = [""] * len(requests)
        for numbers in groups.values():
            found = self._generate_group([requests[number] for number in numbers])
            for number, text in zip(numbers, found, strict=True):
                texts[number] = text
        return texts

    @abstractmethod
    def _score_pairs(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Answers to `loglikelihood`, in order; calls `_tick` and `_count`."""

    @abstractmethod
    def _score_texts(self, requests: Sequence[Any]) -> list[float]:
        """Answers to `loglikelihood_rolling`, in order; calls `_tick`."""

    @abstractmethod
    def _generate(
        self,
        requests: Sequence[Any],
        settings: GenerationSettings,
        on_answer: Callable[[int, Generated], None],
    ) -> None:
        """Continue prompts under one setting; tells the place and text of each; calls `_count`."""

    @property
    @abstractmethod
    def _end_strings(self) -> tuple[str, ...]:
        """The end tokens as text."""

    @property
    @abstractmethod
    def _counts_bytes(self) -> bool:
        """Whether a token of what is generated is a byte."""

    @abstractmethod
    def _decode(self, outcomes: Sequence[int]) -> str:
        """Text of what was generated."""

    @abstractmethod
    def _bytes_of(self, outcomes: Sequence[int]) -> bytes:
        """Bytes of what was generated; none if they cannot be told."""

    def _generate_group(self, requests: Sequence[Any]) -> list[str]:
        """Texts of requests with the same settings, in order."""
        kwargs = requests[0].args[1]
        reasons = self.options.strip_reasoning is not None
        shown = {key: value for key, value in kwargs.items() if not (reasons and key == "until")}
        # Where reasoning comes first, a stop string in it must not end the text.
        settings = generation_settings(shown, self._end_strings, counts_bytes=self._counts_bytes)
        stop = stop_strings(kwargs, self._end_strings)
        texts: list[str] = [""] * len(requests)

        def finish(number: int, generated: Generated) -> None:
            texts[number] = self._answer(generated, stop)
            self.cache_hook.add_partial("generate_until", requests[number].args, texts[number])
            self._on_answer()

        try:
            self._generate(requests, settings, finish)
        except NotFiniteError as error:
            raise not_finite(error, requests[error.request]) from error
        return texts

    def _answer(self, generated: Generated, stop: Sequence[str]) -> str:
        """What counts of a generated text."""
        end = self.options.strip_reasoning
        text = self._finished(generated.text, generated)
        if end is None:
            return text
        if isinstance(end, str):
            return cut_reasoning(text, end, stop)
        outcomes = list(generated.outcomes)
        if end not in outcomes:
            return cut_text(text, stop, None)
        behind = len(outcomes) - outcomes[::-1].index(end)
        answer = self._finished(self._decode(outcomes[behind:]), generated)
        return cut_text(answer.lstrip(), stop, None)

    def _finished(self, text: str, generated: Generated) -> str:
        """A text of bytes, or its end, without a character of which only some bytes are there.

        Texts of subword tokens stay as lm-eval's own backend gives them.
        """
        if generated.reason == "stop" or not self._counts_bytes:
            return text
        return without_unfinished(text, self._bytes_of(generated.outcomes[-_LAST_TOKENS:]))

    def _in_blocks(
        self, kind: str, requests: Sequence[Any], answer: Callable[[Sequence[Any]], list[Any]]
    ) -> list[Any]:
        """All answers; in blocks where lm-eval keeps them, so that an interrupted run has some.

        What lm-eval repeats to fill up a rank is scored once.
        """
        self._on_start(len(requests))
        is_kept = getattr(self.cache_hook, "dbdict", None) is not None
        size = _CACHED_BLOCK if is_kept else max(1, len(requests))
        answers: list[Any] = []
        for first in range(0, len(requests), size):
            block = requests[first : first + size]
            distinct = {id(request): request for request in block}
            answer_of = dict(zip(distinct, answer(list(distinct.values())), strict=True))
            self._tick(len(block) - len(distinct))
            for request in block:
                found = answer_of[id(request)]
                self.cache_hook.add_partial(kind, request.args, found)
                answers.append(found)
        return answers

    def _tick(self, count: int) -> None:
        """So many more requests are answered."""
        for _ in range(count):
            self._on_answer()

    def _count(
        self, requests: Sequence[Any], cut: Sequence[bool], moved: Sequence[bool] | None = None
    ) -> None:
        """Count requests that were cut, or whose border was moved.

        One that lm-eval repeats, to draw again or to fill up a rank, counts once.
        """
        self.num_truncated += len(
            {id(r) for r, is_cut in zip(requests, cut, strict=True) if is_cut}
        )
        if moved is not None:
            found = {id(r) for r, is_moved in zip(requests, moved, strict=True) if is_moved}
            self.num_boundary_moves += len(found)


def rolling_windows(
    ids: Sequence[int], prefix_id: int, max_length: int
) -> list[tuple[list[int], list[int]]]:
    """lm-eval's windows of a long text: (context, tokens to score); each token is scored once."""
    windows = get_rolling_token_windows(
        token_list=list(ids), prefix_token=prefix_id, max_seq_len=max_length, context_len=1
    )
    return [make_disjoint_window(window) for window in windows]


def in_proportion(
    num_parts: int, num_wholes: int, tick: Callable[[int], None]
) -> Callable[[int], None]:
    """Told of finished parts, tells of wholes at the same pace; tells of all in the end."""
    state = {"parts": 0, "wholes": 0}

    def finished(count: int) -> None:
        state["parts"] += count
        wholes = num_wholes * state["parts"] // max(1, num_parts)
        tick(wholes - state["wholes"])
        state["wholes"] = wholes

    return finished


def check_fits(request: Any, num_tokens: int, max_length: int, name: str) -> None:
    """Refuse a continuation of which the model cannot read all at once.

    Raises:
        HarnessError: It is too long.
    """
    if num_tokens > max_length:
        raise HarnessError(
            f"{item_name(request)}: its continuation has {num_tokens:,} tokens, more than the"
            f" {max_length:,} that '{name}' reads; raise max_length or leave the item out"
        )


def check_room(max_tokens: int, max_length: int, name: str) -> int:
    """Tokens that are left for a prompt.

    Raises:
        HarnessError: None are.
    """
    if max_tokens >= max_length:
        raise HarnessError(
            f"max_gen_toks is {max_tokens:,}, which leaves no room for a prompt in the"
            f" {max_length:,} tokens that '{name}' reads; lower max_gen_toks"
        )
    return max_length - max_tokens


def not_finite(error: NotFiniteError, request: Any) -> HarnessError:
    """The same error, with the item in lm-eval's terms."""
    return HarnessError(
        f"member '{error.member}': log-probabilities of {item_name(request)} are not numbers (NaN);"
        " try dtype: float32"
    )


def item_name(request: Any) -> str:
    """An item as messages call it."""
    if request.task_name is None:
        return f"request {request.idx}"
    return f"item {request.doc_id} of task '{request.task_name}'"
