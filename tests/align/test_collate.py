"""Batches: compared with plain loops, and taken apart into the rows they were made of."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import CHATS, aligned, chats_of, named, packed, texts_of
from trained_tokenizers import CHAT_TEMPLATE, opened

from suite.align.boundaries import merge_groups
from suite.align.collate import BatchSide, DistillBatch, collate
from suite.align.cut import PackConfig
from suite.align.pack import pack_rows
from suite.align.rows import NO_CHUNKS, Row, RowChunks, RowCounts, RowSide
from suite.text.corpus import Position

# Tokens of each document of a row, on one side.
LENGTHS = st.lists(st.integers(0, 6), max_size=3)


def side(lengths: list[int], draw: np.random.Generator) -> RowSide:
    size = sum(lengths)
    return RowSide(
        ids=draw.integers(0, 999, size).astype(np.int32),
        position_ids=np.array([t for n in lengths for t in range(n)], np.int32),
        loss_mask=draw.random(size) < 0.5,
    )


def spans(num_chunks: int, size: int, draw: np.random.Generator) -> np.ndarray:
    """Rising half-open spans with gaps between some of them, int32 [N, 2]."""
    borders = np.sort(draw.permutation(size + 1)[: 2 * num_chunks])
    return borders.reshape(-1, 2).astype(np.int32)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    teacher, student = (side(draw(LENGTHS), rng) for _ in range(2))
    most = min(len(teacher.ids) + 1, len(student.ids) + 1) // 2
    num_chunks = draw(st.integers(0, most))
    chunks = RowChunks(
        teacher_spans=spans(num_chunks, len(teacher.ids), rng),
        student_spans=spans(num_chunks, len(student.ids), rng),
        num_bytes=rng.integers(0, 9, num_chunks).astype(np.int32),
        is_begin=rng.random(num_chunks) < 0.3,
        closes=rng.random(num_chunks) < 0.3,
        in_completion=rng.random(num_chunks) < 0.7,
    )
    return Row((), (), teacher, student, chunks, RowCounts(num_rows=1), Position(), 0)


def padded(values: list, width: int, value: object) -> list:
    return [*values, *[value] * (width - len(values))]


def assert_side(found: BatchSide, batch: list[Row], name: str, pad_id: int, multiple: int) -> None:
    sides = [getattr(row, name) for row in batch]
    width = -(-max(1, *(len(one.ids) for one in sides)) // multiple) * multiple
    num_chunks = -(-max(1, *(len(row.chunks.is_begin) for row in batch)) // multiple) * multiple
    assert found.ids.shape == (len(batch), width)
    for number, (row, one) in enumerate(zip(batch, sides, strict=True)):
        size = len(one.ids)
        own = getattr(row.chunks, f"{name}_spans").tolist()
        index = [-1] * width
        for chunk, (start, stop) in enumerate(own):
            index[start:stop] = [chunk] * (stop - start)
        expected = {
            "ids": padded(one.ids.tolist(), width, pad_id),
            "position_ids": [*one.position_ids.tolist(), *range(width - size)],
            "token_mask": [token < size for token in range(width)],
            "loss_mask": padded(one.loss_mask.tolist(), width, False),
            "chunk_index": index,
            "chunk_last": padded([stop - 1 for _, stop in own], num_chunks, 0),
        }
        assert {key: getattr(found, key)[number].tolist() for key in expected} == expected


@settings(max_examples=200)
@given(st.lists(rows(), min_size=1, max_size=4), st.sampled_from([1, 4, 8]), st.integers(0, 9))
def test_a_batch_is_that_of_plain_loops(batch, multiple, pad_id):
    found = collate(batch, teacher_pad_id=pad_id, student_pad_id=pad_id + 1, multiple_of=multiple)
    assert_side(found.teacher, batch, "teacher", pad_id, multiple)
    assert_side(found.student, batch, "student", pad_id + 1, multiple)
    num_chunks = found.chunk_mask.shape[1]
    for number, row in enumerate(batch):
        chunks, size = row.chunks, len(row.chunks.is_begin)
        begins = chunks.is_begin.tolist()
        expected = {
            "chunk_mask": padded([not begin for begin in begins], num_chunks, False),
            "hidden_mask": padded([True] * size, num_chunks, False),
            "always_closes": padded(chunks.closes.tolist(), num_chunks, False),
            "in_completion": padded(chunks.in_completion.tolist(), num_chunks, False),
            "chunk_bytes": padded(chunks.num_bytes.tolist(), num_chunks, 0),
        }
        assert {key: getattr(found, key)[number].tolist() for key in expected} == expected


@settings(max_examples=50)
@given(st.lists(rows(), min_size=1, max_size=3))
def test_every_tensor_has_the_type_it_is_said_to_have(batch):
    found = collate(batch)
    for one in (found.teacher, found.student):
        assert {one.token_mask.dtype, one.loss_mask.dtype} == {torch.bool}
        indices = (one.ids, one.position_ids, one.chunk_index, one.chunk_last)
        assert {index.dtype for index in indices} == {torch.int64}
    masks = (found.chunk_mask, found.hidden_mask, found.always_closes, found.in_completion)
    assert {mask.dtype for mask in masks} == {torch.bool}
    assert found.chunk_bytes.dtype == torch.int64


def taken_apart(batch: DistillBatch, number: int) -> tuple[RowSide, RowSide, RowChunks]:
    """The row that a batch's line was made of."""
    sides, both = [], []
    real = batch.hidden_mask[number]
    for one in (batch.teacher, batch.student):
        keep = one.token_mask[number]
        columns = (one.ids, one.position_ids, one.loss_mask)
        arrays = [column[number][keep].numpy() for column in columns]
        sides.append(RowSide(*(a.astype(np.int32) for a in arrays[:2]), arrays[2]))
        stops = one.chunk_last[number][real] + 1
        index = one.chunk_index[number]
        starts = [stop - int((index == chunk).sum()) for chunk, stop in enumerate(stops.tolist())]
        both.append(np.stack([starts, stops.numpy()], axis=1).astype(np.int32).reshape(-1, 2))
    columns = (batch.chunk_bytes, ~batch.chunk_mask, batch.always_closes, batch.in_completion)
    rest = [column[number][real].numpy() for column in columns]
    return *sides, RowChunks(*both, rest[0].astype(np.int32), *rest[1:])


