"""Scores of an ensemble whose members share no vocabulary, as mixtures over words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suite.engine.batching import TokenBudget
from suite.engine.generation import Generated, GenerationSettings
from suite.ensemble.pieces import piece_log_probs, word_mixture
from suite.ensemble.weights import WeightFit, fit_mixture
from suite.errors import ConfigError, HarnessError
from suite.harness.contract import PairAnswers, in_proportion, item_name
from suite.harness.opening import OpenedModel
from suite.harness.protocol import Protocol
from suite.harness.word_texts import CommonTexts, WordReader, WordScores

Tick = Callable[[int], None]


class WordScorer:
    """Asks each member for its own tokens, and mixes what they say of words.

    A continuation counts as greedy when it is what every member of positive weight would write: no
    token of it has a distribution that all of them share.
    """

    def __init__(
        self,
        name: str,
        members: Sequence[OpenedModel],
        weights: Sequence[float],
        protocol: Protocol,
        budgets: Sequence[TokenBudget],
    ) -> None:
        """Take the members.

        Raises:
            ConfigError: The bytes of a member's tokens cannot be told.
        """
        for own in members:
            if own.vocabulary is None:
                raise ConfigError(
                    f"ensemble '{name}': the bytes of the tokens of '{own.member.name}' cannot be"
                    " told, which word_mixture needs; leave that member out"
                )
        self._name = name
        self.weights = tuple(weights)
        self._readers = [
            WordReader(own, protocol, budget) for own, budget in zip(members, budgets, strict=True)
        ]

    def facts(self) -> dict[str, Any]:
        """Nothing is dropped, because nothing has to be shared."""
        return {"num_outcomes": None, "dropped_mass": None}

    def reset(self) -> None:
        """Nothing is counted."""

    def share(self, all_gather: Callable[[Tensor], Tensor]) -> None:
        """Nothing is counted."""

    def set_weights(self, weights: Sequence[float]) -> None:
        """Score what follows with these weights."""
        self.weights = tuple(weights)

    def fit(self, requests: Sequence[Any], tick: Tick) -> WeightFit:
        """The weights that make the pieces of continuations most likely.

        Raises:
            ConfigError: There is nothing to fit to.
        """
        tick = in_proportion(len(requests) * len(self._readers), len(requests), tick)
        common = CommonTexts([reader.opened for reader in self._readers])
        found = [reader.pairs(requests, common, tick) for reader in self._readers]
        _check_same_bytes(self._readers, found, common, requests)
        pieces = [
            piece_log_probs([tokens for tokens in texts if tokens is not None])
            for texts in zip(*(own.tokens for own in found), strict=True)
            if texts[0] is not None
        ]
        if not pieces:
            raise ConfigError(
                f"ensemble '{self._name}': the development items have nothing to fit weights to;"
                " choose another task or split"
            )
        return fit_mixture(torch.from_numpy(np.concatenate(pieces, axis=1)))

    def pairs(self, requests: Sequence[Any], tick: Tick) -> PairAnswers:
        """Scores of continuations."""
        tick = in_proportion(len(requests) * len(self._active), len(requests), tick)
        found, values = self._mixed(lambda own, common: own.pairs(requests, common, tick), requests)
        answers = [
            (value, all(own.is_greedy[r] for own in found)) for r, value in enumerate(values)
        ]
        return PairAnswers(
            answers,
            [any(own.is_cut[r] for own in found) for r in range(len(requests))],
            [any(own.is_moved[r] for own in found) for r in range(len(requests))],
        )

    def texts(self, requests: Sequence[Any], tick: Tick) -> list[float]:
        """Log-likelihoods of whole texts."""
        _, values = self._mixed(
            lambda own, common: own.texts(requests, common, lambda count: None), requests
        )
        tick(len(requests))
        return values

    def generate(
        self,
        requests: Sequence[Any],
        settings: GenerationSettings,
        max_rows: int,
        on_answer: Callable[[int, Generated], None],
    ) -> list[bool]:
        """Refused.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            f"ensemble '{self._name}': word_mixture scores given text and cannot generate; score it"
            " on likelihood tasks only, or combine by mined"
        )

    def decode(self, outcomes: Sequence[int]) -> str:
        """The text of token ids of the first member."""
        return self._readers[0].opened.text.decode(outcomes)

    def bytes_of(self, outcomes: Sequence[int]) -> bytes:
        """What token ids of the first member stand for."""
        return self._readers[0].opened.bytes_of(outcomes)

    @property
    def _active(self) -> list[int]:
        """The members that take part."""
        return [m for m, weight in enumerate(self.weights) if weight > 0]

    def _mixed(
        self, score: Callable[[WordReader, CommonTexts], WordScores], requests: Sequence[Any]
    ) -> tuple[list[WordScores], list[float]]:
        """What the members that take part say of the texts, and their mixture."""
        readers = [self._readers[m] for m in self._active]
        weights = [self.weights[m] for m in self._active]
        common = CommonTexts([reader.opened for reader in readers])
        found = [score(reader, common) for reader in readers]
        _check_same_bytes(readers, found, common, requests)
        values = []
        for texts in zip(*(own.tokens for own in found), strict=True):
            present = [tokens for tokens in texts if tokens is not None]
            values.append(word_mixture(present, weights) if present else 0.0)
        return found, values


def _check_same_bytes(
    readers: Sequence[WordReader],
    found: Sequence[WordScores],
    common: CommonTexts,
    requests: Sequence[Any],
) -> None:
    """Refuse texts of which a member reads other bytes than the first one: their words differ.

    Before the text it may have a little more: a space of its tokenizer's, or the rest of a token
    that spans the border.

    Raises:
        HarnessError: Names item and member.
    """
    names = [reader.opened.member.name for reader in readers]
    for r, request in enumerate(requests):
        size = len(common.form(request.args[-1]).encode())
        ends = [own.data[r][max(0, len(own.data[r]) - size) :] for own in found]
        for name, end in zip(names, ends, strict=True):
            if end != ends[0]:
                raise HarnessError(
                    f"{item_name(request)}: '{name}' reads other bytes in it than '{names[0]}', so"
                    " that their words differ; leave the item out"
                )
