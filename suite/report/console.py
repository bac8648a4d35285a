"""A table for the terminal, and the same as an SVG picture."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table as Grid
from rich.text import Text

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
    size_text,
)
from suite.report.notes import footnotes, legend, marks, provenance_lines
from suite.report.sections import blocks

# Wider than any table, to measure one without wrapping.
UNLIMITED = 10_000
# Weights are described in words, which may wrap; names may not.
WEIGHTS_WIDTH = 22


def console_table(table: Table, width: int) -> RenderableType:
    """The table with legend, notes and provenance for a terminal of `width` characters.

    Models are rows as in the files; columns that do not fit follow in further blocks below.
    """
    numbered = footnotes(table)
    below = [" ".join(legend(table)), *(f"[{i}] {note}" for i, note in enumerate(numbered, 1))]
    below += [*table.notes, *provenance_lines(table)]
    texts = [Text(one_line(line), style="dim") for line in below if line]
    title = Text(one_line(table.title), style="bold")
    return Group(title, *_grids(table, numbered, width), *texts)


def console_svg(table: Table, width: int = 110) -> str:
    """A picture of a table's terminal output."""
    return svg_of(console_table(table, width), width)


def svg_of(content: RenderableType, width: int = 110) -> str:
    """A picture of terminal output, without rich's links to fonts on a server."""
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
    console.print(content)
    # A fixed id, so that equal tables give equal files.
    svg = console.export_svg(title="suite", unique_id="table")
    style, end, body = svg.partition("</style>")
    style = re.sub(r"@font-face \{.*?\}\s*", "", style, flags=re.DOTALL)
    return style.replace("Fira Code", "ui-monospace") + end + body.replace("Fira Code", "monospace")


def _grids(table: Table, numbered: tuple[str, ...], width: int) -> list[Grid]:
    """The columns in as few grids as the width allows, at least one column in each."""
    rest = list(range(len(table.columns) + bool(table.average_columns)))
    grids = []
    while rest:
        count = len(rest)
        while count > 1 and _width(_grid(table, rest[:count], numbered)) > width:
            count -= 1
        grids.append(_grid(table, rest[:count], numbered))
        rest = rest[count:]
    return grids


def _width(grid: Grid) -> int:
    """The characters a grid needs when nothing is wrapped."""
    console = Console(width=UNLIMITED, file=io.StringIO())
    return Measurement.get(console, console.options, grid).maximum


def _grid(table: Table, indices: Sequence[int], numbered: tuple[str, ...]) -> Grid:
    """The models with the columns at `indices`; the index after the last is the average's."""
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, leading=1)
    grid.add_column(_stacked(["Model", "weights"]))
    for index in indices:
        is_task = index < len(table.columns)
        lines = _header(table.columns[index]) if is_task else ["Average", "%"]
        grid.add_column(_stacked(lines), justify="right")
    for section, rows in blocks(table):
        if section:
            grid.add_row(Text(one_line(section), style="italic"))
        for row in rows:
            texts = [
                _cell(row.cells[index], table.columns[index], row.kind, numbered)
                if index < len(table.columns)
                else _cell(average_cell(row), AVERAGE, row.kind, numbered)
                for index in indices
            ]
            grid.add_row(_stacked(_model(row)), *texts)
    return grid


def _header(column: Column) -> list[str]:
    lines = (line(column) for line in (heading, metric_text, filter_text, size_text))
    return [one_line(line) for line in lines if line]


def _model(row: Row) -> list[str]:
    weights = textwrap.wrap(one_line(row.model.weights), WEIGHTS_WIDTH)
    return [one_line(row.model.name), *["reference"] * row.model.is_reference, *weights]


def _stacked(lines: Sequence[str], style: str = "") -> Text:
    """Lines of one cell, all but the first dim. Text, not str: names may look like markup."""
    first, *others = lines
    text = Text().append(first, style=style)
    return text.append("".join(f"\n{line}" for line in others), style="dim")


def _cell(cell: Cell, column: Column, kind: RowKind, numbered: tuple[str, ...]) -> Text:
    """The number with its error beside it, or its interval below, and the difference below."""
    numbers = ",".join(str(number) for number in marks(cell, numbered))
    error = format_error(cell, column, kind)
    is_wide = error.startswith("[")
    parts = (
        format_value(cell, column, kind) + dagger(cell),
        "" if is_wide else error,
        f"[{numbers}]" if numbers else "",
    )
    delta = format_delta(cell.delta, percent=column.unit_interval)
    style = {"best": "bold", "second": "underline", None: ""}[rank_of(cell)]
    below = [text for text in (error if is_wide else "", delta) if text]
    return _stacked([" ".join(part for part in parts if part), *below], style)
