"""Texts that begin alike share what they begin with: a tree of token segments.

Legend: P distinct places of a tree, the tokens that are read.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# A shared segment costs a pass of its own over a small batch and a copy of its cache: fewer tokens
# than this are read again instead.
MIN_SAVED_TOKENS = 12


@dataclass(eq=False)
class Segment:
    """Tokens that some texts have in common behind those of its parent.

    Attributes:
        ids: int32, at least one token.
        start: Tokens of the text before them.
        parent: The segment before, None at the start of texts.
        children: The segments that follow.
    """

    ids: NDArray[np.int32]
    start: int
    parent: Segment | None
    children: list[Segment] = field(default_factory=list)

    def at(self, place: int) -> tuple[Segment, int]:
        """The segment, this one or one before it, that holds a place of the text, and where."""
        segment = self
        while place < segment.start:
            assert segment.parent is not None
            segment = segment.parent
        return segment, place - segment.start


def prefix_tree(texts: Sequence[NDArray[np.int32]]) -> tuple[list[Segment], list[Segment]]:
    """Arrange texts so that shared beginnings stand once.

    Args:
        texts: Token ids of each, at least one token.

    Returns:
        The segments at the start of texts, and for each text the segment it ends in.
    """
    # Big-endian bytes sort as the numbers do, without making Python numbers of them.
    keys = [text.astype(">u4").tobytes() for text in texts]
    order = sorted(range(len(texts)), key=keys.__getitem__)
    shared = np.array(
        [_num_shared(texts[a], texts[b]) for a, b in itertools.pairwise(order)], np.int64
    )
    roots: list[Segment] = []
    ends: list[Segment | None] = [None] * len(texts)
    # Ranges of the sorted texts that agree on their first `depth` tokens, which `parent` holds.
    pending: list[tuple[int, int, int, Segment | None]] = [(0, len(texts), 0, None)]
    while pending:
        first, stop, depth, parent = pending.pop()
        inner = shared[first : stop - 1]
        common = int(inner.min()) if len(inner) else len(texts[order[first]])
        is_leaf = common == len(texts[order[stop - 1]])
        num_saved = (stop - first - 1) * (common - depth)
        if common > depth and (is_leaf or num_saved >= MIN_SAVED_TOKENS):
            parent = _follow(texts[order[first]][depth:common], depth, parent, roots)
            depth = common
        if is_leaf:
            for place in range(first, stop):
                ends[order[place]] = parent
            continue
        # A text that ends here sorts before those that go on.
        borders = [first, *(first + 1 + np.flatnonzero(inner == common)), stop]
        for start, end in reversed(list(itertools.pairwise(borders))):
            if len(texts[order[end - 1]]) == depth:
                for place in range(start, end):
                    ends[order[place]] = parent
            else:
                pending.append((int(start), int(end), depth, parent))
    return roots, [end for end in ends if end is not None]


def _follow(
    ids: NDArray[np.int32], start: int, parent: Segment | None, roots: list[Segment]
) -> Segment:
    """A new segment behind a parent, or at the start of texts."""
    segment = Segment(ids, start, parent)
    (roots if parent is None else parent.children).append(segment)
    return segment


def _num_shared(first: NDArray[np.int32], second: NDArray[np.int32]) -> int:
    """Tokens at the start that are equal."""
    size = min(len(first), len(second))
    differs = first[:size] != second[:size]
    return int(differs.argmax()) if differs.any() else size
