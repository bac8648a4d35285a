from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from trained_tokenizers import byte_level_bpe, marked_bpe, opened, wrap
from transformers import PreTrainedTokenizerFast

from suite.align.chats import align_chats
from suite.align.chunks import align_chunks
from suite.align.coverage import Coverage, measure_coverage
from suite.align.cut import PackConfig
from suite.align.documents import AlignedDocument, DocumentReader
from suite.align.pack import pack_rows
from suite.align.rows import Row
from suite.errors import ConfigError, TextError
from suite.text.chat import encode_chat
from suite.text.corpus import Document, Message, Position
from suite.text.encoding import Encoding
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer

NAMES = ("<s>", "</s>", "<h>", "<e>")
KEPT = "{% for m in messages %}<h>{{ m['role'] }}\n{{ m['content'] }}<e>{% endfor %}"
PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
NEEDS_SYSTEM = "{{ raise_exception('system first') if messages[0]['role'] != 'system' }}" + KEPT
CHAT = (Message("user", "a b"), Message("assistant", "Yes.\n"))


def make(
    template: str | None, *, kind: Any = byte_level_bpe, name: str = "given"
) -> OpenedTokenizer:
    backend = kind()
    backend.add_special_tokens([AddedToken(token, special=True) for token in NAMES])
    hf = PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template=template, bos_token="<s>", eos_token="</s>"
    )
    return open_tokenizer(hf, name=name)


def composing() -> OpenedTokenizer:
    backend = byte_level_bpe()
    backend.normalizer = normalizers.NFC()
    return open_tokenizer(wrap(backend), name="composing")


def texts(*given: str, first: int = 0) -> list[Document]:
    return [Document(number, text=text) for number, text in enumerate(given, start=first)]


def positions(documents: Sequence[Document]) -> Iterator[tuple[Position, Document]]:
    """Documents of a shuffled corpus: numbers and places have nothing to do with each other."""
    for place, document in enumerate(documents, start=1):
        yield Position(3, 10 * place), document


def read(reader: DocumentReader, documents: Sequence[Document]) -> list[AlignedDocument]:
    return list(reader.read(positions(documents)))


def same(a: Encoding, b: Encoding) -> bool:
    columns = ("ids", "byte_spans", "roles")
    return a.text == b.text and all(np.array_equal(getattr(a, c), getattr(b, c)) for c in columns)


TEXTS = ["The quick", "", " brown\n\n", "日本 e\u0301", "x" * 100, "\n", "<|stop|>"]


@pytest.mark.parametrize("teacher", ["byte-level", "unigram"])
@pytest.mark.parametrize("student", ["byte-level", "prefixed", "bytes:byte-level"])
def test_documents_are_read_in_order_as_each_is_alone(teacher: str, student: str) -> None:
    sides = opened(teacher), opened(student)
    reader = DocumentReader(*sides)
    documents = [Document(99 - number, text=text) for number, text in enumerate(TEXTS * 12)]
    found = read(reader, documents)
    assert [item.number for item in found] == [document.number for document in documents]
    assert [item.resume for item in found] == [position for position, _ in positions(documents)]
    coverage = []
    for item, document in zip(found, documents, strict=True):
        encodings = [side.encode(document.text or "") for side in sides]
        assert item.student is not None
        assert item.others is not None
        assert same(item.teacher, encodings[0])
        assert same(item.student.encoding, encodings[1])
        whole = align_chunks(*encodings)
        np.testing.assert_array_equal(item.others.alignment.byte_spans, whole.byte_spans)
        np.testing.assert_array_equal(item.others.alignment.teacher_spans, whole.teacher_spans)
        np.testing.assert_array_equal(item.others.alignment.student_spans, whole.student_spans)
        assert (item.completions, item.student.completions, item.student.contents) == (None,) * 3
        coverage.append(measure_coverage(whole, len(encodings[0].text)))
    assert reader.counts.coverage == sum(coverage, Coverage())
    assert reader.counts.num_documents == len(documents)
    assert reader.counts.num_empty == 12
    assert reader.counts.reasons == []


