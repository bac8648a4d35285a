"""Texts as members without a shared vocabulary read them, for mixtures over words.

Every member reads a text with its own tokenizer and in windows of its own. Bytes are counted from
the end of the text, because some tokenizers put a space before its beginning, and where a token
spans the border to the prompt a member scores a little more than the others.
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
from suite.harness.chat import is_chat, render_for
from suite.harness.contract import check_fits, not_finite, rolling_windows
from suite.harness.opening import OpenedModel
from suite.harness.protocol import Protocol
from suite.harness.shared_texts import encode_apart, end_alike
from suite.text.tokenizers import shared_text


class CommonTexts:
    """Texts in the one form in which all members read them."""

    def __init__(self, members: Sequence[OpenedModel]) -> None:
        """Take the members that take part."""
        self._members = members
        self._tokenizers = [own.tokenizer for own in members if own.tokenizer is not None]
        self._end_alike: dict[str, bool] = {}

    def form(self, text: str) -> str:
        """The text in the normal form that any of the members needs."""
        return shared_text(text, self._tokenizers).text

    def end_alike(self, context: str) -> bool:
        """Whether a prompt ends in the same white space for all members."""
        if not is_chat(context):
            return True
        if context not in self._end_alike:
            self._end_alike[context] = end_alike(
                [render_for(own.text.hf, context, own.chat_options) for own in self._members]
            )
        return self._end_alike[context]


@dataclass(frozen=True, eq=False)
class WordScores:
    """What one member says of some texts.

    Attributes:
        tokens: Of each text; None for an empty one.
        data: The bytes of each text's scored tokens.
        is_greedy: Whether its own greedy decoding gives the text.
        is_cut: Whether the prompt was cut on the left.
        is_moved: Whether a token spans the border between prompt and text.
    """

    tokens: list[ScoredTokens | None]
    data: list[bytes]
    is_greedy: list[bool]
    is_cut: list[bool]
    is_moved: list[bool]


@dataclass(frozen=True, eq=False)
class _Asked:
    """A member's requests: `owners` is the text of each, `ids` the scored tokens of each text."""

    requests: list[TokenRequest]
    owners: list[int]
    ids: list[NDArray[np.int32]]


class WordReader:
    """Scores texts with one member for `word_mixture`."""

    def __init__(
        self,
        opened: OpenedModel,
        protocol: Protocol,
        budget: TokenBudget,
    ) -> None:
        """Take a member whose tokens' bytes are known."""
        assert opened.vocabulary is not None
        self.opened = opened
        self.protocol = protocol
        self.budget = budget
        self.vocabulary = opened.vocabulary
        self.starts = boundary_start_mask(opened.vocabulary)

    def pairs(
        self, requests: Sequence[Any], common: CommonTexts, on_answer: Callable[[int], None]
    ) -> WordScores:
        """Score continuations behind prompts; `on_answer` is told of every finished request."""
        own, member = self.opened, self.opened.member
        asked = _Asked([], [], [])
        is_moved = []
        for number, request in enumerate(requests):
            given, continuation = map(common.form, request.args)
            context = render_for(own.text.hf, given, own.chat_options)
            if self.protocol == "paper" or common.end_alike(given):
                pair = encode_pair(own.text, context, continuation, self.protocol)
            else:
                pair = encode_apart(own.text, context, continuation)
            check_fits(request, len(pair.continuation), member.max_length, member.name)
            asked.requests.append(self._request(pair))
            asked.owners.append(number)
            asked.ids.append(np.array(pair.continuation, np.int32))
            is_moved.append(pair.is_moved)
        found = self._scored(asked, requests, on_answer)
        found.is_cut.extend(request.num_cut > 0 for request in asked.requests)
        found.is_moved.extend(is_moved)
        return found

    def texts(
        self, requests: Sequence[Any], common: CommonTexts, on_answer: Callable[[int], None]
    ) -> WordScores:
        """Score whole texts; `on_answer` is told of every finished window."""
        text = self.opened.text
        asked = _Asked([], [], [])
        for number, request in enumerate(requests):
            ids = text.encode(common.form(request.args[0]), False)
            asked.ids.append(np.array(ids, np.int32))
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
        found = WordScores([], [], [], [], [])
        for ids, own in zip(asked.ids, places, strict=True):
            found.tokens.append(self._tokens(ids, own, scored))
            found.data.append(self.vocabulary.join(ids))
            flags = [scored.of(place)["is_greedy"].all() for place in own if scored.values]
            found.is_greedy.append(all(map(bool, flags)))
        return found

    def _tokens(
        self, ids: NDArray[np.int32], places: Sequence[int], scored: Scored
    ) -> ScoredTokens | None:
        """One text's tokens, in one row whatever its windows."""
        if not len(ids):
            return None
        lengths = self.vocabulary.byte_lengths[ids].astype(np.int64)
        values = [scored.of(place) for place in places]
        return ScoredTokens(
            byte_ends=np.cumsum(lengths) - lengths.sum(),
            token=torch.cat([own["token"] for own in values]).numpy(),
            boundary=torch.cat([own["boundary"] for own in values]).numpy(),
            begins=self.starts.numpy()[ids],
        )
