"""Rows of two sides: compared with plain loops that cut first and align afterwards."""

from __future__ import annotations

import json
import tracemalloc
import weakref
from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import (
    CHATS,
    CONFIGS,
    TEXTS,
    aligned,
    chats_of,
    chunks_of,
    packed,
    texts_of,
    without_begin,
)
from plain_rows import assert_row
from trained_tokenizers import opened

from suite.align.cut import PackConfig
from suite.align.documents import AlignedDocument
from suite.align.pack import pack_rows
from suite.align.rows import RowCounts, RowSide

PAIRS = [
    ("byte-level", "bytes:byte-level"),
    ("byte-level", "unigram"),
    ("marked", "prefixed"),
    ("prefixed", "byte-level"),
    ("bytes:marked", "marked"),
]
STUDENTS = ("bytes:byte-level", "marked", "unigram")


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
        chunks = document.others.alignment.byte_spans.tolist()
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
