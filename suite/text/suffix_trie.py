"""The longest entry of a vocabulary that ends at each byte, by array operations.

A trie over the entries' bytes read backwards: walking from a byte towards the start of the text,
the last entry on the path is the longest one that ends there. All positions of a block walk
together, one byte a step, and those that leave the trie drop out.

Legend: N nodes, n symbols. A symbol is a byte, 0-255, or `NO_BYTE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from suite.text.vocabulary import Vocabulary

NO_BYTE = 256
"""Stands for whatever is no byte, such as a special token or padding; no entry holds it."""

_NUM_SYMBOLS = 257
_WORDS_PER_NODE = 4
# A symbol's bit in its word of 64; that of NO_BYTE is never set, so it stops a walk.
_BIT_OF_SYMBOL = np.append(np.uint64(1) << np.arange(256, dtype=np.uint64) % 64, np.uint64(0))
# Large enough that numpy's cost of a call is small, small enough that arrays stay in the cache.
_BLOCK = 1 << 17


@dataclass(frozen=True, eq=False)
class SuffixTrie:
    """A trie over reversed byte strings, in flat arrays.

    Nodes are numbered level by level, and by byte below one parent, so that the children of a node
    follow one another: a child's number is that of the first child plus the number of smaller
    bytes that also have one.

    Attributes:
        max_length: Bytes of the longest entry, 0 without entries.
        pairs: The node that a symbol and the one before it lead to, or as far as one gets; int64
            [257 * 257], by the last symbol first.
        first_of_pairs: Number of the first node two bytes deep.
        words: Which bytes have a child, four words of 64 bits a node; uint64 [4 * N + 1].
        first_children: Number of the first child in each word; int64 [4 * N + 1].
        longest: Id of the longest entry on the path to a node, -1 for none; int32 [N].
    """

    max_length: int
    pairs: NDArray[np.int64]
    first_of_pairs: int
    words: NDArray[np.uint64]
    first_children: NDArray[np.int64]
    longest: NDArray[np.int32]

    @classmethod
    def from_vocabulary(cls, vocabulary: Vocabulary) -> SuffixTrie:
        """A trie of every entry that stands for bytes, special and dead ones left out.

        Of two entries with the same bytes the one that `vocabulary.id_of_bytes` names takes part.
        """
        ids = vocabulary.id_of_bytes
        return cls.build(tuple(ids), tuple(ids.values()))

    @classmethod
    def build(cls, token_bytes: Sequence[bytes], ids: ArrayLike) -> SuffixTrie:
        """A trie of byte strings, none of them empty and no two the same, and their ids."""
        edges = _edges(token_bytes)
        num_nodes = len(edges.parents) + 1
        words = np.zeros(_WORDS_PER_NODE * num_nodes + 1, np.uint64)
        places = edges.parents * _WORDS_PER_NODE + (edges.bytes >> 6)
        np.bitwise_or.at(words, places, _BIT_OF_SYMBOL[edges.bytes])
        num_children = np.bitwise_count(words).astype(np.int64)

        longest = np.full(num_nodes, -1, np.int32)
        longest[edges.last_nodes] = ids
        for first, stop in zip(edges.levels[1:], edges.levels[2:], strict=False):
            above = longest[edges.parents[first - 1 : stop - 1]]
            level = longest[first:stop]
            np.copyto(level, above, where=level < 0)
        return cls(
            max_length=len(edges.levels) - 2,
            pairs=_pairs(edges),
            first_of_pairs=edges.levels[min(2, len(edges.levels) - 1)],
            words=words,
            first_children=np.cumsum(num_children) - num_children + 1,
            longest=longest,
        )

    @property
    def history_length(self) -> int:
        """How many bytes before a text can be part of an entry that ends in it."""
        return max(self.max_length - 1, 0)

    def lookup(self, symbols: NDArray[np.integer]) -> NDArray[np.int32]:
        """Id of the longest entry that ends at each symbol, -1 for none; int32 [n].

        Time is linear in n times the depth that the text reaches, memory beside the result is that
        of one block.
        """
        found = np.empty(len(symbols), np.int32)
        margin = max(self.history_length, 1)
        for start in range(0, len(symbols), _BLOCK):
            stop = min(start + _BLOCK, len(symbols))
            window = np.full(margin + stop - start, NO_BYTE, np.int64)
            seen = symbols[max(start - margin, 0) : stop]
            window[len(window) - len(seen) :] = seen
            self.longest.take(self._deepest(window, margin), out=found[start:stop])
        return found

    def _deepest(self, window: NDArray[np.int64], margin: int) -> NDArray[np.int64]:
        """The deepest node on the path of each symbol of a window after its first `margin`."""
        deepest = self.pairs.take(window[margin:] * _NUM_SYMBOLS + window[margin - 1 : -1])
        active = np.flatnonzero(deepest >= self.first_of_pairs)
        nodes = deepest.take(active)
        for depth in range(2, self.max_length):
            symbols = window[margin - depth :].take(active)
            places = nodes * _WORDS_PER_NODE + (symbols >> 6)
            words, bits = self.words.take(places), _BIT_OF_SYMBOL.take(symbols)
            keep = np.flatnonzero(words & bits)
            if not len(keep):
                break
            smaller = words.take(keep) & (bits.take(keep) - np.uint64(1))
            nodes = self.first_children.take(places.take(keep)) + np.bitwise_count(smaller)
            active = active.take(keep)
            deepest[active] = nodes
        return deepest


@dataclass(frozen=True, eq=False)
class _Edges:
    """The nodes below the root, level by level; E = N - 1 of them, one edge leads to each.

    Attributes:
        parents: Number of the node above; int64 [E].
        bytes: The byte that leads to the node; int64 [E].
        levels: Number of the first node of each level from the root on, and N.
        last_nodes: The node of each entry's whole string; int64.
    """

    parents: NDArray[np.int64]
    bytes: NDArray[np.int64]
    levels: tuple[int, ...]
    last_nodes: NDArray[np.int64]


def _edges(token_bytes: Sequence[bytes]) -> _Edges:
    """Number the nodes: those of one level are the distinct pairs of a parent and a byte."""
    letters = np.frombuffer(b"".join(token_bytes), np.uint8)
    lengths = np.fromiter(map(len, token_bytes), np.int64, len(token_bytes))
    last_letters = np.cumsum(lengths) - 1
    nodes = np.zeros(len(token_bytes), np.int64)
    levels, parents, bytes_ = [0, 1], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    longer = np.flatnonzero(lengths)
    while len(longer):
        depth = len(levels) - 2
        keys = nodes[longer] << 8 | letters[last_letters[longer] - depth]
        distinct, places = np.unique(keys, return_inverse=True)
        nodes[longer] = levels[-1] + places
        parents.append(distinct >> 8)
        bytes_.append(distinct & 0xFF)
        levels.append(levels[-1] + len(distinct))
        longer = longer[lengths[longer] > depth + 1]
    return _Edges(np.concatenate(parents), np.concatenate(bytes_), tuple(levels), nodes)


def _pairs(edges: _Edges) -> NDArray[np.int64]:
    """The dense table of the first two levels, where nearly every walk passes."""
    table = np.zeros((_NUM_SYMBOLS, _NUM_SYMBOLS), np.int64)
    starts = (*edges.levels, edges.levels[-1], edges.levels[-1])
    first, second, third = starts[1:4]
    table[edges.bytes[first - 1 : second - 1]] = np.arange(first, second)[:, None]
    parents = edges.parents[second - 1 : third - 1]
    table[edges.bytes[parents - 1], edges.bytes[second - 1 : third - 1]] = np.arange(second, third)
    return table.ravel()
