"""What a tokenizer made of a text: ids that know their bytes.

Legend: T tokens of one text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Role(IntEnum):
    """What a token is for: `REGULAR` ones stand for bytes, all others for a place in a text.

    Special tokens of two tokenizers are matched by role, because their names and numbers differ.
    """

    REGULAR = 0
    BEGIN = 1
    END = 2
    PAD = 3
    UNKNOWN = 4
    END_OF_TURN = 5
    HEADER = 6
    OTHER = 7


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """One text as one tokenizer reads it.

    The regular tokens tile the text: each begins where the one before it ends. A special token,
    and a dummy prefix space (the space that some tokenizers put before a text), covers no byte of
    the text: its span is empty.

    Attributes:
        text: UTF-8 bytes of the text, without the strings of special tokens.
        ids: int32 [T].
        byte_spans: int32 [T, 2], half-open, in bytes of `text`.
        roles: uint8 [T], values of `Role`.
    """

    text: bytes
    ids: NDArray[np.int32]
    byte_spans: NDArray[np.int32]
    roles: NDArray[np.uint8]

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.ids)


def byte_spans(lengths: NDArray[np.int32]) -> NDArray[np.int32]:
    """Spans of tokens that tile a text, int32 [T, 2], from the bytes that each covers."""
    spans = np.empty((len(lengths), 2), np.int32)
    np.cumsum(lengths, out=spans[:, 1])
    np.subtract(spans[:, 1], lengths, out=spans[:, 0])
    return spans


def split_encodings(
    texts: Sequence[bytes],
    counts: Sequence[int],
    ids: NDArray[np.int32],
    lengths: NDArray[np.int32],
) -> Iterator[Encoding]:
    """Encodings of many texts from arrays that hold one text's tokens behind the other's.

    One pass over long arrays instead of many over short ones.

    Args:
        texts: UTF-8 bytes of each text.
        counts: Tokens of each text.
        ids: The tokens of all texts, all of them regular.
        lengths: The bytes that each covers.
    """
    spans = byte_spans(lengths)
    sizes = np.fromiter(map(len, texts), np.int32, len(texts))
    spans -= np.repeat(np.cumsum(sizes) - sizes, counts).astype(np.int32)[:, None]
    roles = np.zeros(len(ids), np.uint8)
    start = 0
    for text, count in zip(texts, counts, strict=True):
        own = slice(start, start + count)
        yield Encoding(text, ids[own], spans[own], roles[own])
        start += count
