"""Rows of two sides: compared with plain loops that cut first and align afterwards."""

from __future__ import annotations

import json
import tracemalloc
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import CHATS, aligned, chats_of, chunks_of, packed, texts_of
from trained_tokenizers import opened

from suite.align.cut import PackConfig, Piece
from suite.align.documents import AlignedDocument
from suite.align.pack import pack_rows
from suite.align.rows import Row, RowCounts, RowSide
from suite.text.encoding import Encoding
from suite.text.tokenizers import OpenedTokenizer

Spans = list[tuple[int, int]]

# U+2581 is text that only the byte-level tokenizers can read.
WORDS = [
    "The",
    " quick",
    "s",
    " \n",
    "\r\n",
    "  ",
    "日本語",
    " 👩‍👩‍👧",
    "e\u0301",
    "▁",
    " fox.",
    "\tz",
]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map("".join), max_size=4)
PAIRS = [
    ("byte-level", "bytes:byte-level"),
    ("byte-level", "unigram"),
    ("marked", "prefixed"),
    ("prefixed", "byte-level"),
    ("bytes:marked", "marked"),
]
STUDENTS = ("bytes:byte-level", "marked", "unigram")
CONFIGS = st.builds(
    PackConfig,
    length=st.integers(2, 16),
    max_bytes=st.one_of(st.none(), st.integers(1, 40)),
    packing=st.sampled_from(["isolated", "concatenated", "none"]),
)


def without_begin(family: str) -> OpenedTokenizer:
    return replace(opened(family), begin_id=None)


def two_pointer(teacher: Spans, student: Spans) -> list[tuple[int, int, int, int]]:
    """The chunks of two rows of byte spans: teacher start and stop, student start and stop."""
    chunks, i, j = [], 0, 0
    while i < len(teacher) and j < len(student):
        if teacher[i][0] != student[j][0]:
            i, j = (i + 1, j) if teacher[i][0] < student[j][0] else (i, j + 1)
            continue
        start, first_i, first_j = teacher[i][0], i, j
        while i < len(teacher) and j < len(student):
            ends = teacher[i][1], student[j][1]
            if ends[0] == ends[1] > start:
                chunks.append((first_i, i + 1, first_j, j + 1))
                break
            i, j = i + (ends[0] <= ends[1]), j + (ends[1] <= ends[0])
        i, j = i + 1, j + 1
    return chunks


def expected_part(document: AlignedDocument, piece: Piece, sides: Sequence[OpenedTokenizer]):
    """What a piece should hold: for each side (ids, loss mask), chunks, counts."""
    teacher, view = document.teacher, document.student
    spans = [tuple(span) for span in teacher.byte_spans.tolist()]
    inside = range(piece.start, piece.stop)
    prompt = 0 if document.completions is None else int(document.completions[0, 0])

    def side_of(encoding: Encoding, tokens: Sequence[int], begin_id: int | None):
        ids = [int(encoding.ids[token]) for token in tokens]
        mask = [int(encoding.byte_spans[token, 0]) >= prompt for token in tokens]
        if ids and begin_id is not None:
            ids, mask = [begin_id, *ids], [False, *mask]
        return ids, [False, *mask[1:]] if ids else []

    teacher_side = side_of(teacher, inside, sides[0].begin_id)
    if view is None:
        return teacher_side, ([], []), [], (0, 0)
    low = spans[piece.start][0]
    high = len(teacher.text) if piece.is_last else spans[piece.stop][0]
    yours = [tuple(span) for span in view.encoding.byte_spans.tolist()]
    is_first = piece.start == 0
    tokens = [
        token
        for token, (start, stop) in enumerate(yours)
        if low <= start and stop <= high and (stop > low or is_first)
    ]
    student_side = side_of(view.encoding, tokens, sides[1].begin_id)
    whole = two_pointer(spans, yours)
    uncut = {first for first, *_ in whole}
    # A cut behind a dummy space leaves two sides of equal bytes, but the chunk began before it.
    found = [
        chunk
        for chunk in two_pointer([spans[t] for t in inside], [yours[t] for t in tokens])
        if inside[chunk[0]] in uncut
    ]
    prefixes = [int(side.begin_id is not None) for side in sides]
    chunks, num_first = [], 0
    if all(prefixes) and tokens:
        chunks.append(((0, 1), (0, 1), 0, True, False))
    for i, i_stop, j, j_stop in found:
        if (i == 0 and not prefixes[0]) or (j == 0 and not prefixes[1]):
            num_first += 1
            continue
        start, stop = spans[inside[i]][0], spans[inside[i_stop - 1]][1]
        chunk = ((i, i_stop), (j, j_stop), stop - start, False, start >= prompt)
        chunks.append(moved(chunk, *prefixes))
    num_crossing = sum(first in inside and stop > piece.stop for first, stop, *_ in whole)
    return teacher_side, student_side, chunks, (num_crossing, num_first)