def test_a_batch_taken_apart_gives_its_rows_back():
    sides = opened("byte-level"), opened("unigram")
    texts = ["The quick brown fox. " * 5, "", "dogs ▁ cats", "1 2 3", "e\u0301 日本語 jumps over."]
    batch = packed(texts_of(texts, 4), sides, PackConfig(length=24))
    assert len(batch) > 2
    found = collate(batch, teacher_pad_id=5, student_pad_id=7, multiple_of=16)
    for number, row in enumerate(batch):
        parts = zip(taken_apart(found, number), (row.teacher, row.student, row.chunks), strict=True)
        for mine, yours in parts:
            names = {column.name for column in fields(yours)} - {"more_teacher_spans"}
            for name in names:
                a, b = getattr(mine, name), getattr(yours, name)
                assert a.dtype == b.dtype
                assert a.tolist() == b.tolist()


def test_rows_without_chunks_or_student_tokens_make_a_batch():
    sides = opened("byte-level"), opened("marked")
    unread = packed(texts_of(["a ▁ b"]), sides, PackConfig())
    found = collate(unread)
    # Models refuse rows of no token, so a batch is never that narrow.
    assert found.student.ids.shape == (1, 1)
    assert not found.student.token_mask.any()
    assert not found.hidden_mask.any()
    assert (found.teacher.chunk_index == -1).all()
    groups = merge_groups(torch.zeros(1, 1), found.chunk_mask, found.always_closes)
    assert (groups == -1).all()

    read = packed(texts_of(["fox"]), sides, PackConfig())
    both = collate([*unread, *read])
    assert both.student.token_mask[0].tolist() == [False] * both.student.ids.shape[1]
    assert both.student.position_ids[0].tolist() == list(range(both.student.ids.shape[1]))
    assert not both.hidden_mask[0].any()
    assert unread[0].chunks.is_begin.shape == NO_CHUNKS.is_begin.shape


def test_a_begin_chunk_may_serve_hidden_states_but_forms_no_group():
    sides = opened("byte-level"), opened("bytes:byte-level")
    found = collate(packed(texts_of(["fox", "dog"]), sides, PackConfig()))
    begins = (found.hidden_mask & ~found.chunk_mask)[0]
    lasts = found.teacher.chunk_last[0][begins]
    assert found.teacher.ids[0][lasts].tolist() == [sides[0].begin_id] * 2
    assert found.teacher.position_ids[0][lasts].tolist() == [0, 0]
    assert found.chunk_bytes[0][begins].tolist() == [0, 0]


def documents_of_chunks(row: Row) -> list[int]:
    """For each chunk, the piece its teacher tokens are in."""
    ends = np.cumsum([piece.num_tokens for piece in row.pieces])
    return np.searchsorted(ends, row.chunks.teacher_spans[:, 0], side="right").tolist()


@pytest.mark.parametrize("kind", ["texts", "chats"])
@pytest.mark.parametrize("gamma", [0.0, 0.1, 1.0])
def test_no_group_crosses_a_document_or_a_chunk_that_was_left_out(kind, gamma):
    turns = "{% for m in messages %}<h>{{ m['content'] }}{% endfor %}"
    template = turns if kind == "chats" else CHAT_TEMPLATE
    sides = named(["<b>", "<e>", "<h>"], template), opened("bytes:byte-level")
    texts = ["The fox jumps.", "dog", "", "日本語 and 12 3 4 5 6 7 8 9", "so"]
    documents = chats_of(*CHATS) if kind == "chats" else texts_of(texts)
    batch = list(pack_rows(aligned(documents, sides), *sides, PackConfig(length=40)))
    found = collate(batch)
    rng = torch.Generator().manual_seed(0)
    boundary = torch.rand(found.chunk_mask.shape, generator=rng).log()
    groups = merge_groups(boundary, found.chunk_mask, found.always_closes, gamma=gamma).tolist()
    num_crossings = 0
    for row, own in zip(batch, groups, strict=True):
        teacher, student = row.chunks.teacher_spans, row.chunks.student_spans
        documents_of = documents_of_chunks(row)
        for n in range(len(teacher) - 1):
            is_gap = teacher[n, 1] != teacher[n + 1, 0] or student[n, 1] != student[n + 1, 0]
            if documents_of[n] != documents_of[n + 1] or is_gap:
                num_crossings += 1
                assert own[n] != own[n + 1]
            elif gamma == 1.0 and not row.chunks.is_begin[n]:
                assert own[n] == own[n + 1]
    assert num_crossings > 2