def test_a_document_is_read_when_it_is_asked_for_and_not_long_before() -> None:
    seen = []

    def source() -> Iterator[tuple[Position, Document]]:
        for item in positions(texts(*"abc" * 1000)):
            seen.append(item)
            yield item

    reader = DocumentReader(opened("byte-level"), opened("marked"))
    stream = reader.read(source())
    assert seen == []
    assert next(stream).number == 0
    assert len(seen) < 1500
    assert sum(1 for _ in stream) == 2999


def test_what_the_teacher_cannot_read_is_left_out_and_what_the_student_cannot_keeps_its_place() -> (
    None
):
    reader = DocumentReader(opened("marked"), lacking_newline())
    found = read(reader, texts("a", "▁", "a\nb", "▁\n", "c", first=5))
    assert [(item.number, item.resume.index, item.student is None) for item in found] == [
        (5, 10, False),
        (7, 30, True),
        (9, 50, False),
    ]
    counts = reader.counts
    assert (counts.num_documents, counts.num_unread_teacher, counts.num_unread_student) == (5, 2, 1)
    assert counts.coverage.num_bytes == 2
    tail = "its tokens stand for other bytes; leave this text out or choose another tokenizer"
    assert counts.reasons == [
        f"document 6: marked cannot read byte 0 of the text, '▁' (U+2581): {tail}",
        f"document 7: lacking cannot read byte 1 of the text, '\\n' (U+000A): {tail}",
        f"document 8: marked cannot read byte 0 of the text, '▁' (U+2581): {tail}",
    ]


def lacking_newline() -> OpenedTokenizer:
    """Byte-level BPE of letters alone, without one for the newline."""
    letters = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - {"Ċ"})
    backend = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return open_tokenizer(wrap(backend), name="lacking")


def test_only_the_first_reasons_are_kept() -> None:
    reader = DocumentReader(opened("marked"), opened("byte-level"))
    assert read(reader, texts(*"▁" * 70)) == []
    assert reader.counts.num_unread_teacher == 70
    assert [reason.partition(":")[0] for reason in reader.counts.reasons] == [
        f"document {number}" for number in range(5)
    ]


def test_the_teachers_side_is_the_same_for_every_student() -> None:
    documents = [*texts("a\nb", "▁", "", "x y"), Document(4, messages=CHAT)]
    students = [
        opened("byte-level"),
        opened("bytes:marked"),
        lacking_newline(),
        make(PLAIN),
    ]
    sides = [read(DocumentReader(opened("marked"), student), documents) for student in students]
    for side in sides[1:]:
        assert [item.number for item in side] == [0, 2, 3, 4]
        assert all(same(a.teacher, b.teacher) for a, b in zip(sides[0], side, strict=True))


@pytest.mark.parametrize("composes_first", [False, True])
def test_both_sides_read_the_normal_form_and_changes_are_counted(composes_first: bool) -> None:
    sides = (composing(), opened("byte-level"))
    reader = DocumentReader(*(sides if composes_first else sides[::-1]))
    chat = (Message("user", "e\u0301"), Message("assistant", "q\u0315\u0300 \u212b"))
    documents = [
        *texts("e\u0301 e\u0301", "é", "q\u0315\u0300", ""),
        Document(4, messages=chat),
        Document(5, messages=CHAT),
    ]
    found = read(reader, documents)
    expected = ["é é", "é", "q\u0300\u0315", ""]
    assert [item.teacher.text.decode() for item in found[:4]] == expected
    for item in found:
        assert item.student is not None
        assert item.student.encoding.text == item.teacher.text
    spans = found[4].completions
    assert spans is not None
    assert found[4].teacher.text[slice(*spans[0])].decode() == "q\u0300\u0315 Å"
    assert (reader.counts.num_normalised, reader.counts.num_changed) == (3, 4 + 1 + 2 + 1)