def moved(chunk: tuple, teacher: int, student: int) -> tuple:
    """A chunk behind so many tokens of other pieces."""
    (start, stop), (student_start, student_stop), *rest = chunk
    spans = (start + teacher, stop + teacher), (student_start + student, student_stop + student)
    return (*spans, *rest)


def assert_row(row: Row, documents: dict[int, AlignedDocument], sides, *, restarts: bool) -> None:
    """Every array of a row is that of plain loops."""
    ids, masks, positions, chunks = ([], []), ([], []), ([], []), []
    closes: list[bool] = []
    crossing = first = 0
    for piece, number in zip(row.pieces, row.documents, strict=True):
        *both, own, counts = expected_part(documents[number], piece, sides)
        before = len(ids[0]), len(ids[1])
        for m, (side_ids, side_mask) in enumerate(both):
            start = 0 if restarts else before[m]
            positions[m].extend(range(start, start + len(side_ids)))
            ids[m].extend(side_ids)
            masks[m].extend(side_mask)
        for place, chunk in enumerate(own):
            behind = own[place + 1] if place + 1 < len(own) else None
            follows = behind and all(chunk[m][1] == behind[m][0] for m in (0, 1))
            closes.append(not follows)
        chunks += [moved(chunk, *before) for chunk in own]
        crossing, first = crossing + counts[0], first + counts[1]
    for m, side in enumerate((row.teacher, row.student)):
        assert side.ids.dtype == side.position_ids.dtype == np.int32
        assert side.ids.tolist() == ids[m]
        assert side.loss_mask.tolist() == masks[m]
        assert side.position_ids.tolist() == positions[m]
    assert row.chunks.teacher_spans.dtype == row.chunks.student_spans.dtype == np.int32
    assert chunks_of(row) == chunks
    assert row.chunks.closes.tolist() == closes
    assert row.counts == RowCounts(
        num_rows=1,
        num_bytes=row.counts.num_bytes,
        num_teacher_tokens=len(ids[0]),
        num_student_tokens=len(ids[1]),
        num_chunks=len(chunks),
        num_crossing=crossing,
        num_first=first,
    )


@pytest.mark.parametrize("begins", ["both", "teacher", "student", "none"])
@pytest.mark.parametrize(("teacher", "student"), PAIRS)
@settings(max_examples=30)
@given(texts=TEXTS, config=CONFIGS, prompt=st.sampled_from([0, 0, 3]))
def test_rows_are_those_of_cutting_first_and_aligning_in_loops(
    teacher, student, begins, texts, config, prompt
):
    sides = (
        (opened if begins in ("both", "teacher") else without_begin)(teacher),
        (opened if begins in ("both", "student") else without_begin)(student),
    )
    documents = aligned(texts_of(texts, prompt), sides)
    by_number = {document.number: document for document in documents}
    rows = list(pack_rows(documents, *sides, config))
    for row in rows:
        assert_row(row, by_number, sides, restarts=config.packing == "isolated")
    num_bytes = sum(len(document.teacher.text) for document in documents)
    assert sum(row.counts.num_bytes for row in rows) == num_bytes


