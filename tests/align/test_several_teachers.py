"""Rows of several teachers and one student: chunks are what all sides delimit."""

from __future__ import annotations

import itertools
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import (
    CHATS,
    CONFIGS,
    TEXTS,
    aligned,
    chats_of,
    chunks_of,
    named,
    packed,
    texts_of,
    without_begin,
)
from plain_rows import assert_row
from tokenizers import normalizers
from trained_tokenizers import byte_level_bpe, opened, wrap

from suite.align.chats import align_all_chats
from suite.align.chunks import align_all, align_all_each, all_spans
from suite.align.collate import BatchSide, collate
from suite.align.cut import PackConfig
from suite.align.documents import DocumentReader
from suite.align.pack import pack_rows
from suite.align.rows import Row, RowSide
from suite.distill.losses.groups import SideChunks, group_chunks, side_chunks
from suite.errors import AlignmentError
from suite.likelihood.options import TokenLogProbs
from suite.text.chat import encode_chat
from suite.text.corpus import Position
from suite.text.encoding import Encoding, Role, byte_spans
from suite.text.tokenizers import open_tokenizer

# Teacher, student, further teachers.
SETS = [
    ("byte-level", "bytes:byte-level", ("marked",)),
    ("marked", "unigram", ("byte-level", "prefixed")),
    ("prefixed", "byte-level", ("unigram",)),
]
HEADERS = "{% for m in messages %}<h>{{ m['role'] }}: {{ m['content'] }} ~<e>{% endfor %}"


def sides_of(names):
    """Teacher and student, and the further teachers, of one of `SETS`."""
    return (opened(names[0]), opened(names[1])), tuple(opened(name) for name in names[2])


def assert_same_rows(found: list[Row], expected: list[Row]) -> None:
    """Equal in all that a row of one teacher holds."""
    assert [row.pieces for row in found] == [row.pieces for row in expected]
    for row, other in zip(found, expected, strict=True):
        for name in ("documents", "counts", "resume", "resume_token"):
            assert getattr(row, name) == getattr(other, name)
        assert_same_side(row.teacher, other.teacher)
        assert_same_side(row.student, other.student)
        assert chunks_of(row) == chunks_of(other)
        assert row.chunks.closes.tolist() == other.chunks.closes.tolist()


def assert_same_side(found: RowSide, expected: RowSide) -> None:
    for column in fields(RowSide):
        mine, yours = getattr(found, column.name), getattr(expected, column.name)
        assert mine.dtype == yours.dtype
        assert mine.tolist() == yours.tolist()


def plain_chunks(sides: list[Encoding]) -> list[list[tuple[int, int]]]:
    """Of each chunk the tokens on every side, from sets of boundaries and loops over them."""
    borders = [{int(start) for start, _ in side.byte_spans} for side in sides]
    shared = sorted(set.intersection(*borders))
    chunks = []
    for start, stop in itertools.pairwise([*shared, len(sides[0].text)]):
        spans = []
        for side in sides:
            inside = [n for n, (a, b) in enumerate(side.byte_spans) if start <= a and b <= stop]
            spans.append((inside[0], inside[-1] + 1))
        chunks.append(spans)
    return chunks


@pytest.mark.parametrize("student", ["bytes:byte-level", "prefixed"])
@settings(max_examples=40)
@given(texts=TEXTS)
def test_chunks_of_three_sides_are_those_of_plain_loops_in_many_texts(student, texts):
    texts = [text.replace("▁", "_") for text in texts]
    sides = [opened(name) for name in ("byte-level", "unigram", student)]
    encodings = [[side.encode(text) for side in sides] for text in texts]
    for found, own in zip(align_all_each(encodings), encodings, strict=True):
        expected = plain_chunks(own) if len(own[0].text) else []
        spans = zip(*(spans.tolist() for spans in all_spans(found)), strict=True)
        assert [[tuple(span) for span in chunk] for chunk in spans] == expected
        alone = align_all(own[:-1], own[-1])
        for one, other in zip(found, alone, strict=True):
            assert all(getattr(one, c.name).dtype == np.int32 for c in fields(one)[:3])
            assert all(
                np.array_equal(*(getattr(a, c.name) for a in (one, other))) for c in fields(one)
            )


def test_no_texts_have_no_chunks():
    assert align_all_each([]) == []


def test_texts_that_differ_for_a_further_teacher_are_refused():
    teacher, other = opened("byte-level").encode("ab"), opened("marked").encode("ac")
    with pytest.raises(AlignmentError) as caught:
        align_all_each([[teacher, other, teacher]])
    assert str(caught.value) == (
        "teacher and student encode different texts: they part at byte 1, where the teacher has"
        " 'c' and the student 'b'; normalise and render a text once for both"
    )


