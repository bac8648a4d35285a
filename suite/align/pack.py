"""Training rows: the teacher's pieces, with the student's tokens and the chunks that lie inside.

A cut text is never tokenised. The student gets the tokens of its whole-document encoding that lie
inside a piece; a chunk that crosses a cut is left out on both sides and counted.

Legend: T tokens of one side of a row, N chunks of a row.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from suite.align.completions import in_completions
from suite.align.cut import PackConfig, Piece, cut_rows
from suite.align.documents import AlignedDocument, StudentView
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
        first_token: Where to begin in the first document.
    """
    held: dict[int, _Held] = {}

    def encodings() -> Iterator[Encoding]:
        for number, document in enumerate(documents):
            held[number] = _Held(document)
            yield document.teacher

    begin_ids = teacher.begin_id, student.begin_id
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
        if document.student is None:
            return
        student, alignment = document.student.encoding, document.student.alignment
        self.counts_student = in_completions(student, document.student.completions)
        self.student_starts, self.student_stops = student.byte_spans.T
        self.chunk_starts, self.chunk_stops = alignment.teacher_spans.T
        num_counted = np.concatenate([[0], np.cumsum(self.counts_teacher)])
        self.counts_chunk = num_counted[self.chunk_stops] - num_counted[self.chunk_starts] == (
            self.chunk_stops - self.chunk_starts
        )

    def student_cut(self, view: StudentView, token: int) -> tuple[int, int]:
        """Behind the student's last token before a cut, and its first token behind it.

        Chunks decide where they can, because special tokens and dummy spaces share a byte position
        with their neighbours.

        Args:
            view: The student's side of the document.
            token: The teacher's token that the cut comes before.
        """
        teacher = self.document.teacher
        if token == 0:
            return 0, 0
        if token == len(teacher):
            return len(view.encoding), len(view.encoding)
        behind = bisect_left(self.chunk_starts, token)
        low, high = 0, len(view.encoding)
        if behind > 0:
            is_parted = self.chunk_stops[behind - 1] > token
            low = int(view.alignment.student_spans[behind - 1, 0 if is_parted else 1])
        if behind < len(view.alignment):
            high = int(view.alignment.student_spans[behind, 0])
        place = _student_byte(view, int(teacher.byte_spans[token, 0]))
        stop = bisect_right(self.student_stops, place, low, high)
        return stop, bisect_left(self.student_starts, place, stop, high)


@dataclass(frozen=True, eq=False)
class _Part:
    """A piece on both sides, counted from its own first tokens."""

    teacher_ids: Ints
    student_ids: Ints
    teacher_loss_mask: Bools
    student_loss_mask: Bools
    chunks: RowChunks
    counts: RowCounts


def _part(held: _Held, piece: Piece, begin_ids: tuple[int | None, int | None]) -> _Part:
    document = held.document
    teacher, view = document.teacher, document.student
    teacher_ids = _prefixed(teacher.ids[piece.start : piece.stop], begin_ids[0])
    spans = teacher.byte_spans
    counts = RowCounts(
        num_bytes=int(spans[piece.stop - 1, 1] - spans[piece.start, 0]),
        num_teacher_tokens=len(teacher_ids),
    )
    teacher_mask = _loss_mask(held.counts_teacher[piece.start : piece.stop], len(teacher_ids))
    if view is None:
        none = np.zeros(0, np.int32)
        return _Part(teacher_ids, none, teacher_mask, none.astype(np.bool_), NO_CHUNKS, counts)
    start, stop = held.student_cut(view, piece.start)[1], held.student_cut(view, piece.stop)[0]
    stop = max(start, stop)
    student_ids = _prefixed(view.encoding.ids[start:stop], begin_ids[1])
    has_prefix = len(student_ids) > stop - start
    chunks, num_crossing, num_first = _piece_chunks(held, view, piece, (start, has_prefix))
    counts += RowCounts(
        num_student_tokens=len(student_ids),
        num_chunks=len(chunks.is_begin),
        num_crossing=num_crossing,
        num_first=num_first,
    )
    student_mask = _loss_mask(held.counts_student[start:stop], len(student_ids))
    return _Part(teacher_ids, student_ids, teacher_mask, student_mask, chunks, counts)


