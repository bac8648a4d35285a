"""Training rows: the teacher's pieces, with the other sides' tokens and the chunks inside.

A cut text is never tokenised. The student and further teachers get the tokens of their own
whole-document encodings that lie inside a piece; a chunk that crosses a cut is left out on all
sides and counted.

Legend: T tokens of one side of a row, N chunks of a row.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from suite.align.completions import in_completions
from suite.align.cut import PackConfig, Piece, cut_rows
from suite.align.documents import AlignedDocument, SideView
from suite.align.rows import (
    BEGIN_CHUNK,
    NO_CHUNKS,
    Bools,
    Ints,
    Row,
    RowChunks,
    RowCounts,
    RowSide,
    concatenate_chunks,
)
from suite.text.encoding import Encoding, Role
from suite.text.tokenizers import OpenedTokenizer


def pack_rows(
    documents: Iterable[AlignedDocument],
    teacher: OpenedTokenizer,
    student: OpenedTokenizer,
    config: PackConfig,
    *,
    more_teachers: Sequence[OpenedTokenizer] = (),
    first_token: int = 0,
) -> Iterator[Row]:
    """Rows of a stream of documents.

    To go on behind a row, read documents from its `resume`, with its `resume_token` as
    `first_token`.

    Args:
        documents: In order; read only as far as the next row needs.
        teacher: For its begin token.
        student: For its begin token.
        config: The limits, and how documents share a row.
        more_teachers: For the begin tokens of further teachers; those the documents were read for.
        first_token: Where to begin in the first document.
    """
    held: dict[int, _Held] = {}

    def encodings() -> Iterator[Encoding]:
        for number, document in enumerate(documents):
            held[number] = _Held(document)
            yield document.teacher

    begin_ids = [side.begin_id for side in (teacher, *more_teachers, student)]
    for pieces in cut_rows(encodings(), teacher.begin_id, config, first_token=first_token):
        for number in [number for number in held if number < pieces[0].document]:
            del held[number]
        parts = [_part(held[piece.document], piece, begin_ids) for piece in pieces]
        own = [held[piece.document].document for piece in pieces]
        yield _join(pieces, own, parts, restarts=config.packing == "isolated")


class _Held:
    """A document while rows are cut from it, with what is looked up again for every piece.

    Columns are searched with bisect: for a Python number numpy's search would convert all of the
    document each time.
    """

    def __init__(self, document: AlignedDocument) -> None:
        self.document = document
        self.counts_teacher = in_completions(document.teacher, document.completions)
        self.others: tuple[_HeldSide, ...] = ()
        if document.others is None:
            return
        alignment, views = document.others.alignment, document.others.views
        self.others = tuple(map(_HeldSide, views))
        self.spans = [alignment.teacher_spans, *(view.spans for view in views)]
        self.chunk_bytes = alignment.byte_spans
        self.chunk_starts, self.chunk_stops = alignment.teacher_spans.T
        num_counted = np.concatenate([[0], np.cumsum(self.counts_teacher)])
        self.counts_chunk = num_counted[self.chunk_stops] - num_counted[self.chunk_starts] == (
            self.chunk_stops - self.chunk_starts
        )

    def inside(self, other: _HeldSide, piece: Piece) -> slice:
        """The tokens of another side that lie inside a piece."""
        start = self._cut(other, piece.start)[1]
        return slice(start, max(start, self._cut(other, piece.stop)[0]))

    def _cut(self, other: _HeldSide, token: int) -> tuple[int, int]:
        """Behind the last token of another side before a cut, and its first token behind it.

        Chunks decide where they can, because special tokens and dummy spaces share a byte position
        with their neighbours.

        Args:
            other: The side.
            token: The teacher's token that the cut comes before.
        """
        teacher, view = self.document.teacher, other.view
        if token == 0:
            return 0, 0
        if token == len(teacher):
            return len(view.encoding), len(view.encoding)
        behind = bisect_left(self.chunk_starts, token)
        low, high = 0, len(view.encoding)
        if behind > 0:
            is_parted = self.chunk_stops[behind - 1] > token
            low = int(view.spans[behind - 1, 0 if is_parted else 1])
        if behind < len(view.spans):
            high = int(view.spans[behind, 0])
        place = _own_byte(view, int(teacher.byte_spans[token, 0]))
        stop = bisect_right(other.stops, place, low, high)
        return stop, bisect_left(other.starts, place, stop, high)


class _HeldSide:
    """Another side of a document while rows are cut from it."""

    def __init__(self, view: SideView) -> None:
        self.view = view
        self.counts = in_completions(view.encoding, view.completions)
        self.starts, self.stops = view.encoding.byte_spans.T


@dataclass(frozen=True, eq=False)
class _PartSide:
    """The tokens of a piece on one side, which begins at `start` in its encoding."""

    ids: Ints
    loss_mask: Bools
    start: int = 0
    has_prefix: bool = False


_NO_TOKENS = _PartSide(np.zeros(0, np.int32), np.zeros(0, np.bool_))


@dataclass(frozen=True, eq=False)
class _Part:
    """A piece on all sides, the student's last, counted from its own first tokens."""

    sides: list[_PartSide]
    chunks: RowChunks
    counts: RowCounts


