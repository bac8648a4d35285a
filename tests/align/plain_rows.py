"""Rows as plain loops make them: a document is cut first and aligned afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from suite.align.cut import Piece
from suite.align.documents import AlignedDocument
from suite.align.rows import Row, RowCounts
from suite.text.encoding import Encoding
from suite.text.tokenizers import OpenedTokenizer

Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class PlainChunk:
    """The tokens of a chunk on each side, and what is known of it."""

    spans: tuple[tuple[int, int], ...]
    num_bytes: int = 0
    is_begin: bool = False
    in_completion: bool = False

    def behind(self, tokens: Sequence[int]) -> PlainChunk:
        """The chunk behind so many tokens of each side."""
        moved = tuple((a + n, b + n) for (a, b), n in zip(self.spans, tokens, strict=True))
        return PlainChunk(moved, self.num_bytes, self.is_begin, self.in_completion)


@dataclass
class PlainSide:
    ids: list[int] = field(default_factory=list)
    loss_mask: list[bool] = field(default_factory=list)
    position_ids: list[int] = field(default_factory=list)


def walk(sides: Sequence[Spans]) -> list[tuple[tuple[int, int], ...]]:
    """The chunks of several rows of byte spans: for each its tokens on every side."""
    chunks = []
    at = [0] * len(sides)

    def is_left() -> bool:
        return all(place < len(side) for place, side in zip(at, sides, strict=True))

    while is_left():
        starts = [side[place][0] for place, side in zip(at, sides, strict=True)]
        if len(set(starts)) > 1:
            at = [n + (start < max(starts)) for n, start in zip(at, starts, strict=True)]
            continue
        firsts = at
        while is_left():
            stops = [side[place][1] for place, side in zip(at, sides, strict=True)]
            at = [n + (stop == min(stops)) for n, stop in zip(at, stops, strict=True)]
            if min(stops) == max(stops) > starts[0]:
                chunks.append(tuple(zip(firsts, at, strict=True)))
                break
    return chunks


def spans_of(encoding: Encoding) -> Spans:
    return [tuple(span) for span in encoding.byte_spans.tolist()]


def plain_part(
    document: AlignedDocument, piece: Piece, sides: Sequence[OpenedTokenizer]
) -> tuple[list[PlainSide], list[PlainChunk], tuple[int, int]]:
    """What a piece should hold: each side, the chunks, how many cross a cut or hold a first token.

    Args:
        document: A text.
        piece: The teacher's tokens.
        sides: The tokenizers of the teacher, of further teachers, of the student.
    """
    teacher = document.teacher
    views = document.others.views if document.others else ()
    encodings = [teacher, *(view.encoding for view in views)]
    whole_spans = [spans_of(encoding) for encoding in encodings]
    spans = whole_spans[0]
    prompt = 0 if document.completions is None else int(document.completions[0, 0])
    low = spans[piece.start][0]
    high = len(teacher.text) if piece.is_last else spans[piece.stop][0]
    is_first = piece.start == 0
    tokens: list[Sequence[int]] = [range(piece.start, piece.stop)]
    tokens += [
        [
            token
            for token, (start, stop) in enumerate(own)
            if low <= start and stop <= high and (stop > low or is_first)
        ]
        for own in whole_spans[1:]
    ]
    found = [PlainSide() for _ in sides]
    prefixes = []
    for side, encoding, own, out in zip(sides, encodings, tokens, found, strict=False):
        out.ids = [int(encoding.ids[token]) for token in own]
        out.loss_mask = [int(encoding.byte_spans[token, 0]) >= prompt for token in own]
        prefixes.append(int(bool(own) and side.begin_id is not None))
        if prefixes[-1]:
            out.ids, out.loss_mask = [side.begin_id, *out.ids], [False, *out.loss_mask]
        out.loss_mask[:1] = [False] * len(out.loss_mask[:1])
    if not views:
        return found, [], (0, 0)
    whole = walk(whole_spans)
    uncut = {chunk[0][0] for chunk in whole}
    chunks, num_first = [], 0
    if all(prefixes):
        chunks.append(PlainChunk(((0, 1),) * len(sides), is_begin=True))
    for chunk in walk([[own[t] for t in ts] for own, ts in zip(whole_spans, tokens, strict=True)]):
        first, stop = chunk[0]
        # A cut behind a dummy space leaves sides of equal bytes, but the chunk began before it.
        if tokens[0][first] not in uncut:
            continue
        if any(own[0] == 0 and not prefix for own, prefix in zip(chunk, prefixes, strict=True)):
            num_first += 1
            continue
        begin, end = spans[tokens[0][first]][0], spans[tokens[0][stop - 1]][1]
        plain = PlainChunk(chunk, end - begin, in_completion=begin >= prompt)
        chunks.append(plain.behind(prefixes))
    num_crossing = sum(own[0][0] in tokens[0] and own[0][1] > piece.stop for own in whole)
    return found, chunks, (num_crossing, num_first)


def assert_row(
    row: Row,
    documents: Mapping[int, AlignedDocument],
    sides: Sequence[OpenedTokenizer],
    *,
    restarts: bool,
) -> None:
    """Every array of a row is that of plain loops; `sides` as in `plain_part`."""
    expected = [PlainSide() for _ in sides]
    chunks: list[PlainChunk] = []
    closes: list[bool] = []
    crossing = first = 0
    for piece, number in zip(row.pieces, row.documents, strict=True):
        parts, own, counts = plain_part(documents[number], piece, sides)
        before = [len(side.ids) for side in expected]
        for side, part, size in zip(expected, parts, before, strict=True):
            start = 0 if restarts else size
            side.position_ids += range(start, start + len(part.ids))
            side.ids += part.ids
            side.loss_mask += part.loss_mask
        for chunk, behind in itertools.zip_longest(own, own[1:]):
            follows = behind and all(
                a[1] == b[0] for a, b in zip(chunk.spans, behind.spans, strict=True)
            )
            closes.append(not follows)
        chunks += [chunk.behind(before) for chunk in own]
        crossing, first = crossing + counts[0], first + counts[1]
    found = (row.teacher, *row.more_teachers, row.student)
    for side, plain in zip(found, expected, strict=True):
        assert side.ids.dtype == side.position_ids.dtype == np.int32
        assert side.ids.tolist() == plain.ids
        assert side.loss_mask.tolist() == plain.loss_mask
        assert side.position_ids.tolist() == plain.position_ids
    for m, spans in enumerate(row.chunks.spans):
        assert spans.dtype == np.int32
        assert [tuple(span) for span in spans.tolist()] == [chunk.spans[m] for chunk in chunks]
    assert len(row.chunks.spans) == len(sides)
    for name in ("num_bytes", "is_begin", "in_completion"):
        assert getattr(row.chunks, name).tolist() == [getattr(chunk, name) for chunk in chunks]
    assert row.chunks.closes.tolist() == closes
    assert row.counts == RowCounts(
        num_rows=1,
        num_bytes=row.counts.num_bytes,
        num_teacher_tokens=len(expected[0].ids),
        num_student_tokens=len(expected[-1].ids),
        num_chunks=len(chunks),
        num_crossing=crossing,
        num_first=first,
    )