def _piece_chunks(
    held: _Held, view: StudentView, piece: Piece, student: tuple[int, bool]
) -> tuple[RowChunks, int, int]:
    """The chunks inside a piece, and how many cross its end or hold a first token.

    Args:
        held: The document.
        view: Its student's side.
        piece: The teacher's tokens.
        student: The student's first token, and whether the row puts a begin token before it.
    """
    student_start, student_has_prefix = student
    first = bisect_left(held.chunk_starts, piece.start)
    behind = bisect_left(held.chunk_starts, piece.stop)
    inside = slice(first, max(first, bisect_right(held.chunk_stops, piece.stop)))
    teacher_spans = view.alignment.teacher_spans[inside]
    student_spans = view.alignment.student_spans[inside]
    begins = (not piece.has_prefix) & (teacher_spans[:, 0] == piece.start)
    begins |= (not student_has_prefix) & (student_spans[:, 0] == student_start)
    # A begin token is matched with a begin token only.
    is_begin = begins & (held.document.teacher.roles[teacher_spans[:, 0]] == Role.BEGIN)
    keep = is_begin | ~begins
    found = RowChunks(
        teacher_spans=teacher_spans[keep] - piece.start + piece.has_prefix,
        student_spans=student_spans[keep] - student_start + student_has_prefix,
        num_bytes=np.diff(view.alignment.byte_spans[inside][keep])[:, 0],
        is_begin=is_begin[keep],
        closes=np.zeros(np.count_nonzero(keep), np.bool_),
        in_completion=held.counts_chunk[inside][keep],
    )
    if piece.has_prefix and student_has_prefix:
        found = concatenate_chunks([BEGIN_CHUNK, found])
    return found, behind - inside.stop, int(np.count_nonzero(~keep))


def _join(
    pieces: tuple[Piece, ...],
    documents: list[AlignedDocument],
    parts: list[_Part],
    *,
    restarts: bool,
) -> Row:
    teacher_sizes = [len(part.teacher_ids) for part in parts]
    student_sizes = [len(part.student_ids) for part in parts]
    chunks = concatenate_chunks(
        [
            replace(
                part.chunks,
                teacher_spans=part.chunks.teacher_spans + sum(teacher_sizes[:number]),
                student_spans=part.chunks.student_spans + sum(student_sizes[:number]),
                closes=_closes(part.chunks),
            )
            for number, part in enumerate(parts)
        ]
    )
    return Row(
        pieces=pieces,
        documents=tuple(document.number for document in documents),
        teacher=RowSide(
            np.concatenate([part.teacher_ids for part in parts]),
            _positions(teacher_sizes, restarts),
            np.concatenate([part.teacher_loss_mask for part in parts]),
        ),
        student=RowSide(
            np.concatenate([part.student_ids for part in parts]),
            _positions(student_sizes, restarts),
            np.concatenate([part.student_loss_mask for part in parts]),
        ),
        chunks=chunks,
        counts=sum((part.counts for part in parts), RowCounts(num_rows=1)),
        resume=documents[-1].resume if pieces[-1].is_last else documents[-1].position,
        resume_token=0 if pieces[-1].is_last else pieces[-1].stop,
    )


def _closes(chunks: RowChunks) -> Bools:
    """Where a group must end: at the last chunk, and before one that does not follow at once."""
    is_last = np.ones(len(chunks.is_begin), np.bool_)
    for spans in (chunks.teacher_spans, chunks.student_spans):
        is_last[:-1] &= spans[1:, 0] == spans[:-1, 1]
    is_last[:-1] ^= True
    return is_last


def _prefixed(ids: Ints, begin_id: int | None) -> Ints:
    """Tokens of a piece behind a begin token, unless they begin with it."""
    if begin_id is None or not len(ids) or ids[0] == begin_id:
        return ids
    return np.concatenate([np.array([begin_id], np.int32), ids])


def _loss_mask(counts: Bools, size: int) -> Bools:
    """The mask of a piece's tokens, its first one excepted: nothing precedes it."""
    mask = np.zeros(size, np.bool_)
    mask[size - len(counts) :] = counts
    mask[:1] = False
    return mask


def _positions(sizes: list[int], restarts: bool) -> Ints:
    if not restarts:
        return np.arange(sum(sizes), dtype=np.int32)
    return np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])


def _student_byte(view: StudentView, place: int) -> int:
    """The byte of the student's text that corresponds to one of the teacher's.

    Under two templates, template text corresponds to the end of the content before it.
    """
    if view.contents is None:
        return place
    teacher, student = view.contents
    content = bisect_right(teacher[:, 0], place) - 1
    if content < 0:
        return 0
    inside = min(place, int(teacher[content, 1])) - int(teacher[content, 0])
    return int(student[content, 0]) + inside