@pytest.mark.parametrize("lacks", ["none", "teacher", "student", "further", "all"])
@pytest.mark.parametrize("names", SETS, ids=str)
@settings(max_examples=15)
@given(texts=TEXTS, config=CONFIGS, prompt=st.sampled_from([0, 0, 3]))
def test_rows_of_several_teachers_are_those_of_plain_loops(names, lacks, texts, config, prompt):
    first, student, more = names
    teacher = (without_begin if lacks in ("teacher", "all") else opened)(first)
    student = (without_begin if lacks in ("student", "all") else opened)(student)
    more = [(without_begin if lacks in ("further", "all") else opened)(name) for name in more]
    documents = aligned(texts_of(texts, prompt), (teacher, student), more)
    rows = list(pack_rows(documents, teacher, student, config, more_teachers=more))
    by_number = {document.number: document for document in documents}
    for row in rows:
        assert len(row.more_teachers) == len(more)
        restarts = config.packing == "isolated"
        assert_row(row, by_number, (teacher, *more, student), restarts=restarts)


@pytest.mark.parametrize("names", SETS, ids=str)
@pytest.mark.parametrize("kind", ["texts", "chats"])
def test_a_teacher_twice_gives_the_rows_of_that_teacher(kind, names):
    texts = ["The quick brown fox.\n" * 3, "", " e\u0301 日本語 jumps", "dogs and cats"]
    documents = chats_of(*CHATS) if kind == "chats" else texts_of(texts, 4)
    sides, _ = sides_of(names)
    config = PackConfig(length=20)
    rows = packed(documents, sides, config, more_teachers=sides[:1] * 2)
    assert_same_rows(rows, packed(documents, sides, config))
    for row in rows:
        for spans in row.chunks.more_teacher_spans:
            assert spans.tolist() == row.chunks.teacher_spans.tolist()


@pytest.mark.parametrize("names", SETS, ids=str)
@settings(max_examples=20)
@given(texts=TEXTS, config=CONFIGS)
def test_further_teachers_change_no_tokens_and_no_cuts_of_what_all_sides_read(names, texts, config):
    sides, more = sides_of(names)
    documents = texts_of([text.replace("▁", "_") for text in texts])
    rows = packed(documents, sides, config, more)
    alone = packed(documents, sides, config)
    for row, other in zip(rows, alone, strict=True):
        assert (row.pieces, row.documents) == (other.pieces, other.documents)
        assert_same_side(row.teacher, other.teacher)
        assert_same_side(row.student, other.student)
        assert row.counts.num_chunks <= other.counts.num_chunks
        # Each of its chunks is one or several of those of fewer sides.
        borders = set(other.chunks.teacher_spans.flatten().tolist())
        whole = not row.counts.num_crossing and not row.counts.num_first
        assert not whole or borders.issuperset(row.chunks.teacher_spans.flatten().tolist())


def test_reading_on_behind_a_row_gives_the_rows_that_come_next():
    sides, more = sides_of(SETS[1])
    documents = aligned(texts_of(["The quick fox jumps. " * 6, "dogs", "1 2 3 " * 9]), sides, more)
    config = PackConfig(length=24)
    rows = list(pack_rows(documents, *sides, config, more_teachers=more))
    for place, row in enumerate(rows):
        last = row.pieces[-1]
        first = last.document + last.is_last
        found = list(
            pack_rows(
                documents[first:],
                *sides,
                config,
                more_teachers=more,
                first_token=row.resume_token,
            )
        )
        for one, other in zip(found, rows[place + 1 :], strict=True):
            assert chunks_of(one) == chunks_of(other)
            for mine, yours in zip(one.more_teachers, other.more_teachers, strict=True):
                assert_same_side(mine, yours)


def test_what_a_further_teacher_cannot_read_keeps_its_place_without_other_sides():
    sides, more = (opened("byte-level"), opened("bytes:byte-level")), (opened("marked"),)
    reader = DocumentReader(*sides, more)
    stream = [(Position(0, n + 1), item) for n, item in enumerate(texts_of(["fox", "a ▁ b"]))]
    found = list(reader.read(stream))
    assert [item.others is None for item in found] == [False, True]
    counts = reader.counts
    assert (counts.num_unread_teacher, counts.num_unread_student) == (0, 0)
    assert counts.num_unread_more_teachers == 1
    assert counts.coverage.num_bytes == 3
    assert counts.reasons == [
        "document 1: marked cannot read byte 2 of the text, '▁' (U+2581): its tokens stand for"
        " other bytes; leave this text out or choose another tokenizer"
    ]
    (row,) = pack_rows(found, *sides, PackConfig(), more_teachers=more)
    (alone,) = packed(texts_of(["fox"]), sides, PackConfig(), more)
    assert len(row.teacher.ids) > len(alone.teacher.ids)
    assert chunks_of(row) == chunks_of(alone)
    for mine, yours in zip(
        (row.student, *row.more_teachers), (alone.student, *alone.more_teachers), strict=True
    ):
        assert_same_side(mine, yours)


