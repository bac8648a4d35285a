"""What all members of an ensemble can predict: shared tokens, one end symbol, the rest.

Members share a vocabulary but for their special tokens. An *outcome* is one of N shared regular
tokens, the end of the text (whatever a member ends it by), or `other`: the mass that a member gives
to entries that the others do not have. Nothing is lost, so a member's outcomes sum to 1.

Legend: V entries of a member's vocabulary, N shared tokens, O = N + 2 outcomes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from suite.errors import ConfigError
from suite.text.vocabulary import Vocabulary

_DEAD = -1


@dataclass(frozen=True, eq=False)
class OutcomeSpace:
    """The outcomes that an ensemble's members share.

    Attributes:
        token_bytes: The shared regular tokens, in the order of the first member's ids. [N]
    """

    token_bytes: tuple[bytes, ...]

    @property
    def end(self) -> int:
        """The outcome that ends a text."""
        return len(self.token_bytes)

    @property
    def other(self) -> int:
        """The outcome of a member's remaining mass; always the last, and never emitted."""
        return len(self.token_bytes) + 1

    @property
    def size(self) -> int:
        """O, the number of outcomes."""
        return len(self.token_bytes) + 2


@dataclass(frozen=True, eq=False)
class OutcomeMap:
    """Where a member's entries go.

    Attributes:
        outcome_of: The outcome of each entry, -1 for dead ones. int64 [V]
        id_of: The member's entry for each shared token. int64 [N]
    """

    outcome_of: Tensor
    id_of: Tensor

    def to_outcomes(self, log_probs: Tensor) -> Tensor:
        """Log-probabilities of the outcomes: one entry each, summed in `end` and `other`.

        Args:
            log_probs: [..., V], log-softmax over the entries, dead ones -inf.

        Returns:
            [..., O], in the same dtype; an outcome without mass is -inf.
        """
        num_tokens = len(self.id_of)
        outcomes = log_probs.new_empty(*log_probs.shape[:-1], num_tokens + 2)
        first = self._first_of_run
        if first is None:
            outcomes[..., :num_tokens] = log_probs.index_select(-1, self.id_of)
        else:
            outcomes[..., :num_tokens] = log_probs[..., first : first + num_tokens]
        outcomes[..., num_tokens] = log_probs[..., self._end_ids].logsumexp(-1)
        outcomes[..., num_tokens + 1] = log_probs[..., self._other_ids].logsumexp(-1)
        return outcomes

    def ending_too(self, ids: Sequence[int]) -> OutcomeMap:
        """The same map, where these entries without bytes end a text as well."""
        outcome_of = self.outcome_of.clone()
        outcome_of[list(ids)] = len(self.id_of)
        return OutcomeMap(outcome_of, self.id_of)

    def to(self, device: torch.device) -> OutcomeMap:
        """The same map for log-probabilities on another device."""
        return OutcomeMap(self.outcome_of.to(device), self.id_of.to(device))

    @cached_property
    def _first_of_run(self) -> int | None:
        """The first shared token's entry where they are a run: a slice is faster than a gather."""
        if not len(self.id_of):
            return None
        first = int(self.id_of[0])
        run = torch.arange(first, first + len(self.id_of), device=self.id_of.device)
        return first if torch.equal(self.id_of, run) else None

    @cached_property
    def _end_ids(self) -> Tensor:
        return (self.outcome_of == len(self.id_of)).nonzero().flatten()

    @cached_property
    def _other_ids(self) -> Tensor:
        return (self.outcome_of == len(self.id_of) + 1).nonzero().flatten()


@dataclass(frozen=True)
class MemberVocabulary:
    """What a member can predict.

    Attributes:
        name: The member's, for messages.
        vocabulary: Its tokenizer's entries.
        num_entries: V: rows of its output that belong to an entry.
        end_ids: The entries that end a text or a turn.
    """

    name: str
    vocabulary: Vocabulary
    num_entries: int
    end_ids: tuple[int, ...]


def shared_outcomes(
    members: Sequence[MemberVocabulary],
) -> tuple[OutcomeSpace, tuple[OutcomeMap, ...]]:
    """The outcomes of members that share their ordinary tokens, and each member's map to them.

    A token is shared when every member has an entry for its bytes, whatever its id. Of two entries
    with the same bytes (`a` and `<0x61>`) the one that encodes the bytes is the token; the second
    goes to `other`. Ordinary entries, that is all but special, added and dead ones, must have their
    bytes in every member; single bytes for byte fallback are ordinary entries.

    Raises:
        ConfigError: A member has ordinary entries that another lacks.
    """
    entries = [entries_by_bytes(member) for member in members]
    for member, own in zip(members[1:], entries[1:], strict=True):
        _check_same_tokens((members[0], member), (entries[0], own))
    in_all = set(entries[0]).intersection(*entries[1:])
    tokens = tuple(data for data in entries[0] if data in in_all)
    maps = (_outcome_map(*pair, tokens) for pair in zip(members, entries, strict=True))
    return OutcomeSpace(tokens), tuple(maps)


def entries_by_bytes(member: MemberVocabulary) -> dict[bytes, int]:
    """The entry for each byte string by rising id, without those that end a text."""
    ends = set(member.end_ids)
    pairs = sorted(member.vocabulary.id_of_bytes.items(), key=lambda pair: pair[1])
    return {data: id for data, id in pairs if id < member.num_entries and id not in ends}


def _check_same_tokens(
    members: tuple[MemberVocabulary, MemberVocabulary],
    entries: tuple[dict[bytes, int], dict[bytes, int]],
) -> None:
    first, second = members
    only_first = sum(data not in entries[1] for data in _ordinary(first))
    only_second = sum(data not in entries[0] for data in _ordinary(second))
    if only_first or only_second:
        raise ConfigError(
            f"{first.name} and {second.name}: their vocabularies differ"
            f" ({only_first:,} entries are only in {first.name}'s,"
            f" {only_second:,} only in {second.name}'s);"
            f" give one the other's with `suite transplant`,"
            f" or combine them by word_mixture or mined"
        )


def _ordinary(member: MemberVocabulary) -> Iterator[bytes]:
    """The bytes of the entries that text is made of, each once."""
    vocabulary, ends = member.vocabulary, set(member.end_ids)
    for data, id in entries_by_bytes(member).items():
        if not vocabulary.is_added[id] and id not in ends:
            yield data


def _outcome_map(
    member: MemberVocabulary, entries: dict[bytes, int], tokens: tuple[bytes, ...]
) -> OutcomeMap:
    """A member's map, given its entries for byte strings and the bytes of the shared tokens."""
    vocabulary, size = member.vocabulary, member.num_entries
    end, other = len(tokens), len(tokens) + 1
    is_dead = np.ones(size, np.bool_)
    known = min(size, len(vocabulary))
    is_dead[:known] = vocabulary.is_dead[:known]
    outcome_of = np.where(is_dead, _DEAD, other)
    id_of = np.array([entries[data] for data in tokens], np.int64)
    outcome_of[id_of] = np.arange(len(tokens))
    outcome_of[[id for id in member.end_ids if id < size]] = end
    return OutcomeMap(torch.from_numpy(outcome_of), torch.from_numpy(id_of))
