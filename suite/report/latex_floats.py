"""How much of a table fits on one page of LaTeX, whose floats cannot break across pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import ceil

# Points, in LaTeX's standard article at 10 pt: a page has 550, of which a caption takes a part.
MAX_HEIGHT = 500
LINE = 12
SPACE = 5
# A line of a description in scriptsize, and of notes in footnotesize with its characters.
SMALL_LINE = 8
NOTE_LINE = 10
NOTE_WIDTH = 78


@dataclass(frozen=True)
class ModelLines:
    """A model's name and scores, and below them in small type its weights and differences.

    `small` is empty where there is nothing to print below; `height` is in points.
    """

    name: str
    scores: tuple[str, ...]
    small: tuple[str, ...]
    height: int


@dataclass(frozen=True)
class Panel:
    """One block of columns: its headings, the small lines below them, and the models by section."""

    headings: tuple[str, ...]
    details: tuple[tuple[str, ...], ...]
    blocks: tuple[tuple[str, tuple[ModelLines, ...]], ...]

    @property
    def height(self) -> int:
        """Points, as if nothing were shrunk."""
        rows = sum(row.height for _, rows in self.blocks for row in rows)
        sections = sum(LINE + 3 * SPACE for _ in self.blocks)
        return LINE * (1 + len(self.details)) + 3 * SPACE + sections + rows


def floats(panels: Sequence[Panel]) -> list[list[Panel]]:
    """The panels on as many pages as they need; one that is longer than a page is cut by rows."""
    pages: list[list[Panel]] = []
    room = 0
    for panel in panels:
        for part in _parts(panel):
            if part.height > room:
                pages.append([])
                room = MAX_HEIGHT
            pages[-1].append(part)
            room -= part.height + SPACE
    return pages


def notes_height(notes: Sequence[str]) -> int:
    """Points that notes below a table take."""
    return sum(NOTE_LINE * ceil(len(note) / NOTE_WIDTH) for note in notes)


def _parts(panel: Panel) -> list[Panel]:
    if panel.height <= MAX_HEIGHT:
        return [panel]
    # About as many rows on each page, so that none has only the last two.
    body = sum(row.height for _, rows in panel.blocks for row in rows)
    head = panel.height - body
    num = ceil(body / max(LINE, MAX_HEIGHT - head))
    limit = min(MAX_HEIGHT, head + ceil(body / num) + LINE)
    parts: list[Panel] = []
    held: list[tuple[str, ModelLines]] = []
    for row in ((section, row) for section, rows in panel.blocks for row in rows):
        longer = _with_rows(panel, [*held, row])
        if held and longer.height > limit:
            parts.append(_with_rows(panel, held))
            held = []
        held.append(row)
    return [*parts, _with_rows(panel, held)]


def _with_rows(panel: Panel, rows: Sequence[tuple[str, ModelLines]]) -> Panel:
    found = groupby(rows, key=lambda row: row[0])
    return replace(
        panel,
        blocks=tuple((section, tuple(row for _, row in inside)) for section, inside in found),
    )
