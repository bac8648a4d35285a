"""Requests as the members of an ensemble read them: own prompts, the same outcomes behind these.

Legend: M members, V entries of a member's vocabulary, N shared tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.engine.ensembles import EnsembleRequest
from suite.engine.requests import TokenRequest, pair_request
from suite.engine.texts import EncodedPair, MemberText, encode_pair
from suite.errors import HarnessError
from suite.harness.chat import content_spans, is_chat, render_for
from suite.harness.contract import check_fits, item_name, rolling_windows
from suite.harness.opening import OpenedModel
from suite.harness.protocol import Protocol

# Of an id that stands for no outcome which a text can be made of.
NO_OUTCOME = -1

# A token of a prompt that members can share: what it is known by, its place, its outcome.
_Found = dict[tuple[int, ...], tuple[int, int]]


@dataclass(frozen=True, eq=False)
class PairRequests:
    """Requests for continuations.

    Attributes:
        requests: For the engine.
        is_cut: Whether some member's prompt was cut on the left.
        is_moved: Whether a token spans the border between prompt and continuation.
    """

    requests: list[EnsembleRequest]
    is_cut: list[bool]
    is_moved: list[bool]


@dataclass(frozen=True, eq=False)
class PromptRequest:
    """A prompt to be continued: each member's ids, and the shared tokens in them."""

    ids: tuple[list[int], ...]
    request: EnsembleRequest
    is_cut: bool