@pytest.mark.parametrize("student", ["bytes:byte-level", "marked"])
@settings(max_examples=60)
@given(texts=TEXTS, config=CONFIGS)
def test_both_sides_of_a_piece_have_the_same_bytes_unless_a_cut_parts_a_chunk(
    student, texts, config
):
    sides = opened("byte-level"), opened(student)
    documents = [document for document in aligned(texts_of(texts), sides) if document.student]
    config = config.model_copy(update={"packing": "none"})
    for row in pack_rows(documents, *sides, config):
        mine, yours = (
            b"".join(side.vocabulary.token_bytes[token] for token in ids.tolist())
            for side, ids in zip(sides, (row.teacher.ids, row.student.ids), strict=True)
        )
        (piece,) = row.pieces
        document = documents[piece.document]
        low, high = document.teacher.byte_spans[[piece.start, piece.stop - 1], [0, 1]]
        assert mine == document.teacher.text[low:high]
        chunks = document.student.alignment.byte_spans.tolist()
        if any(start < low < stop or start < high < stop for start, stop in chunks):
            assert yours in mine
        else:
            assert yours == mine


@pytest.mark.parametrize("packing", ["isolated", "concatenated", "none"])
@pytest.mark.parametrize("kind", ["texts", "prompts", "chats"])
def test_the_teachers_side_of_a_row_is_the_same_for_every_student(kind, packing):
    words = ["The quick ▁ fox.\n" * 3, " e\u0301 日本語 jumps over", "", "dogs\r\n  and cats" * 2]
    documents = chats_of(*CHATS) if kind == "chats" else texts_of(words, 5 * (kind == "prompts"))
    teacher = opened("byte-level")
    config = PackConfig(length=20, packing=packing)
    found = [packed(documents, (teacher, opened(student)), config) for student in STUDENTS]
    for rows in found[1:]:
        assert [row.pieces for row in rows] == [row.pieces for row in found[0]]
        assert [row.documents for row in rows] == [row.documents for row in found[0]]
        for row, first in zip(rows, found[0], strict=True):
            for column in fields(RowSide):
                mine, yours = (getattr(side.teacher, column.name) for side in (row, first))
                assert mine.tobytes() == yours.tobytes()
    # One document has a character that two of the students cannot read.
    students = [sum(row.counts.num_student_tokens for row in rows) for rows in found]
    assert len(set(students)) == 3


def test_a_document_that_the_student_cannot_read_has_no_student_tokens_and_no_chunks():
    sides = opened("byte-level"), opened("marked")
    documents = texts_of(["fox", "a ▁ b", "dog"])
    (row,) = packed(documents, sides, PackConfig(length=64))
    readable = packed([documents[0], documents[2]], sides, PackConfig(length=64))[0]
    assert row.documents == (0, 1, 2)
    assert row.student.ids.tolist() == readable.student.ids.tolist()
    assert row.student.position_ids.tolist() == readable.student.position_ids.tolist()
    assert row.chunks.student_spans.tolist() == readable.chunks.student_spans.tolist()
    (alone,) = packed(documents[1:2], sides, PackConfig(length=64))
    assert len(alone.student.ids) == len(alone.chunks.is_begin) == alone.counts.num_chunks == 0


