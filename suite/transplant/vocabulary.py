"""Where each row of the new embeddings comes from: copied, composed, or of no use.

Legend: V ids of the new tokenizer, C composed tokens, N shared tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suite.text.encoding import Role
from suite.text.tokenizers import OpenedTokenizer
from suite.text.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class VocabularyPlan:
    """What becomes of every id of the new tokenizer.

    Ids that no text has are unused: a gap that another tokenizer's special token left, an entry
    without bytes, or the second entry for the same bytes (`<0x61>` beside `a`).

    Attributes:
        copied_from: int32 [V], the old id whose row is copied; -1 for none.
        composed: int64 [C], rising ids whose rows are made by a method.
        composed_bytes: The bytes they stand for, [C].
        shared: int64 [N, 2], new and old id of regular tokens that stand for the same bytes.
        num_special: Special tokens whose rows are copied.
    """

    copied_from: NDArray[np.int32]
    composed: NDArray[np.int64]
    composed_bytes: tuple[bytes, ...]
    shared: NDArray[np.int64]
    num_special: int

    @property
    def num_rows(self) -> int:
        """Rows of the new embeddings."""
        return len(self.copied_from)

    @property
    def num_copied(self) -> int:
        """Rows that are copied, those of special tokens included."""
        return int(np.count_nonzero(self.copied_from >= 0))

    @property
    def num_unused(self) -> int:
        """Rows that no text uses."""
        return self.num_rows - self.num_copied - len(self.composed)


def plan_vocabulary(
    old: OpenedTokenizer,
    new: OpenedTokenizer,
    special_from: Mapping[int, int | None],
    *,
    num_old_rows: int,
) -> VocabularyPlan:
    """Match the entries of two tokenizers by their bytes.

    Args:
        old: The model's own tokenizer.
        new: The one it is to have.
        special_from: New special tokens and the old ones whose rows they take, None for those that
            need no row; further ones are composed from the bytes of their strings.
        num_old_rows: Rows of the model's embeddings; special tokens beyond them have none.
    """
    vocabulary = new.vocabulary
    copied_from = np.full(len(vocabulary), -1, np.int32)
    for number, source in _same_bytes(old.vocabulary, vocabulary).items():
        copied_from[number] = source
    shared = np.flatnonzero(copied_from >= 0)
    shared = shared[[_is_first(vocabulary, int(number)) for number in shared]]
    pairs = np.stack([shared, copied_from[shared]], axis=1).astype(np.int64)
    # A special token beyond the model's rows was never trained: there is nothing to copy.
    copies = {
        number: source
        for number, source in special_from.items()
        if source is not None and source < num_old_rows
    }
    for number, source in copies.items():
        copied_from[number] = source
    composed = {
        number: vocabulary.token_bytes[number]
        for number in range(len(vocabulary))
        if copied_from[number] < 0 and _is_first(vocabulary, number)
    }
    composed |= {
        number: string.encode()
        for number, string in vocabulary.special.items()
        if number not in special_from
    }
    numbers = sorted(composed)
    return VocabularyPlan(
        copied_from=copied_from,
        composed=np.array(numbers, np.int64),
        composed_bytes=tuple(composed[number] for number in numbers),
        shared=pairs,
        num_special=len(copies),
    )


def _is_first(vocabulary: Vocabulary, number: int) -> bool:
    """Whether a tokenizer that reads these bytes gives this id; no for what has no bytes."""
    return vocabulary.id_of_bytes.get(vocabulary.token_bytes[number]) == number


def _same_bytes(old: Vocabulary, new: Vocabulary) -> dict[int, int]:
    """The old id of every new regular id that has one.

    A second entry for the same bytes takes the row of one of its own kind only: with that of the
    first, which the tokenizer uses, it would take half of its probability.
    """
    twins: dict[tuple[bytes, bool, bool], int] = {}
    for number in range(len(old) - 1, -1, -1):
        twins[_kind(old, number)] = number
    found = {}
    for number, entry in enumerate(new.token_bytes):
        if not entry:
            continue
        kind = _kind(new, number)
        is_same = number < len(old) and _kind(old, number) == kind
        source = number if is_same else twins.get(kind)
        if source is None and _is_first(new, number):
            source = old.id_of_bytes.get(entry)
        if source is not None:
            found[number] = source
    return found


def _kind(vocabulary: Vocabulary, number: int) -> tuple[bytes, bool, bool]:
    return (
        vocabulary.token_bytes[number],
        bool(vocabulary.is_fallback[number]),
        bool(vocabulary.is_added[number]),
    )


def special_by_string(old: OpenedTokenizer, new: OpenedTokenizer) -> dict[int, int | None]:
    """New special tokens and the old ones of the same string, None where there is none."""
    number_of = {string: number for number, string in old.vocabulary.special.items()}
    return {number: number_of.get(string) for number, string in new.vocabulary.special.items()}


def special_by_role(old: OpenedTokenizer, new: OpenedTokenizer) -> dict[int, int]:
    """New special tokens and the old ones of the same role, in the order of their ids.

    Tokens without a role of their own are matched by their strings. A token may serve as several:
    that which every text begins with takes the old begin token's row in any case, because without
    it models fail.
    """
    roles, old_roles = new.vocabulary.roles, old.vocabulary.roles
    found = {
        number: source
        for number, source in special_by_string(old, new).items()
        if source is not None and roles[number] == old_roles[source] == Role.OTHER
    }
    for role in Role:
        if role not in (Role.REGULAR, Role.OTHER):
            numbers, sources = (
                new.vocabulary.ids_with_role(role),
                old.vocabulary.ids_with_role(role),
            )
            found |= dict(zip(numbers, sources, strict=False))
    for attribute in ("eos_token_id", "pad_token_id", "unk_token_id"):
        number, source = getattr(new.hf, attribute), getattr(old.hf, attribute)
        if number is not None and source is not None:
            found.setdefault(number, source)
    if new.begin_id is not None and old.begin_id is not None:
        found[new.begin_id] = old.begin_id
    return found