@dataclass(frozen=True, eq=False)
class Reading:
    """How texts become requests of all members.

    Attributes:
        opened: The members.
        outcome_of: For each member, what each of its ids stands for: a shared token, or N if it
            ends a text, or `NO_OUTCOME`. int64 [V]
        id_of: For each member, its id of each shared token. int64 [N]
        protocol: The tokenisation rule.
        is_mined: Texts are made of the first member's tokens, and the others are fed those of
            theirs that are most like these; else every member reads by itself, and must find the
            same tokens.
    """

    opened: tuple[OpenedModel, ...]
    outcome_of: tuple[NDArray[np.int64], ...]
    id_of: tuple[NDArray[np.int64], ...]
    protocol: Protocol
    is_mined: bool

    @property
    def max_length(self) -> int:
        """Tokens that every member reads of one text."""
        return min(own.member.max_length for own in self.opened)

    def pairs(self, requests: Sequence[Any], *, with_contexts: bool) -> PairRequests:
        """Continuations behind prompts.

        Args:
            requests: lm-eval's, with (context, continuation).
            with_contexts: Also ask for the prompts' shared tokens, if vocabularies are shared.

        Raises:
            HarnessError: Members read a continuation as different tokens, or cannot hold it.
        """
        found = PairRequests([], [], [])
        contexts: dict[Any, tuple[TokenRequest, ...]] = {}
        for request in requests:
            texts = self._rendered(request.args[0])
            pairs, outcomes = self._encoded(request, texts)
            for own, pair in zip(self.opened, pairs, strict=True):
                member = own.member
                check_fits(request, len(pair.continuation), member.max_length, member.name)
            asked = tuple(
                _request(pair, outcomes, own.member.max_length)
                for own, pair in zip(self.opened, pairs, strict=True)
            )
            shared = None
            if with_contexts and not self.is_mined:
                kept = [len(p.context) - a.num_cut for p, a in zip(pairs, asked, strict=True)]
                key = (request.args[0], *kept, *(own.num_cut for own in asked))
                if key not in contexts:
                    contexts[key] = self._contexts(request.args[0], texts, asked, kept)
                shared = contexts[key]
            found.requests.append(EnsembleRequest(asked, shared))
            found.is_cut.append(any(own.num_cut for own in asked))
            found.is_moved.append(any(pair.is_moved for pair in pairs))
        return found

    def windows(self, request: Any) -> list[EnsembleRequest]:
        """Requests for a whole text, in windows that are cut at the same tokens for all members.

        Raises:
            HarnessError: Members read the text as different tokens.
        """
        text = request.args[0]
        ids = [own.text.encode(text, False) for own in self._readers]
        outcomes = self._same_outcomes(request, ids)
        fed = [self._fed(m, outcomes, ids) for m in range(len(self.opened))]
        prefix = -1
        found = []
        # Windows of places instead of tokens serve all members.
        for before, scored in rolling_windows(range(len(outcomes)), prefix, self.max_length):
            asked = []
            for own, own_ids in zip(self.opened, fed, strict=True):
                context = [own.text.prefix_id if p == prefix else own_ids[p] for p in before]
                pair = EncodedPair(context, [own_ids[p] for p in scored])
                asked.append(_request(pair, outcomes[scored], self.max_length))
            found.append(EnsembleRequest(tuple(asked)))
        return found

    def prompt(self, request: Any, room: int, *, with_contexts: bool) -> PromptRequest:
        """A prompt to be continued.

        Args:
            request: lm-eval's.
            room: Tokens that are left for it.
            with_contexts: Also ask for its shared tokens.
        """
        texts = self._rendered(request.args[0])
        whole = [
            own.text.encode(text) or [own.text.prefix_id]
            for own, text in zip(self.opened, texts, strict=True)
        ]
        nothing = np.empty(0, np.int64)
        asked = tuple(_request(EncodedPair(ids, []), nothing, room - 1) for ids in whole)
        contexts = None
        if with_contexts:
            kept = [len(own.ids) for own in asked]
            contexts = self._contexts(request.args[0], texts, asked, kept)
        ids = tuple(own.ids.tolist() for own in asked)
        return PromptRequest(
            ids, EnsembleRequest(asked, contexts), any(own.num_cut for own in asked)
        )

    @property
    def _readers(self) -> tuple[OpenedModel, ...]:
        """The members whose own tokens a text is made of."""
        return self.opened[:1] if self.is_mined else self.opened

    def _rendered(self, context: str) -> list[str]:
        return [render_for(own.text.hf, context, own.chat_options) for own in self.opened]

    def _encoded(
        self, request: Any, texts: Sequence[str]
    ) -> tuple[list[EncodedPair], NDArray[np.int64]]:
        """Each member's tokens, and the outcomes of the continuation."""
        continuation = request.args[1]
        is_stripped = self.protocol == "paper" or end_alike(texts)
        encode = self._pair if is_stripped else encode_apart
        pairs = [
            encode(own.text, text, continuation)
            for own, text in zip(self._readers, texts, strict=False)
        ]
        ids = [pair.continuation for pair in pairs]
        outcomes = self._same_outcomes(request, ids)
        for m, own in enumerate(self.opened[len(pairs) :], start=len(pairs)):
            before = self._before(texts[m], pairs[0], continuation, is_stripped=is_stripped)
            fed = self._fed(m, outcomes, ids)
            pairs.append(EncodedPair(self._context(own, before), fed, pairs[0].is_moved))
        return pairs, outcomes

    def _before(
        self, text: str, first: EncodedPair, continuation: str, *, is_stripped: bool
    ) -> str:
        """A prompt without the end that counts with the continuation for the first member."""
        if self.protocol == "paper" or not is_stripped:
            return text
        text, end = text.rstrip(), text[len(text.rstrip()) :]
        if not first.is_moved:
            return text
        num_more = len(self.opened[0].text.decode(first.continuation)) - len(end + continuation)
        return text[: len(text) - max(0, num_more)]

    def _context(self, own: OpenedModel, text: str) -> list[int]:
        """A member's tokens of a prompt whose continuation it does not read itself."""
        if self.protocol == "paper":
            return encode_pair(own.text, text, "", "paper").context
        return (own.text.encode(text) if text else []) or [own.text.prefix_id]

    def _pair(self, text: MemberText, context: str, continuation: str) -> EncodedPair:
        return encode_pair(text, context, continuation, self.protocol)

    def _fed(self, m: int, outcomes: NDArray[np.int64], ids: Sequence[Sequence[int]]) -> list[int]:
        """What a member is fed for a text: its own tokens, or those most like the first's."""
        if m < len(ids):
            return list(ids[m])
        fed: list[int] = self.id_of[m][outcomes].tolist()
        return fed

    def _same_outcomes(self, request: Any, ids: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """The outcomes that a text is made of, the same for all members that read it.

        Raises:
            HarnessError: They are not the same, or there is a token that is no outcome.
        """
        found = [self.outcome_of[m][np.array(own, np.int64)] for m, own in enumerate(ids)]
        for m, own in enumerate(found):
            is_strange = own == NO_OUTCOME
            if self.is_mined:  # The end of a text is no single token of the other members.
                is_strange |= own == len(self.id_of[m])
            strange = np.flatnonzero(is_strange)
            if len(strange):
                token = self.opened[m].text.hf.convert_ids_to_tokens(int(ids[m][strange[0]]))
                raise HarnessError(
                    f"{item_name(request)}: '{self.opened[m].member.name}' reads a token in it that"
                    f" the members do not share, {token!r}; leave the item out"
                )
            if not np.array_equal(own, found[0]):
                first, other = self.opened[0].member.name, self.opened[m].member.name
                raise HarnessError(
                    f"{item_name(request)}: '{other}' reads it as {len(own)} tokens that are not"
                    f" the {len(found[0])} of '{first}'; combine them by word_mixture or mined, or"
                    " give one the other's tokenizer with `suite transplant`"
                )
        return found[0]

    def _contexts(
        self,
        context: str,
        texts: Sequence[str],
        asked: Sequence[TokenRequest],
        kept: Sequence[int],
    ) -> tuple[TokenRequest, ...]:
        """The prompts' shared tokens, as far as every member has a log-probability of them.

        Args:
            context: As lm-eval gave it.
            texts: As each member reads it.
            asked: Requests that begin with the prompts.
            kept: Tokens of the prompt in each of them.
        """
        found = []
        for m, own in enumerate(self.opened):
            spans = (
                content_spans(own.text.hf, context, own.chat_options) if is_chat(context) else None
            )
            ids = asked[m].ids[: kept[m]]
            places = _content_places(own, texts[m], ids, asked[m].num_cut, spans)
            outcomes = self.outcome_of[m][ids]
            found.append(
                {
                    key: (place, int(outcomes[place]))
                    for key, place in places.items()
                    if 0 <= outcomes[place] < len(self.id_of[m])
                }
            )
        keys = _shared_keys(found)
        return tuple(
            _context_request(asked[m].ids[: kept[m]], [found[m][key] for key in keys], asked[m])
            for m in range(len(self.opened))
        )


def end_alike(texts: Sequence[str]) -> bool:
    """Whether prompts end in the same white space, so that it can count with the continuation.

    Else some members would score white space that is no part of the others' prompts.
    """
    return len({text[len(text.rstrip()) :] for text in texts}) == 1


def encode_apart(text: MemberText, context: str, continuation: str) -> EncodedPair:
    """Prompt and continuation, each encoded alone."""
    return EncodedPair(text.encode(context), text.encode(continuation, False))


def _request(pair: EncodedPair, outcomes: NDArray[np.int64], max_length: int) -> TokenRequest:
    """A member's request whose targets are outcomes."""
    asked = pair_request(pair.context, pair.continuation, max_length=max_length)
    return replace(asked, targets=outcomes)


def _context_request(
    ids: NDArray[np.int32], found: Sequence[tuple[int, int]], asked: TokenRequest
) -> TokenRequest:
    scored = np.array([place for place, _ in found], np.int32)
    targets = np.array([outcome for _, outcome in found], np.int64)
    return TokenRequest(ids, scored, targets, asked.num_cut)


def _content_places(
    own: OpenedModel,
    text: str,
    ids: NDArray[np.int32],
    num_cut: int,
    spans: Sequence[tuple[int, int] | None] | None,
) -> dict[tuple[int, ...], int]:
    """The places of a prompt's content tokens, by what other members know them by.

    Args:
        own: The member.
        text: The prompt as it reads it.
        ids: Its tokens, as far as they were not cut off.
        num_cut: Tokens that were cut off.
        spans: In a conversation, where each message's content stands in the text.
    """
    if spans is None:
        # Counted from the end: members may begin a text with tokens of their own.
        return {(len(ids) - place,): place for place in range(1, len(ids))}
    places: dict[tuple[int, ...], int] = {}
    seen: Counter[tuple[int, int, int]] = Counter()
    for place, (start, end) in enumerate(_offsets(own, text)[num_cut : num_cut + len(ids)]):
        for message, span in enumerate(spans):
            if span is not None and span[0] <= start < end <= span[1]:
                name = (message, start - span[0], end - span[0])
                seen[name] += 1
                # Several tokens may be parts of one character.
                if place:
                    places[*name, seen[name]] = place
    return places


def _offsets(own: OpenedModel, text: str) -> list[tuple[int, int]]:
    """Where each token of a prompt begins and ends in its text."""
    hf = own.text.hf
    is_begun = text.startswith(hf.decode(own.text.prefix_id))
    encoding = hf(text, add_special_tokens=not is_begun, return_offsets_mapping=True)
    offsets: list[tuple[int, int]] = encoding["offset_mapping"]
    return offsets


def _shared_keys(found: Sequence[_Found]) -> list[tuple[int, ...]]:
    """What all members have, in the order of the text."""
    first, *others = found
    keys = [
        key
        for key, (_, outcome) in first.items()
        if all(key in own and own[key][1] == outcome for own in others)
    ]
    return sorted(keys, key=lambda key: first[key][0])
