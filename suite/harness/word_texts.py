"""Texts as members without a shared vocabulary read them, for mixtures over words.

Every member reads a text with its own tokenizer and in windows of its own. Bytes are counted from
the end of the text, because some tokenizers put a space before its beginning, and where a token
spans the border to the prompt a member scores a little more than the others.

Legend: M members.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from suite.align.boundaries import boundary_start_mask
from suite.engine.batching import TokenBudget
from suite.engine.readers import BoundaryReader
from suite.engine.requests import TokenRequest, pair_request
from suite.engine.scoring import NotFiniteError, Scored, score
from suite.engine.texts import EncodedPair, encode_pair
from suite.ensemble.pieces import ScoredTokens
from suite.harness.chat import render_for
from suite.harness.contract import check_fits, not_finite, rolling_windows
from suite.harness.opening import OpenedModel
from suite.harness.protocol import Protocol


@dataclass(frozen=True, eq=False)
class WordScores:
    """What one member says of some texts.

    Attributes:
        tokens: Of each text; None for an empty one.
        is_greedy: Whether its own greedy decoding gives the text.
        is_cut: Whether the prompt was cut on the left.
        is_moved: Whether a token spans the border between prompt and text.
    """

    tokens: list[ScoredTokens | None]
    is_greedy: list[bool]
    is_cut: list[bool]
    is_moved: list[bool]


@dataclass(frozen=True, eq=False)
class _Asked:
    """A member's requests: `owners` is the text of each, `ids` the scored tokens of each text."""

    requests: list[TokenRequest]
    owners: list[int]
    ids: list[list[int]]


class WordReader:
    """Scores texts with one member for `word_mixture`."""

    def __init__(self, opened: OpenedModel, protocol: Protocol, budget: TokenBudget) -> None:
        """Take a member whose tokens' bytes are known."""
        assert opened.vocabulary is not None
        self.opened = opened
        self.protocol = protocol
        self.budget = budget
        self.byte_lengths = opened.vocabulary.byte_lengths
        self.starts = boundary_start_mask(opened.vocabulary)

    def pairs(self, requests: Sequence[Any], on_answer: Callable[[int], None]) -> WordScores:
        """Score continuations behind prompts; `on_answer` is told of every finished request."""
        own, member = self.opened, self.opened.member
        pairs = []
        for request in requests:
            context = render_for(own.text.hf, request.args[0], own.chat_options)
            pair = encode_pair(own.text, context, request.args[1], self.protocol)
            check_fits(request, len(pair.continuation), member.max_length, member.name)
            pairs.append(pair)
        asked = _Asked(
            [self._request(pair) for pair in pairs],
            list(range(len(pairs))),
            [pair.continuation for pair in pairs],
        )
        found = self._scored(asked, requests, on_answer)
        found.is_cut.extend(request.num_cut > 0 for request in asked.requests)
        found.is_moved.extend(pair.is_moved for pair in pairs)
        return found

    def texts(self, requests: Sequence[Any], on_answer: Callable[[int], None]) -> WordScores:
        """Score whole texts; `on_answer` is told of every finished window."""
        text = self.opened.text
        asked = _Asked([], [], [])
        for number, request in enumerate(requests):
            ids = text.encode(request.args[0], False)
            asked.ids.append(ids)
            for window in rolling_windows(ids, text.prefix_id, self.opened.member.max_length):
                asked.requests.append(self._request(EncodedPair(*window)))
                asked.owners.append(number)
        return self._scored(asked, requests, on_answer)

    def _request(self, pair: EncodedPair) -> TokenRequest:
        limit = self.opened.member.max_length
        return pair_request(pair.context, pair.continuation, max_length=limit)

    def _scored(
        self, asked: _Asked, requests: Sequence[Any], on_answer: Callable[[int], None]
    ) -> WordScores:
        member = self.opened.member
        reader = BoundaryReader(self.starts[: member.num_entries])
        try:
            scored = score(member, asked.requests, reader, budget=self.budget, on_answer=on_answer)
        except NotFiniteError as error:
            raise not_finite(error, requests[asked.owners[error.request]]) from error
        places: list[list[int]] = [[] for _ in asked.ids]
        for place, owner in enumerate(asked.owners):
            places[owner].append(place)
        found = WordScores([], [], [], [])
        for ids, own in zip(asked.ids, places, strict=True):
            found.tokens.append(self._tokens(np.array(ids, np.int64), own, scored))
            flags = [scored.of(place)["is_greedy"].all() for place in own if scored.values]
            found.is_greedy.append(all(map(bool, flags)))
        return found

    def _tokens(
        self, ids: NDArray[np.int64], places: Sequence[int], scored: Scored
    ) -> ScoredTokens | None:
        """One text's tokens, in one row whatever its windows."""
        if not len(ids):
            return None
        lengths = self.byte_lengths[ids].astype(np.int64)
        values = [scored.of(place) for place in places]
        return ScoredTokens(
            byte_ends=np.cumsum(lengths) - lengths.sum(),
            token=torch.cat([own["token"] for own in values]).numpy(),
            boundary=torch.cat([own["boundary"] for own in values]).numpy(),
            begins=self.starts.numpy()[ids],
        )
