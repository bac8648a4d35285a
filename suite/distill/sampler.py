"""A model that writes: draws from it, and the text and the probability of what was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from suite.distill.sample_prompts import Prompt
from suite.engine.generation import Choir, Generated, GenerationSettings, Prompts, Speaker, generate
from suite.engine.members import HfMember
from suite.engine.readers import read_tokens
from suite.engine.requests import pair_request
from suite.engine.scoring import score
from suite.engine.texts import open_text
from suite.ensemble.combine import COMBINERS
from suite.likelihood.heads import num_entries
from suite.text.encoding import Role
from suite.text.tokenizers import OpenedTokenizer


class Sampler:
    """One model in the engine.

    Attributes:
        max_length: Tokens of one text that it reads.
    """

    def __init__(self, model: Any, tokenizer: OpenedTokenizer) -> None:
        """Take a causal language model of transformers; it is put into evaluation mode.

        Raises:
            ModelError: The engine cannot run it.
            TextError: The tokenizer has neither begin nor end token.
        """
        name, vocabulary = tokenizer.name, tokenizer.vocabulary
        size = num_entries(vocabulary, model, name=name)
        dead = torch.from_numpy(vocabulary.is_dead[:size])
        self._vocabulary = vocabulary
        self._member = HfMember(model, name=name, num_entries=size, dead=dead)
        self._choir = self._alone(open_text(tokenizer.hf, model, name=name).end_ids)
        self.max_length = self._member.max_length

    def draw(
        self,
        prompts: Sequence[Prompt],
        keys: Sequence[int],
        settings: GenerationSettings,
        *,
        batch: int,
    ) -> list[Generated]:
        """Continue prompts; only the tokens and the reason of each sample are told.

        Args:
            prompts: At least one.
            keys: What the random numbers of each follow from, beside the seed.
            settings: Without stop strings.
            batch: Samples drawn together.
        """
        asked = Prompts([[prompt.ids for prompt in prompts]], torch.zeros(1), keys)
        return generate(self._choir, asked, settings, max_rows=batch)

    def text_of(self, sample: Generated) -> str | None:
        """A sample's text, without half a character at the limit; None if it is no UTF-8."""
        data = self._vocabulary.join(np.array(sample.outcomes, np.int32))
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            is_half = error.end == len(data) and error.reason == "unexpected end of data"
            return data[: error.start].decode() if is_half and sample.reason == "length" else None

    def mean_log_probs(
        self, prompts: Sequence[Prompt], samples: Sequence[Generated]
    ) -> list[float]:
        """Mean log-probability of each sample's tokens, in nats, by the model as it is.

        The end is no part of it. NaN if there are no tokens.
        """
        requests = [
            pair_request(prompt.ids, sample.outcomes, max_length=self.max_length)
            for prompt, sample in zip(prompts, samples, strict=True)
        ]
        scored = score(self._member, requests, read_tokens)
        tokens = [scored.of(number).get("token") for number in range(len(requests))]
        return [float("nan") if own is None else float(own.double().mean()) for own in tokens]

    def _alone(self, end_ids: Sequence[int]) -> Choir:
        """The model alone; of special tokens it writes those only that end a text."""
        size = self._member.num_entries
        ends = [*end_ids, *self._vocabulary.ids_with_role(Role.END_OF_TURN)]
        is_end = torch.zeros(size, dtype=torch.bool)
        is_end[[number for number in ends if number < size]] = True
        is_special = torch.from_numpy(self._vocabulary.roles[:size] != Role.REGULAR)
        return Choir(
            [Speaker(self._member, lambda log_probs: log_probs, torch.arange(size))],
            COMBINERS["mean_probs"],
            is_end,
            never=is_special & ~is_end,
            # Bytes are joined once a sample is done: there are no stop strings to look for.
            decode=lambda outcomes: "",
        )