def completions_of(prompt: str, completion: str, *sides: OpenedTokenizer) -> tuple[str, list[str]]:
    document = Document(0, text=prompt + completion, prompt_bytes=len(prompt.encode()))
    (item,) = read(DocumentReader(*sides), [document])
    assert item.student is not None
    if item.completions is None:
        assert item.student.completions is None
        return item.teacher.text.decode(), ["all"]
    assert item.student.completions is not None
    assert item.student.completions.tolist() == item.completions.tolist()
    pieces = [item.teacher.text[slice(*span)].decode() for span in item.completions.tolist()]
    return item.teacher.text.decode(), pieces


def test_a_completion_is_what_follows_the_prompt() -> None:
    plain = opened("byte-level"), opened("marked")
    assert completions_of("Größe? ", "1 é\n", *plain) == ("Größe? 1 é\n", ["1 é\n"])
    assert completions_of("Why?", "", *plain) == ("Why?", [""])
    assert completions_of("", "Because.", *plain) == ("Because.", ["all"])


def test_a_completion_is_found_behind_a_prompt_that_the_normal_form_changed() -> None:
    sides = opened("byte-level"), composing()
    assert completions_of("e\u0301? ", "e\u0301!", *sides) == ("é? é!", ["é!"])
    assert completions_of("\u212b\u212b", "a", *sides) == ("ÅÅa", ["a"])
    assert completions_of("e\u0301", "", *sides) == ("é", [""])


@given(prompt=st.text(max_size=5), completion=st.text(max_size=5))
def test_a_completion_behind_a_space_is_its_own_normal_form(prompt: str, completion: str) -> None:
    """A mark at its beginning could join the prompt; behind white space none does."""
    text, pieces = completions_of(prompt + " ", "." + completion, COMPOSING, opened("byte-level"))
    assert len(pieces) == 1
    assert text.endswith(pieces[0])
    assert pieces[0].startswith(".")


COMPOSING = composing()


def test_one_template_for_both_where_the_student_knows_its_tokens() -> None:
    (item,) = read(
        DocumentReader(opened("byte-level"), opened("bytes:byte-level")),
        [Document(0, messages=CHAT)],
    )
    assert item.student is not None
    assert item.teacher.text == item.student.encoding.text == b"user\na b\nassistant\nYes.\n\n"
    assert item.student.contents is None
    assert item.completions is not None
    assert item.completions.tolist() == [[19, 23]]
    assert item.student.completions is not None
    assert item.student.completions.tolist() == [[19, 23]]
    assert item.others.alignment.byte_spans[-1, 1] == len(item.teacher.text)


def test_a_student_keeps_its_own_template_where_it_lacks_tokens_of_the_teachers() -> None:
    sides = opened("byte-level"), make(PLAIN, kind=marked_bpe)
    reader = DocumentReader(*sides)
    (item,) = read(reader, [Document(0, messages=CHAT)])
    chats = [encode_chat(side, CHAT) for side in sides]
    assert item.student is not None
    assert same(item.teacher, chats[0].encoding)
    assert same(item.student.encoding, chats[1].encoding)
    assert item.student.encoding.text == b"user: a b\nassistant: Yes.\n\n"
    expected = align_chats(*chats)
    np.testing.assert_array_equal(item.others.alignment.byte_spans, expected.byte_spans)
    assert item.student.contents is not None
    for spans, chat in zip(item.student.contents, chats, strict=True):
        np.testing.assert_array_equal(spans, chat.content_spans)
    assert item.completions is not None
    assert item.completions.tolist() == [[19, 23]]
    assert item.student.completions is not None
    assert item.student.completions.tolist() == [[21, 25]]
    assert reader.counts.coverage == measure_coverage(expected, len(chats[0].encoding.text))
    assert reader.counts.coverage.num_template_bytes_student == 20


def test_a_teacher_without_template_takes_the_students() -> None:
    (item,) = read(DocumentReader(make(None), make(KEPT)), [Document(0, messages=CHAT)])
    assert item.teacher.text == b"user\na bassistant\nYes.\n"
    assert item.student is not None
    assert item.student.contents is None


