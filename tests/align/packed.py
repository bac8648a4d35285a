"""Documents of texts and chats, read by all sides and packed into rows; shared by tests of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st
from tokenizers import AddedToken
from trained_tokenizers import byte_level_bpe, marked_bpe, opened
from transformers import PreTrainedTokenizerFast

from suite.align.cut import PackConfig
from suite.align.documents import AlignedDocument, DocumentReader
from suite.align.pack import pack_rows
from suite.align.rows import Row
from suite.text.corpus import Document, Message, Position
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer

Sides = tuple[OpenedTokenizer, OpenedTokenizer]

_QUESTION = (Message("user", "What is 1 + 2?"), Message("assistant", "It is 3."))
CHATS = (
    _QUESTION,
    (*_QUESTION, Message("user", "And then?"), Message("assistant", "Nothing.\n\nNo.")),
)

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
CONFIGS = st.builds(
    PackConfig,
    length=st.integers(2, 16),
    max_bytes=st.one_of(st.none(), st.integers(1, 40)),
    packing=st.sampled_from(["isolated", "concatenated", "none"]),
)


def texts_of(texts: Sequence[str], prompt_chars: int = 0) -> list[Document]:
    return [
        Document(number, text=text, prompt_bytes=len(text[:prompt_chars].encode()))
        for number, text in enumerate(texts)
    ]


def chats_of(*chats: tuple[Message, ...]) -> list[Document]:
    return [Document(number, messages=chat) for number, chat in enumerate(chats)]


def aligned(
    documents: Sequence[Document], sides: Sides, more_teachers: Sequence[OpenedTokenizer] = ()
) -> list[AlignedDocument]:
    """Documents as a teacher, a student and further teachers read them."""
    stream = [(Position(0, number + 1), item) for number, item in enumerate(documents)]
    return list(DocumentReader(*sides, more_teachers).read(stream))


def packed(
    documents: Sequence[Document],
    sides: Sides,
    config: PackConfig,
    more_teachers: Sequence[OpenedTokenizer] = (),
) -> list[Row]:
    read = aligned(documents, sides, more_teachers)
    return list(pack_rows(read, *sides, config, more_teachers=more_teachers))


def without_begin(family: str) -> OpenedTokenizer:
    """One that puts no begin token before a text."""
    return replace(opened(family), begin_id=None)


def named(names: Sequence[str], template: str, *, marked: bool = False) -> OpenedTokenizer:
    """A tokenizer with a chat template and special tokens of its own: begin, end and others."""
    tokenizer = marked_bpe() if marked else byte_level_bpe()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    hf = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=template, bos_token=names[0], eos_token=names[1]
    )
    return open_tokenizer(hf, name=names[0])


def chunks_of(row: Row) -> list[tuple]:
    """Of each chunk: teacher span, student span, bytes, is it begin tokens, in a completion."""
    columns = row.chunks
    spans = (columns.teacher_spans.tolist(), columns.student_spans.tolist())
    teacher, student = ([tuple(span) for span in side] for side in spans)
    rest = (columns.num_bytes, columns.is_begin, columns.in_completion)
    return list(zip(teacher, student, *(column.tolist() for column in rest), strict=True))