@pytest.mark.parametrize(("first", "counted"), [(0, (1, 0, 0)), (1, (0, 1, 0)), (2, (0, 0, 1))])
def test_a_document_is_counted_once_for_the_first_side_that_cannot_read_it(first, counted):
    names = ["byte-level"] * first + ["marked"] * (3 - first)
    teacher, further, student = map(opened, names)
    reader = DocumentReader(teacher, student, [further])
    list(reader.read([(Position(), item) for item in texts_of(["▁"])]))
    counts = reader.counts
    unread = counts.num_unread_teacher, counts.num_unread_more_teachers, counts.num_unread_student
    assert unread == counted
    assert len(counts.reasons) == 1


def test_all_sides_read_the_normal_form_that_a_further_teacher_needs():
    backend = byte_level_bpe()
    backend.normalizer = normalizers.NFC()
    composing = open_tokenizer(wrap(backend), name="composing")
    reader = DocumentReader(opened("byte-level"), opened("marked"), [composing])
    (document,) = texts_of(["e\u0301? e\u0301"], 3)
    (found,) = reader.read([(Position(), document)])
    assert found.teacher.text.decode() == "é? é"
    assert found.completions.tolist() == [[3, 6]]
    assert [view.encoding.text for view in found.others.views] == [found.teacher.text] * 2
    assert [view.completions.tolist() for view in found.others.views] == [[[3, 6]]] * 2
    assert reader.counts.num_normalised == 1


def test_losses_count_the_completion_on_every_side():
    sides, more = (opened("bytes:byte-level"), opened("byte-level")), (opened("marked"),)
    (row,) = packed(texts_of(["The jumps jumps"], 4), sides, PackConfig(), more)
    counted = [
        b"".join(tokenizer.vocabulary.token_bytes[n] for n in side.ids[side.loss_mask].tolist())
        for side, tokenizer in (
            (row.teacher, sides[0]),
            (row.student, sides[1]),
            (row.more_teachers[0], more[0]),
        )
    ]
    # The student's first " jumps" straddles the prompt's end.
    assert counted == [b"jumps jumps", b" jumps", b"jumps jumps"]
    completed = row.chunks.num_bytes[row.chunks.in_completion]
    assert completed.sum() == len(" jumps")


def test_one_chat_template_for_all_sides_matches_special_tokens_of_all():
    sides, more = (opened("byte-level"), opened("bytes:byte-level")), (opened("marked"),)
    (row,) = packed(chats_of(CHATS[1]), sides, PackConfig(), more)
    ids = (row.teacher.ids, row.more_teachers[0].ids, row.student.ids)
    tokenizers = (sides[0], *more, sides[1])
    texts = []
    for tokenizer, own, spans in zip(tokenizers, ids, row.chunks.spans, strict=True):
        special, token_bytes = tokenizer.vocabulary.special, tokenizer.vocabulary.token_bytes
        names = [special.get(n, "").encode() or token_bytes[n] for n in own.tolist()]
        texts.append([b"".join(names[slice(*span)]) for span in spans.tolist()])
    assert texts[0] == texts[1] == texts[2]
    assert texts[0].count(b"<|turn|>") == texts[0].count(b"<|stop|>") == 4
    assert row.chunks.is_begin.tolist() == [True] + [False] * (len(texts[0]) - 1)


@pytest.mark.parametrize("length", [8, 20, 200])
def test_a_further_teacher_with_a_template_of_its_own_shares_the_contents(length):
    sides = opened("byte-level"), opened("bytes:byte-level")
    other = named(["<b>", "<e>", "<h>"], HEADERS, marked=True)
    (document,) = aligned(chats_of(CHATS[1]), sides, [other])
    assert [view.contents is None for view in document.others.views] == [False, True]
    templates = (sides[0], sides[0], other)
    teacher, student, further = (
        encode_chat(side, CHATS[1], template=template)
        for side, template in zip((*sides, other), templates, strict=True)
    )
    expected = align_all_chats([teacher, further], student)
    spans = [document.others.alignment.teacher_spans, *(v.spans for v in document.others.views)]
    for own, plain in zip(spans, all_spans(expected), strict=True):
        assert own.tolist() == plain.tolist()
    assert expected[1].num_template_bytes_teacher == further.num_template_bytes

    rows = list(
        pack_rows(
            [document], *sides, PackConfig(length=length, packing="none"), more_teachers=[other]
        )
    )
    shared = [teacher.encoding.text[slice(*span)] for span in document.others.alignment.byte_spans]
    assert b"".join(shared).count(b"Nothing.") == 1
    for row in rows:
        texts = [
            [
                b"".join(tokenizer.vocabulary.token_bytes[n] for n in ids[slice(*span)].tolist())
                for span in own.tolist()
            ]
            for tokenizer, ids, own in zip(
                (sides[0], other, sides[1]),
                (row.teacher.ids, row.more_teachers[0].ids, row.student.ids),
                row.chunks.spans,
                strict=True,
            )
        ]
        assert texts[0] == texts[1] == texts[2]
    num_shared = sum(np.count_nonzero(~row.chunks.is_begin) for row in rows)
    num_crossing = sum(row.counts.num_crossing for row in rows)
    assert num_shared + num_crossing == len(document.others.alignment)


