"""Rows of conversations: special tokens at cuts, what losses count, two chat templates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from packed import CHATS, aligned, chats_of, named, packed, texts_of
from trained_tokenizers import CHAT_TEMPLATE, opened

from suite.align.completions import in_completions
from suite.align.cut import PackConfig
from suite.align.pack import pack_rows
from suite.align.rows import Row, RowCounts, RowSide
from suite.text.corpus import Message
from suite.text.encoding import Encoding
from suite.text.tokenizers import OpenedTokenizer


def parted(spans: list[list[int]], rows: list[Row]) -> int:
    """How many spans of teacher tokens a row's beginning parts."""
    cuts = {row.pieces[0].start for row in rows}
    return sum(any(start < cut < stop for cut in cuts) for start, stop in spans)


def entries(ids: np.ndarray, tokenizer: OpenedTokenizer) -> list[str]:
    special, token_bytes = tokenizer.vocabulary.special, tokenizer.vocabulary.token_bytes
    return [special.get(token) or token_bytes[token].decode() for token in ids.tolist()]


def counted_text(side: RowSide, tokenizer: OpenedTokenizer) -> str:
    """The tokens that losses count."""
    return "".join(entries(side.ids[side.loss_mask], tokenizer))


@pytest.mark.parametrize("student", ["bytes:byte-level", "prefixed"])
@pytest.mark.parametrize("teacher", ["byte-level", "prefixed"])
def test_a_chat_loses_only_the_chunks_that_a_cut_parts(teacher, student):
    sides = opened(teacher), opened(student)
    (document,) = aligned(chats_of(CHATS[1]), sides)
    spans = document.others.alignment.teacher_spans.tolist()
    for length in range(2, 20):
        rows = list(pack_rows([document], *sides, PackConfig(length=length, packing="none")))
        counts = sum((row.counts for row in rows), RowCounts())
        num_begin = sum(len(row.student.ids) > 0 for row in rows)
        assert counts.num_crossing == parted(spans, rows)
        assert counts.num_first == 0
        assert counts.num_chunks == len(spans) - counts.num_crossing + num_begin


@pytest.mark.parametrize("length", [*range(2, 20), 200])
def test_a_byte_student_gets_every_token_of_a_chat_in_one_row(length):
    sides = opened("byte-level"), opened("bytes:byte-level")
    (document,) = aligned(chats_of(CHATS[1]), sides)
    rows = list(pack_rows([document], *sides, PackConfig(length=length, packing="none")))
    ids = [token for row in rows for token in row.student.ids[1:].tolist()]
    assert ids == document.student.encoding.ids.tolist()


@pytest.mark.parametrize("length", [*range(2, 20), 200])
def test_two_templates_share_contents_and_turns_in_every_row(length):
    turns = "{% for m in messages %}<h>{{ m['role'] }}: {{ m['content'] }} ~<e>{% endfor %}"
    sides = opened("byte-level"), named(["<b>", "<e>", "<h>"], turns, marked=True)
    (document,) = aligned(chats_of(CHATS[1]), sides)
    assert document.student.contents is not None
    spans = document.others.alignment.teacher_spans.tolist()
    rows = list(pack_rows([document], *sides, PackConfig(length=length, packing="none")))
    num_chunks = sum(np.count_nonzero(~row.chunks.is_begin) for row in rows)
    assert sum(row.counts.num_crossing for row in rows) == parted(spans, rows)
    assert num_chunks == len(spans) - parted(spans, rows)
    for row in rows:
        both = row.chunks.teacher_spans.tolist(), row.chunks.student_spans.tolist()
        for mine, yours in zip(*both, strict=True):
            texts = [
                b"".join(side.vocabulary.token_bytes[token] for token in ids[slice(*span)].tolist())
                for side, ids, span in (
                    (sides[0], row.teacher.ids, mine),
                    (sides[1], row.student.ids, yours),
                )
            ]
            assert texts[0] == texts[1]


@pytest.mark.parametrize("length", [8, 20, 200])
def test_two_templates_lose_no_token_and_repeat_none(length):
    turns = "{% for m in messages %}<h>{{ m['role'] }}: {{ m['content'] }} ~<e>{% endfor %}"
    sides = opened("bytes:byte-level"), named(["<b>", "<e>", "<h>"], turns)
    (document,) = aligned(chats_of(CHATS[1]), sides)
    rows = list(pack_rows([document], *sides, PackConfig(length=length, packing="none")))
    ids = [token for row in rows for token in row.student.ids[1:].tolist()]
    whole = document.student.encoding.ids.tolist()
    if not parted(document.others.alignment.teacher_spans.tolist(), rows):
        assert ids == whole
    left = iter(whole)
    assert all(token in left for token in ids)


