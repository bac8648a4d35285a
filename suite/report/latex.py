"""A table as a LaTeX `table` environment in the style of papers (booktabs, small errors)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import ceil

from jinja2 import Environment, PackageLoader, StrictUndefined

from suite.records import Cell, Column, Row, Table
from suite.report.formatting import (
    filter_text,
    format_delta,
    format_score,
    format_stderr,
    heading,
    metric_text,
    one_line,
    size_text,
)
from suite.report.notes import footnotes, legend, marks, provenance_lines

# More columns than this would be shrunk below what can be read in a text column, so they go into
# further panels below the first.
COLUMNS_PER_PANEL = 6

ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "#": r"\#",
    "$": r"\$",
    "%": r"\%",
    "&": r"\&",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    # At the start of a row a bracket would be read as an option of the command before it.
    "[": "{[}",
    "]": "{]}",
    # LaTeX's default font prints other characters in the place of these three.
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "°": r"$^\circ$",
    "µ": r"$\mu$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "≈": r"$\approx$",
    "∞": r"$\infty$",
    "→": r"$\to$",
    "←": r"$\leftarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "‐": "-",
    "‑": "-",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
}

# The accented letters of Latin-1 except four that the default font encoding lacks.
PRINTABLE_LETTERS = frozenset(chr(code) for code in range(0xC0, 0x100)) - frozenset("ÐðÞþ×÷")


@dataclass(frozen=True)
class Panel:
    """One block of columns: its headings, the small lines below them, and the models."""

    headings: tuple[str, ...]
    details: tuple[tuple[str, ...], ...]
    models: tuple[ModelLines, ...]


@dataclass(frozen=True)
class ModelLines:
    """A model's name and scores, and below them in small type its weights and differences."""

    name: str
    weights: str
    scores: tuple[str, ...]
    deltas: tuple[str, ...]


def render_latex(table: Table) -> str:
    """A `table` environment to include in a paper; its first line names the packages it needs."""
    numbered = footnotes(table)
    template = _environment().get_template("table.tex.j2")
    return template.render(
        caption=escape_latex(table.title),
        name=re.sub(r"[^a-z0-9]+", "-", table.title.lower()).strip("-"),
        panels=_panels(table, numbered),
        legend=escape_latex(" ".join(legend(table)), breakable=True),
        footnotes=[escape_latex(note, breakable=True) for note in numbered],
        notes=[escape_latex(note, breakable=True) for note in table.notes],
        provenance=escape_latex(" · ".join(provenance_lines(table)), breakable=True),
    )


def standalone(tex: str) -> str:
    """A whole document around a rendered table, to look at it or to check that it compiles."""
    return (
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\usepackage{graphicx}\n"
        f"\\begin{{document}}\n{tex}\\end{{document}}\n"
    )


def escape_latex(text: str, *, breakable: bool = False) -> str:
    """Text that pdflatex prints literally, with `?` for a character it has no glyph for.

    `breakable` allows line breaks inside the long paths and names of notes.
    """
    line = unicodedata.normalize("NFC", one_line(text))
    escaped = "".join(_escape_character(character) for character in line)
    # Without the empty group two hyphens would print as one dash.
    escaped = re.sub(r"(?<=-)-", "{}-", escaped) if "--" in line else escaped
    return re.sub(r"(\\_|/)", r"\1\\allowbreak{}", escaped) if breakable else escaped


def _escape_character(character: str) -> str:
    if character in ESCAPES:
        return ESCAPES[character]
    if character.isascii() or character in PRINTABLE_LETTERS:
        return character
    greek = re.fullmatch(r"GREEK SMALL LETTER (\w+)", unicodedata.name(character, ""))
    if greek and greek[1] not in {"OMICRON", "FINAL"}:
        return f"$\\{greek[1].lower().replace('lamda', 'lambda')}$"
    # Letters with an accent the font lacks lose only the accent; a fraction would become a number.
    if not character.isalpha():
        return "?"
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(ESCAPES.get(part, part) for part in plain) or "?"


def _environment() -> Environment:
    """Templates with delimiters that do not collide with LaTeX's braces and comments."""
    return Environment(
        loader=PackageLoader("suite.report", "latex"),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        # HTML escaping would be wrong here; every value goes through escape_latex instead.
        autoescape=False,
    )


def _panels(table: Table, numbered: tuple[str, ...]) -> list[Panel]:
    """The columns in blocks of about equal width, the average in the last one."""
    total = len(table.columns) + bool(table.average_columns)
    num_panels = max(1, ceil(total / COLUMNS_PER_PANEL))
    width = max(1, ceil(total / num_panels))
    return [
        _panel(table, range(start, min(start + width, total)), numbered)
        for start in range(0, max(1, total), width)
    ]


def _panel(table: Table, indices: Sequence[int], numbered: tuple[str, ...]) -> Panel:
    columns = [table.columns[i] for i in indices if i < len(table.columns)]
    average = len(columns) < len(indices)
    stacks = [
        [line(column) for line in (metric_text, filter_text, size_text) if line(column)]
        for column in columns
    ] + [["%"]] * average
    details = zip_longest(*stacks, fillvalue="")
    return Panel(
        headings=tuple(
            [escape_latex(heading(column)) for column in columns] + ["Average"] * average
        ),
        details=tuple(tuple(escape_latex(text) for text in line) for line in details),
        models=tuple(_model_lines(table, row, indices, numbered) for row in table.rows),
    )


def _model_lines(
    table: Table, row: Row, indices: Sequence[int], numbered: tuple[str, ...]
) -> ModelLines:
    scores, deltas = [], []
    for index in indices:
        if index < len(table.columns):
            column, cell = table.columns[index], row.cells[index]
            scores.append(_score(cell, column, numbered))
            deltas.append(_delta(cell.delta, percent=column.unit_interval))
        else:
            scores.append(escape_latex(format_score(row.average, percent=True)))
            deltas.append(_delta(row.average_delta, percent=True))
    weights = f"{row.model.weights}, reference" if row.model.is_reference else row.model.weights
    return ModelLines(
        name=escape_latex(row.model.name),
        weights=escape_latex(weights),
        scores=tuple(scores),
        deltas=tuple(deltas),
    )


def _score(cell: Cell, column: Column, numbered: tuple[str, ...]) -> str:
    percent = column.unit_interval
    text = escape_latex(format_score(cell.value, percent=percent))
    if cell.stderr is not None:
        error = escape_latex(format_stderr(cell.stderr, percent=percent))
        text += rf"\,{{\scriptsize {error}}}"
    numbers = ",".join(str(number) for number in marks(cell, numbered))
    return text + (rf"\textsuperscript{{{numbers}}}" if numbers else "")


def _delta(delta: float | None, *, percent: bool) -> str:
    return escape_latex(format_delta(delta, percent=percent)).replace("+", "$+$", 1)
