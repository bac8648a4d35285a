"""What a view of two aligned token rows shows, and how text is made visible in it."""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

MARKS = {" ": "·", "\t": "→", "\n": "⏎"}
# Where a line of text ends; a run of newlines ends one line, so that no line is empty.
LINE_END = re.compile(r"(?<=\n)(?=[^\n])")


@dataclass(frozen=True, slots=True)
class TokenView:
    """One token of a row.

    Attributes:
        id: Its number in the vocabulary.
        text: Its bytes as text, bytes that are no UTF-8 as `<0xNN>`; a special token's string.
        role: What a special token is for, None for a regular one.
        chunk: Index of its chunk, None where the token belongs to none.
    """

    id: int
    text: str
    role: str | None
    chunk: int | None


@dataclass(frozen=True, slots=True)
class ChunkView:
    """A piece of text at whose two ends both tokenizers have a boundary."""

    text: str
    num_teacher: int
    num_student: int
    num_bytes: int
    is_special: bool


@dataclass(frozen=True)
class AlignmentView:
    """Both rows of a text, or of its beginning, with the chunks between them.

    A row holds the chunks in order, the tokens of one next to each other: only tokens that belong
    to no chunk may lie between them. Every chunk has tokens in both rows.

    Attributes:
        teacher_name: Where the teacher's tokenizer comes from.
        student_name: Where the student's tokenizer comes from.
        teacher_tokens: The teacher's row.
        student_tokens: The student's row.
        chunks: What a token's `chunk` counts.
        facts: The coverage report, label and value, ready to print.
        warnings: Sentences about the alignment.
        num_bytes: Bytes of the whole text.
        num_bytes_shown: Bytes of the beginning that the rows cover.
    """

    teacher_name: str
    student_name: str
    teacher_tokens: tuple[TokenView, ...]
    student_tokens: tuple[TokenView, ...]
    chunks: tuple[ChunkView, ...]
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    num_bytes: int
    num_bytes_shown: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A chunk's tokens in one row, or one token outside all chunks (`chunk` is None).

    `ends_line` is True where the text goes on in a new line.
    """

    chunk: int | None
    tokens: tuple[TokenView, ...]
    ends_line: bool


def segments(tokens: Sequence[TokenView]) -> Iterator[Segment]:
    """The parts of a row. A token without a chunk inside a chunk stays in that chunk's segment."""
    last = {token.chunk: index for index, token in enumerate(tokens)}
    start = 0
    while start < len(tokens):
        chunk = tokens[start].chunk
        stop = start + 1 if chunk is None else last[chunk] + 1
        yield Segment(chunk, tuple(tokens[start:stop]), ends_line(tokens, stop - 1))
        start = stop


def columns(
    teacher: Sequence[TokenView], student: Sequence[TokenView]
) -> Iterator[tuple[Segment | None, Segment | None]]:
    """Both rows in one order: a chunk's two segments together, a token without a chunk alone."""
    rest = deque(segments(student))
    for segment in segments(teacher):
        if segment.chunk is None:
            yield segment, None
            continue
        while rest[0].chunk is None:
            yield None, rest.popleft()
        yield segment, rest.popleft()
    yield from ((None, segment) for segment in rest)


def ends_line(tokens: Sequence[TokenView], index: int) -> bool:
    """Whether the text goes on in a new line after the token at `index`."""
    following = tokens[index + 1].text if index + 1 < len(tokens) else ""
    return tokens[index].text.endswith("\n") and not following.startswith("\n")


@lru_cache(maxsize=4096)
def visible(text: str) -> str:
    r"""Text in which every character can be seen and none acts on what shows it.

    Spaces are `·`, tabs `→`, newlines `⏎`. Characters that have no look of their own (control
    characters, direction controls, joiners, variation selectors, emoji modifiers, unassigned ones)
    are escaped as in Python: `\x1b`, `\u200d`. A combining mark that begins a token stands on
    `◌`, so that it does not join what is printed before it; text without a character is `∅`.
    """
    shown = "".join(map(_visible_character, text)) or "∅"
    return f"◌{shown}" if unicodedata.category(shown[0]).startswith("M") else shown


def is_right_to_left(text: str) -> bool:
    """Whether some character of the text runs from right to left."""
    return any(unicodedata.bidirectional(character) in {"R", "AL", "AN"} for character in text)


def counted(num: int, noun: str) -> str:
    """`1 token`, `1,204 tokens`."""
    return f"{num:,} {noun}{'' if num == 1 else 's'}"


def size_line(view: AlignmentView) -> str:
    """How much of the text is shown, nothing where all of it is."""
    if view.num_bytes_shown == view.num_bytes:
        return ""
    of_all = counted(view.num_bytes, "byte")
    return f"Only the first {view.num_bytes_shown:,} of {of_all} are shown."


def _visible_character(character: str) -> str:
    if character in MARKS:
        return MARKS[character]
    if character.isprintable() and not _changes_the_one_before(character):
        return character
    return character.encode("unicode_escape").decode()


def _changes_the_one_before(character: str) -> bool:
    """Variation selectors and emoji modifiers: terminals disagree on the width of the pair."""
    return (
        "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
        or "\U0001f3fb" <= character <= "\U0001f3ff"
    )