@pytest.mark.parametrize("space", ["", "\n", " \n\n"])
@pytest.mark.parametrize("student", ["bytes:byte-level", "marked"])
def test_losses_count_an_answer_and_its_end_and_no_header_or_prompt(student, space):
    sides = opened("byte-level"), opened(student)
    chat = (CHATS[0][0], Message("assistant", "It is 3." + space), *CHATS[1][2:])
    (row,) = packed(chats_of(chat), sides, PackConfig())
    expected = f"It is 3.{space}<|stop|>Nothing.\n\nNo.<|stop|>"
    assert counted_text(row.teacher, sides[0]) == expected
    assert counted_text(row.student, sides[1]) == expected
    counts, spans = row.teacher.loss_mask, row.chunks.teacher_spans.tolist()
    assert row.chunks.in_completion.tolist() == [counts[slice(*span)].all() for span in spans]
    num_bytes = row.chunks.num_bytes[row.chunks.in_completion].sum()
    assert num_bytes == len(expected) - 2 * len("<|stop|>")


def test_losses_count_the_end_of_an_empty_answer_and_of_no_empty_question():
    sides = opened("byte-level"), opened("bytes:byte-level")
    chat = (Message("user", ""), Message("assistant", ""))
    (row,) = packed(chats_of(chat), sides, PackConfig())
    assert counted_text(row.teacher, sides[0]) == "<|stop|>"
    assert counted_text(row.student, sides[1]) == "<|stop|>"


def test_a_chat_without_an_answer_counts_nothing():
    sides = opened("byte-level"), opened("bytes:byte-level")
    (row,) = packed(chats_of(CHATS[0][:1]), sides, PackConfig())
    assert not row.teacher.loss_mask.any()
    assert not row.student.loss_mask.any()
    assert not row.chunks.in_completion.any()


def test_a_header_that_is_the_begin_token_is_a_first_token_and_counted():
    sides = tuple(
        replace(side, begin_id=side.hf.convert_tokens_to_ids("<|turn|>"))
        for side in (opened("byte-level"), opened("bytes:byte-level"))
    )
    (row,) = packed(chats_of(CHATS[0]), sides, PackConfig())
    assert not row.pieces[0].has_prefix
    assert row.counts.num_first == 1
    assert not row.chunks.is_begin.any()
    assert row.chunks.teacher_spans[0].tolist() == row.chunks.student_spans[0].tolist() == [1, 2]


def test_a_begin_token_that_the_template_writes_is_the_begin_chunk():
    names = ["<b>", "<e>", "<|turn|>", "<|stop|>"]
    sides = tuple(named(names, "<b>" + CHAT_TEMPLATE, marked=marked) for marked in (False, True))
    (row,) = packed(chats_of(CHATS[0]), sides, PackConfig())
    assert not row.pieces[0].has_prefix
    assert row.chunks.is_begin.tolist() == [True] + [False] * (row.counts.num_chunks - 1)
    assert row.counts.num_first == 0
    assert not row.teacher.loss_mask[0]
    assert row.teacher.ids.tolist().count(sides[0].begin_id) == 1


def test_a_begin_token_inside_a_conversation_is_a_chunk_like_any_other():
    begin = "{% if message['role'] == 'user' %}<b>{% endif %}"
    template = CHAT_TEMPLATE.replace("<|turn|>{{", begin + "<|turn|>{{")
    names = ["<b>", "<e>", "<|turn|>", "<|stop|>"]
    sides = tuple(named(names, template, marked=marked) for marked in (False, True))
    (row,) = packed(chats_of(CHATS[1]), sides, PackConfig())
    firsts = row.teacher.ids[row.chunks.teacher_spans[:, 0]]
    assert np.count_nonzero(firsts == sides[0].begin_id) == 2
    assert row.chunks.is_begin.tolist() == [True] + [False] * (row.counts.num_chunks - 1)


def test_a_token_that_straddles_an_end_of_an_answer_does_not_count():
    text = b"ab.\ncd.\n"
    spans = np.array([[0, 1], [1, 2], [2, 4], [4, 6], [6, 7], [7, 8]], np.int32)
    found = Encoding(text, np.zeros(6, np.int32), spans, np.zeros(6, np.uint8))
    answers = np.array([[1, 3], [5, 7]], np.int32)
    assert in_completions(found, answers).tolist() == [False, True, False, False, True, False]
    assert in_completions(found, None).all()
    assert not in_completions(found, answers[:0]).any()


def test_groups_close_at_a_documents_end_and_before_what_is_left_out_only():
    # The teacher's template writes neither the names of roles nor the ends of turns.
    turns = "{% for m in messages %}<h>{{ m['content'] }}{% endfor %}"
    sides = named(["<b>", "<e>", "<h>"], turns), opened("bytes:byte-level")
    (document,) = aligned(chats_of(CHATS[0]), sides)
    (row,) = pack_rows([document, document], *sides, PackConfig(length=200))
    lasts = row.chunks.teacher_spans[row.chunks.closes, 1] - 1
    assert entries(row.teacher.ids[lasts], sides[0]) == ["<h>", "?", "<h>", "."] * 2


def test_a_row_of_text_closes_at_its_documents_ends_and_at_its_own():
    sides = opened("byte-level"), opened("bytes:byte-level")
    rows = packed(texts_of(["The fox", "1 2 3 4 5 6 7"]), sides, PackConfig(length=12))
    assert len(rows) == 2
    for row in rows:
        ends = np.cumsum([piece.num_tokens for piece in row.pieces])
        assert row.chunks.teacher_spans[row.chunks.closes, 1].tolist() == ends.tolist()
