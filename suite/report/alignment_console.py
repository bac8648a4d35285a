"""Two aligned token rows for the terminal: chunk by chunk, the teacher above the student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from suite.report.alignment_record import (
    AlignmentView,
    Segment,
    TokenView,
    columns,
    counted,
    is_right_to_left,
    size_line,
    visible,
)
from suite.report.formatting import one_line

TEACHER_LABEL, STUDENT_LABEL, NO_LABEL = "T  ", "S  ", "   "
TOKEN_BAR = "│"
CHUNK_BAR = " ┃ "
BAR_STYLE = "dim"
CHUNK_STYLES = ("cyan", "magenta")
SPECIAL_STYLE = "dim underline"
OUTSIDE_STYLE = "bold red"
OUTSIDE_MARK = "✗"
LEGEND = "· space  → tab  ⏎ newline  │ between tokens  ┃ between chunks  ✗ in no chunk"
# Narrower terminals get lines that are too long rather than one character a line.
MIN_WIDTH = 8
FIRST_STRONG_ISOLATE, POP_ISOLATE = "\u2068", "\u2069"
WITHOUT_ISOLATES = str.maketrans("", "", FIRST_STRONG_ISOLATE + POP_ISOLATE)


@dataclass(frozen=True)
class Column:
    """A segment of each row, as the lines it needs; one line each but for overlong chunks."""

    teacher: tuple[Text, ...]
    student: tuple[Text, ...]
    ends_line: bool

    @property
    def width(self) -> int:
        """Cells of the longest line."""
        return max(_cells(line) for line in (*self.teacher, *self.student))

    @property
    def is_wrapped(self) -> bool:
        """Whether the column needs lines of its own."""
        return max(len(self.teacher), len(self.student)) > 1


def print_alignment(view: AlignmentView, console: Console) -> None:
    """Print both rows, the coverage report and the warnings, within the console's width.

    Nothing of a text reaches the terminal unescaped (see `visible`). Right-to-left text is put
    between direction isolates; a terminal that reorders such text but does not know isolates shows
    its columns in another order, and Indic vowel signs are as wide as the terminal decides.
    """
    note = size_line(view)
    for label, name, tokens in (
        (TEACHER_LABEL, view.teacher_name, view.teacher_tokens),
        (STUDENT_LABEL, view.student_name, view.student_tokens),
    ):
        size = counted(len(tokens), "token") + " shown" * bool(note)
        console.print(Text(f"{label}{one_line(name)}, {size}"))
    console.print()
    width = max(console.width - cell_len(NO_LABEL), MIN_WIDTH)
    for band in _bands(_columns(view, width), width):
        for line in _lines(band):
            console.print(line, no_wrap=True, overflow="ignore", crop=False)
        console.print()
    if view.teacher_tokens or view.student_tokens:
        console.print(Text(LEGEND, style=BAR_STYLE))
    if note:
        console.print(Text(note))
    console.print()
    console.print(_facts(view.facts))
    for warning in view.warnings:
        console.print(Text(f"warning: {one_line(warning)}", style="yellow"))


def _facts(facts: Sequence[tuple[str, str]]) -> Grid:
    grid = Grid.grid(padding=(0, 2))
    for label, value in facts:
        grid.add_row(Text(one_line(label), style=BAR_STYLE), Text(one_line(value)))
    return grid


def _columns(view: AlignmentView, width: int) -> Iterator[Column]:
    for pair in columns(view.teacher_tokens, view.student_tokens):
        teacher, student = (_side(segment, width) for segment in pair)
        ends_line = any(segment is not None and segment.ends_line for segment in pair)
        yield Column(teacher, student, ends_line)


def _side(segment: Segment | None, width: int) -> tuple[Text, ...]:
    """A segment's tokens with bars between them, in lines of at most `width` cells."""
    if segment is None:
        return (Text(),)
    lines = [Text()]
    for index, token in enumerate(segment.tokens):
        if index:
            lines[-1].append(TOKEN_BAR, style=BAR_STYLE)
        style = _style(token)
        # A cell is left for the bar after the token.
        for piece in chop_cells(_label(token), width - 1):
            if _cells(lines[-1]) + cell_len(piece) >= width:
                lines.append(Text())
            lines[-1].append(_isolated(piece), style=style)
    return tuple(lines)


def _label(token: TokenView) -> str:
    role = "" if token.role is None else f"({token.role})"
    return (OUTSIDE_MARK if token.chunk is None else "") + visible(token.text) + role


def _style(token: TokenView) -> str:
    if token.chunk is None:
        return OUTSIDE_STYLE if token.role is None else f"{OUTSIDE_STYLE} underline"
    colour = CHUNK_STYLES[token.chunk % len(CHUNK_STYLES)]
    return colour if token.role is None else f"{colour} {SPECIAL_STYLE}"


def _isolated(piece: str) -> str:
    """Keeps right-to-left text from reordering the columns beside it."""
    return f"{FIRST_STRONG_ISOLATE}{piece}{POP_ISOLATE}" if is_right_to_left(piece) else piece


def _cells(line: Text) -> int:
    """Cells of a line. Isolates take none, but rich may count them."""
    return cell_len(line.plain.translate(WITHOUT_ISOLATES))


def _bands(cells: Iterator[Column], width: int) -> Iterator[list[Column]]:
    """Columns that fit side by side; a new band begins where the text begins a new line."""
    band: list[Column] = []
    used = 0
    for column in cells:
        needed = column.width + (cell_len(CHUNK_BAR) if band else 0)
        if band and (column.is_wrapped or used + needed > width):
            yield band
            band, used, needed = [], 0, column.width
        band.append(column)
        used += needed
        if column.is_wrapped or column.ends_line:
            yield band
            band, used = [], 0
    if band:
        yield band


def _lines(band: Sequence[Column]) -> Iterator[Text]:
    """A band's lines: one a row, or all those of an overlong chunk."""
    if band[0].is_wrapped:
        sides = ((TEACHER_LABEL, band[0].teacher), (STUDENT_LABEL, band[0].student))
        for label, lines in sides:
            for index, line in enumerate(lines):
                yield _labelled(NO_LABEL if index else label, line)
        return
    yield _labelled(TEACHER_LABEL, _joined([(c.teacher[0], c.width) for c in band]))
    yield _labelled(STUDENT_LABEL, _joined([(c.student[0], c.width) for c in band]))


def _joined(cells: Sequence[tuple[Text, int]]) -> Text:
    line = Text()
    for index, (cell, width) in enumerate(cells):
        line.append(CHUNK_BAR if index else "", style=BAR_STYLE)
        line.append_text(cell).append(" " * (width - _cells(cell)))
    return line


def _labelled(label: str, line: Text) -> Text:
    # Not by `+`: the label's style would become that of the whole line.
    whole = Text().append(label, style=BAR_STYLE).append_text(line)
    whole.rstrip()
    return whole
