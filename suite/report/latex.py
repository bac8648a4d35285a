"""A table as a LaTeX `table` environment in the style of papers (booktabs, small errors)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import zip_longest
from math import ceil

from jinja2 import Environment, PackageLoader, StrictUndefined

from suite.records import Cell, Column, Row, Table
from suite.report.formatting import (
    AVERAGE,
    RowKind,
    average_cell,
    dagger,
    filter_text,
    format_delta,
    format_error,
    format_value,
    heading,
    metric_text,
    one_line,
    rank_of,
    shows_stderr,
    size_text,
)
from suite.report.latex_floats import (
    LINE,
    MAX_HEIGHT,
    SMALL_LINE,
    SPACE,
    ModelLines,
    Panel,
    floats,
    notes_height,
)
from suite.report.notes import footnotes, legend, marks, provenance_lines
from suite.report.sections import blocks

# More columns than this would be shrunk below what can be read in a text column, so they go into
# further panels below the first.
COLUMNS_PER_PANEL = 6
# Longer descriptions of weights are broken into lines.
MAX_WEIGHTS_LENGTH = 44
# Characters of notes on tests that still fit below a table on its page.
MAX_NOTES_LENGTH = 900

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
    "†": r"\dag{}",
    "Δ": r"$\Delta$",
    "▲": r"$\bigtriangleup$",
    "▼": r"$\bigtriangledown$",
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


def render_latex(table: Table) -> str:
    """A `table` environment to include in a paper; its first line names the packages it needs."""
    numbered = footnotes(table)
    provenance = " · ".join(provenance_lines(table))
    legends = " ".join(legend(table))
    pages = floats(_panels(table, numbered))
    room = MAX_HEIGHT - sum(panel.height for panel in pages[-1]) - LINE
    length = sum(map(len, (*numbered, *table.notes)))
    template = environment().get_template("table.tex.j2")
    return template.render(
        caption=escape_latex(table.title),
        name=re.sub(r"[^a-z0-9]+", "-", table.title.lower()).strip("-"),
        pages=pages,
        legend=escape_latex(legends, breakable=True),
        legend_follows=notes_height([legends, *numbered]) > room,
        footnotes=[escape_latex(note, breakable=True) for note in numbered],
        notes=[escape_latex(note, breakable=True) for note in table.notes],
        notes_follow=notes_height([legends, *numbered, *table.notes, provenance]) > room
        or (
            any(row.average_evidence or _has_evidence(row) for row in table.rows)
            and length > MAX_NOTES_LENGTH
        ),
        provenance=escape_latex(provenance, breakable=True),
    )


def _has_evidence(row: Row) -> bool:
    return any(cell.evidence for cell in row.cells)


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


def environment() -> Environment:
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
        blocks=tuple(
            (
                escape_latex(section),
                tuple(_model_lines(table, row, indices, numbered) for row in rows),
            )
            for section, rows in blocks(table)
        ),
    )


def _model_lines(
    table: Table, row: Row, indices: Sequence[int], numbered: tuple[str, ...]
) -> ModelLines:
    scores, deltas = [], []
    for index in indices:
        is_task = index < len(table.columns)
        column = table.columns[index] if is_task else AVERAGE
        cell = row.cells[index] if is_task else average_cell(row)
        # An interval is wide, so it stands below; a standard error fits beside its score.
        is_wide = not shows_stderr(cell, row.kind)
        error = _error(cell, column, row.kind)
        scores.append(_score(cell, column, row.kind, "" if is_wide else error, numbered))
        delta = escape_latex(format_delta(cell.delta, percent=column.unit_interval))
        below = (error if is_wide else "", delta.replace("+", "$+$", 1))
        deltas.append(" ".join(text for text in below if text))
    described = (row.model.weights, "reference" if row.model.is_reference else "")
    weights = ", ".join(text for text in described if text)
    small = (_wrapped(weights), *deltas)
    num_lines = ceil(len(weights) / MAX_WEIGHTS_LENGTH)
    small_height = max(LINE, SMALL_LINE * num_lines) + SPACE if any(small) else 0
    return ModelLines(
        name=escape_latex(row.model.name),
        scores=tuple(scores),
        small=small if any(small) else (),
        height=LINE + small_height,
    )


def _wrapped(text: str) -> str:
    """A description in lines of its own where it would make the first column too wide."""
    if len(text) <= MAX_WEIGHTS_LENGTH:
        return escape_latex(text)
    return rf"\parbox[t]{{22em}}{{\raggedright {escape_latex(text, breakable=True)}\strut}}"


def _score(cell: Cell, column: Column, kind: RowKind, error: str, numbered: tuple[str, ...]) -> str:
    text = escape_latex(format_value(cell, column, kind))
    text = text.replace("+", "$+$", 1) if kind == "delta" else text
    command = {"best": r"\textbf", "second": r"\underline", None: ""}[rank_of(cell)]
    text = f"{command}{{{text}}}" if command else text
    text += rf"\,{{\scriptsize {error}}}" if error else ""
    signs = [r"\dag"] * bool(dagger(cell)) + [str(number) for number in marks(cell, numbered)]
    return text + (rf"\textsuperscript{{{','.join(signs)}}}" if signs else "")


def _error(cell: Cell, column: Column, kind: RowKind) -> str:
    text = escape_latex(format_error(cell, column, kind))
    return text.replace("+", "$+$")
