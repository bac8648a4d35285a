"""One model on the engine as lm-eval's backend `suite`.

Scores equal those of lm-eval's `hf` backend (given the same dtype and a float32 softmax) but for
what `HfBackend` mends as well; rows of the output that belong to no token get no probability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from suite.engine.batching import TokenBudget
from suite.engine.generation import Choir, Generated, GenerationSettings, Prompts, Speaker, generate
from suite.engine.readers import read_tokens
from suite.engine.requests import TokenRequest, pair_request
from suite.engine.scoring import NotFiniteError, Scored, score
from suite.engine.texts import encode_pair
from suite.ensemble.combine import COMBINERS
from suite.errors import HarnessError
from suite.harness.chat import render
from suite.harness.contract import (
    EngineBackend,
    EngineOptions,
    check_fits,
    check_room,
    in_proportion,
    item_name,
    not_finite,
    rolling_windows,
)
from suite.harness.generation_kwargs import limit_facts, random_keys, special_stops
from suite.harness.opening import OpenedModel, open_arguments

__all__ = ["SuiteLM"]


class SuiteLM(EngineBackend):
    """One transformers model. Open it from arguments, `SuiteLM(path=..., dtype=...)`, or give it.

    Attributes:
        opened: The model.
    """

    source_name: ClassVar[str] = "suite"

    def __init__(
        self,
        opened: OpenedModel | None = None,
        options: EngineOptions | None = None,
        **arguments: Any,
    ) -> None:
        """Take an opened model, or open one.

        Args:
            opened: The model; None to open what `arguments` name.
            options: With `opened`: how requests are read and batched.
            arguments: As `ModelArguments`.

        Raises:
            SuiteError: An argument is unknown or wrong, or the model cannot be had.
        """
        if opened is None:
            opened, options = open_arguments(arguments)
        self.opened = opened
        self.start(options or EngineOptions(), opened.member.device)
        self.facts = dict(opened.facts) | limit_facts(opened.counts_bytes)
        self._budget = TokenBudget.for_device(opened.member.device, self.options.token_budget)

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""
        return self.opened.text.hf

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval's request cache knows the tokenizer by."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    @property
    def max_length(self) -> int:
        """Tokens of one text that the model reads."""
        return self.opened.member.max_length

    @property
    def eot_token_id(self) -> int | None:
        """The token that ends a text; None if the tokenizer has none."""
        number: int | None = self.tokenizer.eos_token_id
        return number

    @property
    def prefix_token_id(self) -> int:
        """What stands before an empty prompt."""
        return self.opened.text.prefix_id

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The source of the chat template; lm-eval writes it into the results."""
        if chat_template is False:
            return None
        name = chat_template if isinstance(chat_template, str) else None
        return str(self.tokenizer.get_chat_template(name))

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as the template writes it."""
        return render(
            self.opened.text.hf,
            chat_history,
            add_generation_prompt=add_generation_prompt,
            options=self.opened.chat_options,
        )

    def get_model_info(self) -> dict[str, Any]:
        """Facts for the results file."""
        model = getattr(self.opened.member, "model", None)
        count = {} if model is None else {"model_num_parameters": model.num_parameters()}
        return count | self.facts

    def _score_pairs(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        text, limit = self.opened.text, self.max_length
        asked: list[TokenRequest] = []
        is_moved: list[bool] = []
        for request in requests:
            context, continuation = request.args
            pair = encode_pair(text, context, continuation, self.options.protocol)
            check_fits(request, len(pair.continuation), limit, self.opened.member.name)
            asked.append(pair_request(pair.context, pair.continuation, max_length=limit))
            is_moved.append(pair.is_moved)
        self._count(requests, [own.num_cut > 0 for own in asked], is_moved)
        scored = self._scored(asked, requests, self._tick)
        return [_answer(scored.of(number)) for number in range(len(requests))]

    def _score_texts(self, requests: Sequence[Any]) -> list[float]:
        text = self.opened.text
        owners: list[int] = []
        asked: list[TokenRequest] = []
        for number, request in enumerate(requests):
            ids = text.encode(request.args[0], False)
            for window in rolling_windows(ids, text.prefix_id, self.max_length):
                asked.append(pair_request(*window, max_length=self.max_length))
                owners.append(number)
        tick = in_proportion(len(asked), len(requests), self._tick)
        scored = self._scored(asked, [requests[owner] for owner in owners], tick)
        totals = [0.0] * len(requests)
        for place, owner in enumerate(owners):
            totals[owner] += _answer(scored.of(place))[0]
        return totals

    def _scored(
        self, asked: Sequence[TokenRequest], owners: Sequence[Any], tick: Callable[[int], None]
    ) -> Scored:
        """Scores of all requests' tokens."""
        member = self.opened.member
        try:
            scored = score(member, asked, read_tokens, budget=self._budget, on_answer=tick)
        except NotFiniteError as error:
            raise not_finite(error, owners[error.request]) from error
        impossible = scored.values.get("token", torch.empty(0)).isneginf().nonzero()
        if len(impossible):
            behind = np.searchsorted(scored.offsets, int(impossible[0, 0]), side="right")
            owner = owners[int(behind) - 1]
            raise HarnessError(
                f"member '{member.name}': {item_name(owner)} has a token to which it gives"
                " probability 0; leave the item out, or try dtype: float32"
            )
        return scored

    def _generate(
        self,
        requests: Sequence[Any],
        settings: GenerationSettings,
        on_answer: Callable[[int, Generated], None],
    ) -> None:
        member, text = self.opened.member, self.opened.text
        room = check_room(settings.max_tokens, member.max_length, member.name)
        whole = [text.encode(request.args[0]) or [text.prefix_id] for request in requests]
        self._count(requests, [len(ids) > room for ids in whole])
        is_end = torch.zeros(member.num_entries, dtype=torch.bool)
        is_end[[number for number in text.end_ids if number < member.num_entries]] = True
        is_end[special_stops(text.hf, settings.stop, member.num_entries)] = True
        speaker = Speaker(member, lambda log_probs: log_probs, torch.arange(member.num_entries))
        generate(
            Choir(
                [speaker],
                COMBINERS["mean_probs"],
                is_end,
                never=torch.zeros(member.num_entries, dtype=torch.bool),
                decode=text.decode,
            ),
            Prompts([[ids[-room:] for ids in whole]], torch.zeros(1), random_keys(requests)),
            settings,
            max_rows=self.batch_size,
            budget=self._budget,
            on_answer=on_answer,
        )

    @property
    def _end_strings(self) -> tuple[str, ...]:
        end = self.tokenizer.eos_token_id
        return () if end is None else (str(self.tokenizer.decode([end])),)

    @property
    def _counts_bytes(self) -> bool:
        return self.opened.counts_bytes

    def _decode(self, outcomes: Sequence[int]) -> str:
        return self.opened.text.decode(outcomes)

    def _bytes_of(self, outcomes: Sequence[int]) -> bytes:
        return self.opened.bytes_of(outcomes)


def _answer(values: dict[str, Any]) -> tuple[float, bool]:
    """Log-likelihood and greedy flag from one request's tokens; 0 and True if there are none."""
    if not values:
        return 0.0, True
    return float(values["token"].double().sum()), bool(values["is_greedy"].all())