@pytest.mark.parametrize("packing", ["isolated", "concatenated", "none"])
def test_reading_on_behind_a_row_gives_the_rows_that_come_next(packing):
    sides = opened("byte-level"), opened("unigram")
    texts = ["The quick brown fox jumps over. " * 4, "", "dogs and cats", "12 3 4 5 " * 9]
    documents = aligned(texts_of(texts), sides)
    config = PackConfig(length=24, packing=packing)
    rows = list(pack_rows(documents, *sides, config))
    for place, row in enumerate(rows):
        last = row.pieces[-1]
        first, token = (last.document + 1, 0) if last.is_last else (last.document, last.stop)
        # What is stored between runs is plain.
        token = json.loads(json.dumps(token))
        rest = list(pack_rows(documents[first:], *sides, config, first_token=token))
        for found, expected in zip(rest, rows[place + 1 :], strict=True):
            assert found.documents == expected.documents
            assert found.teacher.ids.tolist() == expected.teacher.ids.tolist()
            assert found.student.ids.tolist() == expected.student.ids.tolist()
            assert chunks_of(found) == chunks_of(expected)
            assert found.counts == expected.counts


def test_a_chunk_that_straddles_the_end_of_a_prompt_is_in_no_completion():
    sides = opened("bytes:byte-level"), opened("byte-level")
    (row,) = packed(texts_of(["The jumps jumps"], 5), sides, PackConfig())
    student = [sides[1].vocabulary.token_bytes[token] for token in row.student.ids.tolist()]
    assert student == [b"", b"The", b" jumps", b" jumps"]
    assert row.chunks.in_completion.tolist() == [False, False, False, True]
    assert row.teacher.loss_mask.tolist() == [False] * 6 + [True] * 10
    assert row.student.loss_mask.tolist() == [False, False, False, True]


def test_an_end_token_before_texts_serves_as_begin_token():
    sides = [replace(opened(f), begin_id=opened(f).hf.eos_token_id) for f in ("marked", "unigram")]
    (row,) = packed(texts_of(["The fox"]), sides, PackConfig())
    assert row.teacher.ids[0] == sides[0].begin_id
    assert row.student.ids[0] == sides[1].begin_id
    assert row.chunks.is_begin.tolist() == [True] + [False] * (row.counts.num_chunks - 1)


def test_counts_add_up_and_the_padding_share_is_that_of_the_teacher():
    sides = opened("byte-level"), opened("bytes:byte-level")
    rows = packed(texts_of(["The quick brown fox " * 9, "dog"]), sides, PackConfig(length=20))
    total = sum((row.counts for row in rows), RowCounts())
    assert total.num_rows == len(rows) > 2
    assert total.num_teacher_tokens == sum(len(row.teacher.ids) for row in rows)
    assert total.num_student_tokens == sum(len(row.student.ids) for row in rows)
    assert total.num_chunks == sum(len(row.chunks.is_begin) for row in rows)
    assert total.num_bytes == 9 * 20 + 3
    assert total.padding_share(20) == pytest.approx(1 - total.num_teacher_tokens / 20 / len(rows))
    assert RowCounts().padding_share(20) is None


def test_documents_are_forgotten_behind_their_last_row():
    sides = opened("byte-level"), opened("bytes:byte-level")
    known: list[weakref.ref] = []

    def documents() -> Iterator[AlignedDocument]:
        for number in range(30):
            (document,) = aligned(texts_of([f"The fox {number} " * 3]), sides)
            known.append(weakref.ref(document))
            yield document
            del document

    for _ in pack_rows(documents(), *sides, PackConfig(length=32)):
        assert sum(document() is not None for document in known) <= 5
    assert len(known) == 30


def test_the_work_for_a_row_does_not_grow_with_its_document():
    sides = opened("bytes:byte-level"), opened("bytes:marked")
    (document,) = aligned(texts_of(["The fox " * 400_000]), sides)
    num_tokens = len(document.teacher)
    rows = pack_rows([document], *sides, PackConfig(length=2048))
    next(rows)
    tracemalloc.start()
    try:
        for row in rows:
            assert row.counts.num_chunks == row.counts.num_teacher_tokens
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Whatever looks at the whole document allocates at least one byte for each of its tokens.
    assert peak < num_tokens / 2
