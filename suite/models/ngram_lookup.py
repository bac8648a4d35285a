"""Which old embedding each byte gets: that of the longest old token that ends there.

Legend: B rows, T tokens, V entries of the byte vocabulary, R old embeddings, h tokens of history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from suite.text.bytelevel import NUM_BYTES
from suite.text.suffix_trie import NO_BYTE, SuffixTrie
from suite.text.tokenizers import OpenedTokenizer

NOTHING = -1
"""In ids: padding, or what stands before a text. In rows: no embedding is added."""


@dataclass(frozen=True, eq=False)
class NgramTable:
    """The old tokens, written in the symbols of a byte vocabulary.

    Attributes:
        entries: The symbols of each old token; entry k belongs to embedding k.
        symbols: int16 [V], the symbol of each entry of the byte vocabulary: for a byte the byte
            itself. `NO_BYTE` for special tokens, which no old token reaches across.
        alone: int64 [V], the embedding of an entry without symbol, `NOTHING` for none.
    """

    entries: Sequence[bytes]
    symbols: NDArray[np.int16]
    alone: NDArray[np.int64]

    @cached_property
    def trie(self) -> SuffixTrie:
        """The old tokens, to be looked up from their ends."""
        return SuffixTrie.build(self.entries, np.arange(len(self.entries)))

    @property
    def history_length(self) -> int:
        """How many tokens before a piece of text decide about embeddings in it."""
        return self.trie.history_length

    def rows(
        self, ids: NDArray[np.int64], begins: NDArray[np.bool_], history: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The embedding that each token gets.

        Args:
            ids: int64 [B, T], `NOTHING` for padding.
            begins: bool [B, T], tokens at which a document begins: nothing reaches across.
            history: int64 [B, h], what each row's text had before, `NOTHING` where it had not
                begun; h may be 0.

        Returns:
            int64 [B, T], `NOTHING` where nothing is added.
        """
        before = np.concatenate([np.full((len(ids), 1), NOTHING), history], axis=1)
        symbols = np.concatenate([self._symbols_of(before), self._symbols_of(ids)], axis=1)
        starts = np.zeros(symbols.shape, np.bool_)
        starts[:, before.shape[1] :] = begins
        # All rows as one text, in which a symbol that no token holds keeps them apart.
        places = np.flatnonzero(starts)
        found = self.trie.lookup(np.insert(symbols.ravel(), places, NO_BYTE))
        found = np.delete(found, places + np.arange(len(places)))
        rows = found.reshape(symbols.shape)[:, before.shape[1] :].astype(np.int64)
        is_alone = symbols[:, before.shape[1] :] == NO_BYTE
        rows[is_alone] = np.where(ids < 0, NOTHING, self.alone[ids])[is_alone]
        return rows

    def _symbols_of(self, ids: NDArray[np.int64]) -> NDArray[np.int16]:
        return np.where(ids < 0, np.int16(NO_BYTE), self.symbols[ids])


def table_of(
    old: OpenedTokenizer, new: OpenedTokenizer, num_rows: int
) -> tuple[NgramTable, NDArray[np.int64]]:
    """The table of a subword tokenizer's tokens over a byte-level tokenizer's.

    A special token of the new tokenizer gets the embedding of the old one with the same string.

    Args:
        old: The subword tokenizer.
        new: The byte-level tokenizer.
        num_rows: Old embeddings; tokens beyond them have none.

    Returns:
        The table, and int64 [R], the old token of each of its embeddings.
    """
    entries = {
        entry: token for entry, token in old.vocabulary.id_of_bytes.items() if token < num_rows
    }
    old_special = {
        string: token for token, string in old.vocabulary.special.items() if token < num_rows
    }
    kept = {
        token: old_special[string]
        for token, string in new.vocabulary.special.items()
        if string in old_special
    }
    symbols = np.full(len(new.vocabulary), NO_BYTE, np.int16)
    symbols[:NUM_BYTES] = np.arange(NUM_BYTES)
    alone, tokens = _alone(kept, len(entries), len(symbols))
    return (
        NgramTable(tuple(entries), symbols, alone),
        np.array([*entries.values(), *tokens], np.int64),
    )


def _alone(kept: Mapping[int, int], first: int, size: int) -> tuple[NDArray[np.int64], list[int]]:
    """Embeddings of special tokens, behind those of the entries; and their old tokens."""
    alone = np.full(size, NOTHING, np.int64)
    alone[list(kept)] = first + np.arange(len(kept))
    return alone, list(kept.values())