def test_what_the_template_of_a_further_teacher_adds_is_kept_as_a_warning():
    other = named(["<b>", "<e>", "<h>"], "Be brief.\n" + HEADERS, marked=True)
    reader = DocumentReader(opened("byte-level"), opened("bytes:byte-level"), [other, other])
    list(reader.read([(Position(), item) for item in chats_of(CHATS[0])]))
    [warning] = reader.counts.warnings
    assert "adds 'Be brief.' before a conversation" in warning


def test_a_begin_token_that_only_some_sides_have_is_in_no_chunk():
    text = b"ab"
    plain = Encoding(
        text, np.array([7], np.int32), byte_spans(np.array([2])), np.zeros(1, np.uint8)
    )
    begun = Encoding(
        text,
        np.array([1, 7], np.int32),
        byte_spans(np.array([0, 2])),
        np.array([Role.BEGIN, Role.REGULAR], np.uint8),
    )
    (first, second) = align_all([begun, plain], begun)
    assert first.teacher_spans.tolist() == first.student_spans.tolist() == [[1, 2]]
    assert second.teacher_spans.tolist() == [[0, 1]]
    assert (first.num_unmatched_teacher, first.num_unmatched_student) == (1, 1)


def said(side: BatchSide, seed: int) -> SideChunks:
    """Random log-probs of a batch's tokens, NaN at padding, as chunks; float64."""
    rng = np.random.default_rng(seed)
    token, boundary = (
        torch.from_numpy(-np.exp(rng.normal(mean, 1, side.ids.shape))) for mean in (-1, 0.3)
    )
    token = token.masked_fill(~side.token_mask, torch.nan)
    return side_chunks(TokenLogProbs(token, boundary), side)


@pytest.mark.parametrize("names", SETS, ids=str)
def test_a_batch_of_a_teacher_twice_gives_the_groups_and_values_of_one(names):
    sides, _ = sides_of(names)
    documents = texts_of(["The quick brown fox. " * 5, "dogs and cats", "1 2 3 日本語"], 3)
    config = PackConfig(length=24)
    twice = collate(packed(documents, sides, config, sides[:1]), multiple_of=8)
    once = collate(packed(documents, sides, config), multiple_of=8)
    assert once.more_teachers == ()
    for column in fields(BatchSide):
        mine = getattr(twice.more_teachers[0], column.name)
        assert torch.equal(mine, getattr(twice.teacher, column.name))
        for name in ("teacher", "student"):
            found, expected = (getattr(getattr(b, name), column.name) for b in (twice, once))
            assert torch.equal(found, expected)
    student = said(once.student, 0)
    alone = group_chunks(student, [said(once.teacher, 1)], once)
    both = group_chunks(student, [said(side, 1) for side in twice.teachers], twice)
    assert torch.equal(both.mask, alone.mask)
    assert int(both.mask.sum()) > 10
    torch.testing.assert_close(both.teacher[both.mask], alone.teacher[both.mask])
    torch.testing.assert_close(both.student[both.mask], alone.student[both.mask])


def test_a_batch_holds_every_chunk_of_every_side():
    sides, more = sides_of(SETS[1])
    texts = ["The quick brown fox. " * 5, "dogs and cats", "1 2 3 日本語"]
    rows = packed(texts_of(texts), sides, PackConfig(length=24), more)
    batch = collate(rows, student_pad_id=3, teacher_pad_id=4, multiple_of=8)
    assert len(batch.teachers) == 3
    for m, found in enumerate((*batch.teachers, batch.student)):
        for number, row in enumerate(rows):
            side = (row.teacher, *row.more_teachers, row.student)[m]
            size = len(side.ids)
            assert found.ids[number, :size].tolist() == side.ids.tolist()
            assert found.position_ids[number, :size].tolist() == side.position_ids.tolist()
            assert found.token_mask[number].sum() == size
            assert found.loss_mask[number, :size].tolist() == side.loss_mask.tolist()
            for chunk, (start, stop) in enumerate(row.chunks.spans[m].tolist()):
                assert (found.chunk_index[number, start:stop] == chunk).all()
                assert found.chunk_last[number, chunk] == stop - 1
            lengths = np.diff(row.chunks.spans[m]).sum()
            assert (found.chunk_index[number] >= 0).sum() == lengths
