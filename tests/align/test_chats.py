"""Conversations under two chat templates: contents aligned, special tokens matched by role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken
from trained_tokenizers import byte_level_bpe, marked_bpe, opened, unigram
from transformers import PreTrainedTokenizerFast

from suite.align.chats import align_chats
from suite.align.chunks import ChunkAlignment, align_chunks
from suite.errors import AlignmentError
from suite.text.chat import ChatEncoding, encode_chat
from suite.text.corpus import Message
from suite.text.encoding import Encoding, Role, byte_spans
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer

Spans = list[list[int]]


@dataclass(frozen=True)
class Piece:
    """Part of a rendering: text of the template or of a content, or a special token."""

    tokens: tuple[bytes, ...] = ()
    role: Role = Role.REGULAR
    is_content: bool = False


def literal(*tokens: bytes) -> Piece:
    return Piece(tokens)


def content(*tokens: bytes) -> Piece:
    return Piece(tokens, is_content=True)


BEGIN, HEADER, END, TURN = (
    Piece(role=role) for role in (Role.BEGIN, Role.HEADER, Role.END, Role.END_OF_TURN)
)


def chat_of(*pieces: Piece, glued: Sequence[int] = ()) -> ChatEncoding:
    """A conversation by hand; the tokens with numbers in `glued` are joined with the next one."""
    lengths: list[int] = []
    roles: list[Role] = []
    spans: Spans = []
    text = b""
    for piece in pieces:
        start = len(text)
        if piece.role:
            lengths.append(0)
            roles.append(piece.role)
        for token in piece.tokens:
            lengths.append(len(token))
            roles.append(Role.REGULAR)
            text += token
        if piece.is_content:
            spans.append([start, len(text)])
    for number in sorted(glued, reverse=True):
        if number + 1 < len(roles) and not roles[number] and not roles[number + 1]:
            lengths[number] += lengths.pop(number + 1)
            roles.pop(number)
    ids = np.arange(len(lengths), dtype=np.int32)
    encoding = Encoding(
        text, ids, byte_spans(np.array(lengths, np.int32)), np.array(roles, np.uint8)
    )
    names = tuple(("user", "assistant")[place % 2] for place in range(len(spans)))
    return ChatEncoding(encoding, np.array(spans, np.int32).reshape(-1, 2), names)


def tokens_inside(chat: ChatEncoding, span: list[int]) -> dict[tuple[int, int], int]:
    """The tokens within a content: their places in it, and their numbers."""
    found = {}
    for number, (start, stop) in enumerate(chat.encoding.byte_spans.tolist()):
        if start < stop and span[0] <= start and stop <= span[1]:
            found[start - span[0], stop - span[0]] = number
    return found


def expected_chunks(teacher: ChatEncoding, student: ChatEncoding) -> list[tuple[Any, ...]]:
    """Between neighbouring shared boundaries of a content, where both sides have all tokens."""
    chunks = []
    for spans in zip(teacher.content_spans.tolist(), student.content_spans.tolist(), strict=True):
        sides = [
            tokens_inside(chat, span) for chat, span in zip((teacher, student), spans, strict=True)
        ]
        bounds = [sorted({place for token in side for place in token}) for side in sides]
        shared = sorted(set(bounds[0]) & set(bounds[1]))
        for start, stop in pairwise(shared):
            ranges = []
            for side in sides:
                numbers = [n for (a, b), n in side.items() if start <= a and b <= stop]
                size = sum(b - a for a, b in side if start <= a and b <= stop)
                if size == stop - start:
                    ranges.append((min(numbers), max(numbers) + 1))
            if len(ranges) == 2:
                first = spans[0][0]
                chunks.append((*ranges, (first + start, first + stop)))
    return chunks


def text_chunks(alignment: ChunkAlignment) -> list[tuple[Any, ...]]:
    """The chunks that cover text, without dummy spaces in front."""
    columns = (alignment.teacher_spans, alignment.student_spans, alignment.byte_spans)
    rows = zip(*(map(tuple, column.tolist()) for column in columns), strict=True)
    return [row for row in rows if row[2][0] < row[2][1]]


def special_chunks(alignment: ChunkAlignment) -> list[tuple[Any, ...]]:
    columns = (alignment.teacher_spans, alignment.student_spans, alignment.byte_spans)
    rows = zip(*(map(tuple, column.tolist()) for column in columns), strict=True)
    return [row[:2] for row in rows if row[2][0] == row[2][1]]


def test_contents_are_aligned_and_template_text_is_counted() -> None:
    teacher = chat_of(
        *(HEADER, literal(b"us", b"er", b"\n"), content(b"Hel", b"lo"), TURN, literal(b"\n")),
        *(HEADER, literal(b"bot", b"\n"), content(b"Yes", b"!"), TURN, literal(b"\n")),
    )
    student = chat_of(
        *(literal(b"Q: "), content(b"H", b"ello"), TURN, literal(b" A: ")),
        *(content(b"Y", b"es", b"!"), TURN),
    )
    found = align_chats(teacher, student)
    assert text_chunks(found) == [
        ((4, 6), (1, 3), (5, 10)),
        ((11, 12), (5, 7), (15, 18)),
        ((12, 13), (7, 8), (18, 19)),
    ]
    assert special_chunks(found) == [((6, 7), (3, 4)), ((13, 14), (8, 9))]
    assert (found.num_unmatched_teacher, found.num_unmatched_student) == (2, 0)
    assert (found.num_template_bytes_teacher, found.num_template_bytes_student) == (11, 7)
    assert found.num_broken == 0


@pytest.mark.parametrize(
    ("teacher", "student", "matched", "unmatched"),
    [
        ([BEGIN, HEADER], [HEADER], 1, (1, 0)),
        ([HEADER], [BEGIN, HEADER], 1, (0, 1)),
        ([BEGIN, HEADER], [BEGIN, HEADER], 2, (0, 0)),
        ([HEADER], [HEADER, HEADER], 1, (0, 0)),
        ([HEADER], [HEADER, literal(b"user"), HEADER], 1, (0, 1)),
        ([HEADER, literal(b"user"), HEADER], [HEADER, literal(b"a"), HEADER], 2, (0, 0)),
        ([BEGIN, literal(b"user"), HEADER], [literal(b"x"), BEGIN], 1, (1, 0)),
        ([], [BEGIN, HEADER], 0, (0, 2)),
    ],
)
def test_special_tokens_before_a_content_are_matched_by_role(
    teacher: list[Piece], student: list[Piece], matched: int, unmatched: tuple[int, int]
) -> None:
    """Where the text of headers stands between them they are two tokens, otherwise one run."""
    sides = [
        chat_of(*pieces, literal(end), content(b"Hi"))
        for pieces, end in ((teacher, b"\n"), (student, b" "))
    ]
    found = align_chats(*sides)
    assert len(special_chunks(found)) == matched
    assert (found.num_unmatched_teacher, found.num_unmatched_student) == unmatched
    assert [chunk[2] for chunk in text_chunks(found)] == [tuple(sides[0].content_spans[0])]


def test_the_end_of_a_turn_matches_the_end_of_a_document() -> None:
    teacher = chat_of(literal(b"a:"), content(b"x"), TURN, literal(b"\n"), content(b"y"), TURN)
    student = chat_of(content(b"x"), END, literal(b" "), content(b"y"), TURN, END)
    found = align_chats(teacher, student)
    assert special_chunks(found) == [((2, 3), (1, 2)), ((5, 6), (4, 5))]
    assert (found.num_unmatched_teacher, found.num_unmatched_student) == (0, 1)


def test_a_token_that_holds_text_of_template_and_content_is_left_out_on_both_sides() -> None:
    teacher = chat_of(literal(b"\n"), content(b"a", b"b", b"c"), TURN, glued=[0])
    student = chat_of(literal(b": "), content(b"a", b"bc"), TURN)
    found = align_chats(teacher, student)
    assert text_chunks(found) == [((1, 3), (2, 3), (2, 4))]
    assert special_chunks(found) == [((3, 4), (3, 4))]
    assert found.num_broken == 1


def test_a_glued_token_takes_no_other_content_with_it() -> None:
    """Plain text between the contents, so that no special token parts them."""
    teacher = chat_of(
        content(b"ab"), literal(b"\nQ:"), content(b" x", b"yz"), literal(b"."), glued=[1]
    )
    student = chat_of(content(b"a", b"b"), literal(b"\n"), content(b" x", b"y", b"z"))
    assert text_chunks(align_chats(teacher, student)) == [
        ((0, 1), (0, 2), (0, 2)),
        ((2, 3), (4, 6), (7, 9)),
    ]
    teacher = chat_of(content(b"a", b"b."), literal(b"\n\n"), content(b"c"), glued=[1])
    assert text_chunks(align_chats(teacher, chat_of(content(b"a", b"b", b"."), content(b"c")))) == [
        ((0, 1), (0, 1), (0, 1)),
        ((2, 3), (3, 4), (5, 6)),
    ]


def test_a_token_over_two_contents_costs_no_more_than_it_covers() -> None:
    teacher = chat_of(content(b"ab", b"c"), literal(b"\n"), content(b"d", b"ef"), glued=[1, 2])
    student = chat_of(content(b"a", b"b", b"c"), content(b"d", b"e", b"f"))
    found = align_chats(teacher, student)
    assert text_chunks(found) == [((0, 1), (0, 2), (0, 2)), ((2, 3), (4, 6), (5, 7))]


TOKEN = st.binary(min_size=1, max_size=3)
PARTS = st.lists(TOKEN, max_size=4).map(tuple)
SEPARATORS = st.lists(
    st.one_of(st.sampled_from([BEGIN, HEADER, TURN, END]), PARTS.map(lambda parts: Piece(parts))),
    max_size=4,
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[ChatEncoding, ChatEncoding]:
    """The same contents, cut, surrounded and glued differently."""
    contents = draw(st.lists(st.binary(max_size=6), max_size=4))
    sides = []
    for _ in range(2):
        pieces = list(draw(SEPARATORS))
        for text in contents:
            cuts = sorted(draw(st.sets(st.integers(1, 5))))
            bounds = [0, *(cut for cut in cuts if cut < len(text)), len(text)]
            cells = [text[a:b] for a, b in pairwise(bounds) if a < b]
            pieces += [content(*cells), *draw(SEPARATORS)]
        sides.append(chat_of(*pieces, glued=draw(st.sets(st.integers(0, 20), max_size=4))))
    return sides[0], sides[1]


@given(sides=conversations())
@example(sides=(chat_of(), chat_of(literal(b"x"))))
@example(sides=(chat_of(content(), content()), chat_of(HEADER, content(), TURN, content(), HEADER)))
def test_contents_are_aligned_as_a_plain_loop_aligns_each(
    sides: tuple[ChatEncoding, ChatEncoding],
) -> None:
    teacher, student = sides
    found = align_chats(teacher, student)
    if teacher.encoding.text == student.encoding.text:
        whole = align_chunks(teacher.encoding, student.encoding)
        assert text_chunks(found) == text_chunks(whole)
        return
    assert text_chunks(found) == expected_chunks(teacher, student)
    for chunk in special_chunks(found):
        roles = [
            set(chat.encoding.roles[slice(*span)].tolist())
            for chat, span in zip(sides, chunk, strict=True)
        ]
        assert all(len(side) == 1 for side in roles)
        assert roles[0] == roles[1] or roles[0] | roles[1] == {Role.END, Role.END_OF_TURN}
    for place, chat, unmatched in (
        (0, teacher, found.num_unmatched_teacher),
        (1, student, found.num_unmatched_student),
    ):
        matched = sum(chunk[place][1] - chunk[place][0] for chunk in special_chunks(found))
        assert matched + unmatched == np.count_nonzero(chat.encoding.roles)
    assert found.num_template_bytes_teacher == teacher.num_template_bytes
    assert found.num_template_bytes_student == student.num_template_bytes


NAMES = ("<s>", "</s>", "<h>", "<e>", "<|h|>", "<|/h|>", "<|eot|>")
TEMPLATES = {
    "one header token": "{% for m in messages %}<h>{{ m.role }}\n{{ m.content }}<e>\n{% endfor %}",
    "two header tokens": "{{ bos_token }}{% for m in messages %}<|h|>{{ m.role }}<|/h|>\n\n"
    "{{ m.content | trim }}<|eot|>{% endfor %}",
    "markers as text": "{% for m in messages %}{% if m.role == 'user' %}"
    "{{ bos_token }}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}",
    "no special tokens": "{% for m in messages %}# {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}",
    "system prompt": "<h>system\nYou help.<e>\n"
    "{% for m in messages %}<h>{{ m.role }}\n{{ m.content }}<e>\n{% endfor %}",
}
KINDS = {
    "byte-level": byte_level_bpe,
    "marked": marked_bpe,
    "prefixed": lambda: marked_bpe("▁"),
    "unigram": unigram,
}
MESSAGES = (
    Message("user", "Wie groß ist 日本?\n"),
    Message("assistant", "  377.975 km².\n\n  return x * 2"),
    Message("user", ""),
    Message("assistant", "user\nassistant"),
    Message("user", "1000 👩‍👩‍👧‍👦 e\u0301"),
)


def make(template: str, kind: str) -> OpenedTokenizer:
    backend = KINDS[kind]()
    backend.add_special_tokens([AddedToken(token, special=True) for token in NAMES])
    hf = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=TEMPLATES[template],
        bos_token="<s>",
        eos_token="</s>",
    )
    return open_tokenizer(hf, name=kind)


@pytest.mark.parametrize("student", TEMPLATES)
@pytest.mark.parametrize("teacher", TEMPLATES)
@pytest.mark.parametrize(
    "kinds", [("byte-level", "marked"), ("unigram", "byte-level"), ("prefixed", "unigram")]
)
def test_real_templates_and_tokenizers_agree_with_the_plain_loop(
    teacher: str, student: str, kinds: tuple[str, str]
) -> None:
    sides = [
        encode_chat(make(template, kind), MESSAGES)
        for template, kind in zip((teacher, student), kinds, strict=True)
    ]
    found = align_chats(sides[0], sides[1])
    if sides[0].encoding.text == sides[1].encoding.text:
        assert (found.num_template_bytes_teacher, found.num_template_bytes_student) == (0, 0)
        return
    chunks = text_chunks(found)
    with_dummies = [
        (
            *(without_dummies(chat, span) for chat, span in zip(sides, chunk[:2], strict=True)),
            chunk[2],
        )
        for chunk in chunks
    ]
    assert with_dummies == expected_chunks(sides[0], sides[1])
    covered = sum(stop - start for _, _, (start, stop) in chunks)
    assert covered > 0.5 * np.diff(sides[0].content_spans).sum()


def without_dummies(chat: ChatEncoding, span: tuple[int, int]) -> tuple[int, int]:
    spans = chat.encoding.byte_spans.tolist()
    first = next(number for number in range(*span) if spans[number][0] < spans[number][1])
    return first, span[1]


def test_equal_renderings_are_aligned_as_one_text() -> None:
    sides = [
        encode_chat(opened(family), MESSAGES, template=opened("byte-level"))
        for family in ("marked", "bytes:byte-level")
    ]
    found = align_chats(*sides)
    whole = align_chunks(sides[0].encoding, sides[1].encoding)
    for column in ("teacher_spans", "student_spans", "byte_spans"):
        np.testing.assert_array_equal(getattr(found, column), getattr(whole, column))
    assert found.byte_spans[-1, 1] == len(sides[0].encoding.text)
    assert (found.num_template_bytes_teacher, found.num_template_bytes_student) == (0, 0)


def test_other_messages_are_refused() -> None:
    one = chat_of(HEADER, content(b"a"), literal(b"\n"), content(b"b"))
    with pytest.raises(AlignmentError) as error:
        align_chats(one, chat_of(content(b"a"), literal(b"\n")))
    assert str(error.value) == (
        "the teacher's conversation has 2 messages, the student's 1; render the same messages for"
        " both"
    )
    with pytest.raises(AlignmentError) as error:
        align_chats(one, chat_of(content(b"a"), content(b"c")))
    assert str(error.value) == (
        "message 2 has one content for the teacher and another for the student; render the same"
        " messages for both"
    )