def _part(held: _Held, piece: Piece, begin_ids: Sequence[int | None]) -> _Part:
    encoding = held.document.teacher
    spans = encoding.byte_spans
    tokens = slice(piece.start, piece.stop)
    teacher = _part_side(encoding, held.counts_teacher, tokens, begin_ids[0])
    counts = RowCounts(
        num_bytes=int(spans[piece.stop - 1, 1] - spans[piece.start, 0]),
        num_teacher_tokens=len(teacher.ids),
    )
    if not held.others:
        others = [_NO_TOKENS] * (len(begin_ids) - 1)
        none = NO_CHUNKS.with_spans([NO_CHUNKS.teacher_spans] * len(begin_ids))
        return _Part([teacher, *others], none, counts)
    others = [
        _part_side(other.view.encoding, other.counts, held.inside(other, piece), begin_id)
        for other, begin_id in zip(held.others, begin_ids[1:], strict=True)
    ]
    sides = [teacher, *others]
    chunks, num_crossing, num_first = _piece_chunks(held, piece, sides)
    counts += RowCounts(
        num_student_tokens=len(others[-1].ids),
        num_chunks=len(chunks.is_begin),
        num_crossing=num_crossing,
        num_first=num_first,
    )
    return _Part(sides, chunks, counts)


def _part_side(encoding: Encoding, counts: Bools, tokens: slice, begin_id: int | None) -> _PartSide:
    """Tokens of a piece behind a begin token, unless they begin with it.

    Args:
        encoding: The whole document.
        counts: Which of its tokens losses count.
        tokens: Those in the piece.
        begin_id: The side's begin token.
    """
    ids = encoding.ids[tokens]
    has_prefix = begin_id is not None and len(ids) > 0 and int(ids[0]) != begin_id
    if has_prefix:
        ids = np.concatenate([np.array([begin_id], np.int32), ids])
    mask = np.zeros(len(ids), np.bool_)
    mask[has_prefix:] = counts[tokens]
    # Nothing precedes the first token.
    mask[:1] = False
    return _PartSide(ids, mask, tokens.start, has_prefix)


def _piece_chunks(
    held: _Held, piece: Piece, sides: Sequence[_PartSide]
) -> tuple[RowChunks, int, int]:
    """The chunks inside a piece, and how many cross its end or hold a first token."""
    first = bisect_left(held.chunk_starts, piece.start)
    behind = bisect_left(held.chunk_starts, piece.stop)
    inside = slice(first, max(first, bisect_right(held.chunk_stops, piece.stop)))
    spans = [own[inside] for own in held.spans]
    begins = np.zeros(len(spans[0]), np.bool_)
    for side, own in zip(sides, spans, strict=True):
        begins |= (not side.has_prefix) & (own[:, 0] == side.start)
    # A begin token is matched with a begin token only.
    is_begin = begins & (held.document.teacher.roles[spans[0][:, 0]] == Role.BEGIN)
    keep = is_begin | ~begins
    teacher, *more, student = (
        own[keep] - side.start + side.has_prefix for side, own in zip(sides, spans, strict=True)
    )
    found = RowChunks(
        teacher_spans=teacher,
        student_spans=student,
        num_bytes=np.diff(held.chunk_bytes[inside][keep])[:, 0],
        is_begin=is_begin[keep],
        closes=np.zeros(np.count_nonzero(keep), np.bool_),
        in_completion=held.counts_chunk[inside][keep],
        more_teacher_spans=tuple(more),
    )
    if all(side.has_prefix for side in sides):
        begin = BEGIN_CHUNK.with_spans([BEGIN_CHUNK.teacher_spans] * len(sides))
        found = concatenate_chunks([begin, found])
    return found, behind - inside.stop, int(np.count_nonzero(~keep))


def _join(
    pieces: tuple[Piece, ...],
    documents: list[AlignedDocument],
    parts: list[_Part],
    *,
    restarts: bool,
) -> Row:
    sizes = [[len(side.ids) for side in part.sides] for part in parts]
    chunks = []
    before = [0] * len(sizes[0])
    for part, own in zip(parts, sizes, strict=True):
        moved = [spans + place for spans, place in zip(part.chunks.spans, before, strict=True)]
        chunks.append(replace(part.chunks.with_spans(moved), closes=_closes(part.chunks)))
        before = [place + size for place, size in zip(before, own, strict=True)]
    teacher, *more, student = (
        RowSide(
            np.concatenate([side.ids for side in sides]),
            _positions([len(side.ids) for side in sides], restarts),
            np.concatenate([side.loss_mask for side in sides]),
        )
        for sides in zip(*(part.sides for part in parts), strict=True)
    )
    return Row(
        pieces=pieces,
        documents=tuple(document.number for document in documents),
        teacher=teacher,
        student=student,
        chunks=concatenate_chunks(chunks),
        counts=sum((part.counts for part in parts), RowCounts(num_rows=1)),
        resume=documents[-1].resume if pieces[-1].is_last else documents[-1].position,
        resume_token=0 if pieces[-1].is_last else pieces[-1].stop,
        more_teachers=tuple(more),
    )


def _closes(chunks: RowChunks) -> Bools:
    """Where a group must end: at the last chunk, and before one that does not follow at once."""
    is_last = np.ones(len(chunks.is_begin), np.bool_)
    for spans in chunks.spans:
        is_last[:-1] &= spans[1:, 0] == spans[:-1, 1]
    is_last[:-1] ^= True
    return is_last


def _positions(sizes: list[int], restarts: bool) -> Ints:
    if not restarts:
        return np.arange(sum(sizes), dtype=np.int32)
    return np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])


def _own_byte(view: SideView, place: int) -> int:
    """The byte of another side's text that corresponds to one of the teacher's.

    Under two templates, template text corresponds to the end of the content before it.
    """
    if view.contents is None:
        return place
    teacher, own = view.contents
    content = bisect_right(teacher[:, 0], place) - 1
    if content < 0:
        return 0
    inside = min(place, int(teacher[content, 1])) - int(teacher[content, 0])
    return int(own[content, 0]) + inside