def test_chats_that_cannot_be_rendered_are_left_out_like_texts() -> None:
    reader = DocumentReader(opened("byte-level"), make(NEEDS_SYSTEM, name="strict"))
    with_system = (Message("system", "Be kind."), *CHAT)
    special = (Message("user", "a <|stop|>"),)
    documents = [
        Document(0, messages=with_system),
        Document(1, messages=CHAT),
        Document(2, text="a"),
        Document(3, messages=special),
        Document(4, messages=()),
        Document(5, messages=with_system),
    ]
    found = read(reader, documents)
    assert [(item.number, item.resume.index, item.student is None) for item in found] == [
        (0, 10, False),
        (1, 20, True),
        (2, 30, False),
        (5, 60, False),
    ]
    assert (reader.counts.num_unread_teacher, reader.counts.num_unread_student) == (2, 1)
    assert reader.counts.reasons == [
        "document 1: the chat template of strict refuses this conversation (system first); leave it"
        " out or use another template",
        "document 3: message 1 holds '<|stop|>' as text, which a rendered chat cannot tell from the"
        " special token of byte-level; leave this conversation out",
        "document 4: a conversation without messages cannot be rendered; leave it out",
    ]


def test_a_template_that_refuses_a_plain_conversation_stops_no_corpus() -> None:
    teacher = make(NEEDS_SYSTEM)
    with pytest.raises(TextError):
        encode_chat(teacher, CHAT)
    with_system = (Message("system", "Be kind."), *CHAT)
    reader = DocumentReader(teacher, opened("byte-level"))
    found = read(reader, [Document(0, messages=CHAT), Document(1, messages=with_system)])
    assert [item.number for item in found] == [1]
    assert found[0].teacher.text == b"system\nBe kind.user\na bassistant\nYes.\n"
    assert reader.counts.num_unread_teacher == 1


def test_nothing_gives_nothing() -> None:
    reader = DocumentReader(opened("byte-level"), opened("marked"))
    assert read(reader, []) == []
    assert reader.counts.num_documents == 0
    assert reader.counts.coverage.byte_share is None


def test_a_side_without_a_template_to_use_stops_at_the_first_chat() -> None:
    reader = DocumentReader(opened("marked"), make(None))
    with pytest.raises(ConfigError) as error:
        read(reader, [*texts("a"), Document(1, messages=CHAT)])
    assert str(error.value) == ("given has no chat template; name a tokenizer that has one")


def test_what_one_template_adds_is_kept_as_a_warning() -> None:
    reader = DocumentReader(make("Be brief.\n<h>" + PLAIN), opened("byte-level"))
    assert reader.counts.warnings == ()
    read(reader, [Document(0, messages=CHAT)])
    [warning] = reader.counts.warnings
    assert "adds 'Be brief.' before a conversation" in warning


def test_rows_can_be_gone_on_with_from_each_ones_position() -> None:
    corpus = texts("one two three four five", "▁", "six seven eight nine ten", "", "eleven twelve")
    sides = opened("marked"), opened("byte-level")
    config = PackConfig(length=7)

    def rows(start: Position, first_token: int) -> list[Row]:
        documents = [
            (Position(0, index + 1), document)
            for index, document in enumerate(corpus)
            if index >= start.index
        ]
        found = DocumentReader(*sides).read(documents, start)
        return list(pack_rows(found, *sides, config, first_token=first_token))

    whole = rows(Position(), 0)
    assert any(row.resume_token for row in whole)
    for number, row in enumerate(whole):
        rest = rows(row.resume, row.resume_token)
        assert [r.teacher.ids.tolist() for r in rest] == [
            r.teacher.ids.tolist() for r in whole[number + 1 :]
        ]
        assert [r.chunks.teacher_spans.tolist() for r in rest] == [
            r.chunks.teacher_spans.tolist() for r in whole[number + 1 :]
        ]
