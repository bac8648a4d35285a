"""Where training rows end: decided by the teacher's tokens and the text alone.

So a stored teacher's numbers stay valid whichever student reads them.

Legend: T teacher tokens of one document.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from suite.config import Config, PositiveInt
from suite.text.encoding import Encoding, Role

_IS_WHITE = np.isin(np.arange(256), np.frombuffer(b" \t\n\r\v\f", np.uint8))
_BYTES_PER_TOKEN = 8


class PackConfig(Config):
    """How documents fill training rows.

    Attributes:
        length: Most teacher tokens a row, begin tokens included.
        max_bytes: Most bytes of text a row; 8 x length by default.
        packing: `isolated` rows hold several documents that do not see each other, `concatenated`
            ones several that do, `none` one document or a part of one.
        keep_whole: Never cut a document that fits into a row of its own.
    """

    length: Annotated[int, Field(ge=2)] = 512
    max_bytes: PositiveInt | None = None
    packing: Literal["isolated", "concatenated", "none"] = "isolated"
    keep_whole: bool = False

    @property
    def byte_limit(self) -> int:
        """Most bytes of text a row."""
        return self.max_bytes or _BYTES_PER_TOKEN * self.length


@dataclass(frozen=True)
class Piece:
    """A part of a document that lies in one row.

    Attributes:
        document: Place of the document in the stream, from 0.
        start: Its first teacher token.
        stop: Behind its last teacher token.
        has_prefix: The row puts the teacher's begin token before it.
        is_last: It ends the document.
    """

    document: int
    start: int
    stop: int
    has_prefix: bool
    is_last: bool

    @property
    def num_tokens(self) -> int:
        """Teacher tokens in the row, the begin token included."""
        return self.stop - self.start + self.has_prefix


def cut_rows(
    documents: Iterable[Encoding],
    begin_id: int | None,
    config: PackConfig,
    *,
    first_token: int = 0,
) -> Iterator[tuple[Piece, ...]]:
    """Fill rows with documents in order; yields the pieces of each row.

    A row ends at the last teacher boundary before white space that follows a non-white byte, in
    the limits of tokens and bytes. Where a document has none there, it begins in the next row;
    where it has none in a row of its own, it is cut at the limit. Empty documents are in no row.

    Args:
        documents: The teacher's encodings; read only as far as the row needs.
        begin_id: The teacher's begin token, put before a piece that does not begin with it.
        config: The limits.
        first_token: Where to begin in the first document, to go on behind an earlier row.
    """
    row: list[Piece] = []
    num_tokens = num_bytes = 0
    for number, encoding in enumerate(documents):
        start = first_token if number == 0 else 0
        cuts = np.flatnonzero(_is_cut(encoding))
        while start < len(encoding):
            has_prefix = begin_id is not None and int(encoding.ids[start]) != begin_id
            room = _Room(config.length - num_tokens - has_prefix, config.byte_limit - num_bytes)
            limit = _limit(encoding, start, room)
            stop = _stop(limit, start, len(encoding), cuts)
            if row and (stop is None or (config.keep_whole and stop < len(encoding))):
                yield tuple(row)
                row, num_tokens, num_bytes = [], 0, 0
                continue
            if stop is None:
                # Also a token too long for any row has to be in one.
                stop = max(limit, start + 1)
            piece = Piece(number, start, stop, has_prefix, stop == len(encoding))
            row.append(piece)
            num_tokens += piece.num_tokens
            num_bytes += int(encoding.byte_spans[stop - 1, 1] - encoding.byte_spans[start, 0])
            start = stop
            if not piece.is_last or config.packing == "none":
                yield tuple(row)
                row, num_tokens, num_bytes = [], 0, 0
    if row:
        yield tuple(row)


@dataclass(frozen=True)
class _Room:
    """What is left of a row."""

    num_tokens: int
    num_bytes: int


def _is_cut(encoding: Encoding) -> NDArray[np.bool_]:
    """Whether a row may end before a token: white space begins there behind another byte, [T].

    A dummy space goes with what follows it.
    """
    is_white = _IS_WHITE[np.frombuffer(encoding.text, np.uint8)]
    starts, stops = encoding.byte_spans.T
    is_regular = encoding.roles == Role.REGULAR
    inner = (starts > 0) & (starts < len(is_white)) & is_regular
    is_cut = np.zeros(len(encoding), np.bool_)
    is_cut[inner] = is_white[starts[inner]] & ~is_white[starts[inner] - 1]
    is_dummy = is_regular & (starts == stops)
    is_cut[1:] &= ~is_dummy[:-1]
    return is_cut


def _limit(encoding: Encoding, start: int, room: _Room) -> int:
    """Behind the last token from `start` on that is within the limits."""
    last_byte = int(encoding.byte_spans[start, 0]) + room.num_bytes
    # Not numpy's search: for a Python number it would convert all of the document each time.
    by_bytes = bisect_right(encoding.byte_spans[:, 1], last_byte)
    return min(start + room.num_tokens, by_bytes)


def _stop(limit: int, start: int, num_tokens: int, cuts: NDArray[np.intp]) -> int | None:
    """Where a piece within a limit ends if it ends well: the document's end or a cut, else None."""
    if limit >= num_tokens:
        return num_tokens
    place = bisect_right(cuts, limit) - 1
    return int(cuts[place]) if place >= 0 and cuts[place] > start else None
