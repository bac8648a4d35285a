"""A table as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

from suite.records import Cell, Column, ModelRow, Row, Table
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
from suite.report.notes import footnotes, legend, marks
from suite.report.sections import blocks


def render_markdown(table: Table) -> str:
    """The table with models as rows, then legend, footnotes, notes and provenance."""
    numbered = footnotes(table)
    lines = [f"# {escape_markdown(table.title)}", "", *_table_lines(table, numbered)]
    lines += ["", escape_markdown(" ".join(legend(table)))] if legend(table) else []
    if numbered:
        lines += ["", *(f"{i}. {escape_markdown(note)}" for i, note in enumerate(numbered, 1))]
    if table.notes:
        lines += ["", *(f"- {escape_markdown(note)}" for note in table.notes)]
    if table.provenance:
        lines += ["", "## Provenance", ""]
        lines += [
            f"- {escape_markdown(name)}: {escape_markdown(text)}"
            for name, text in table.provenance.items()
        ]
    return "\n".join(lines) + "\n"


def escape_markdown(text: str) -> str:
    """Text that Markdown shows literally and that stays inside one table cell."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~$])", r"\\\1", text)
    # An underscore inside a word is literal in GitHub's Markdown; task names stay readable.
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
    # At the start of an item these would begin a list or a heading.
    text = re.sub(r"^([-+#])", r"\\\1", text)
    return re.sub(r"^(\d+)([.)])(?= |$)", r"\1\\\2", text)


def _table_lines(table: Table, numbered: tuple[str, ...]) -> list[str]:
    header = ["Model", "Weights"]
    for column in table.columns:
        parts = [line(column) for line in (heading, metric_text, filter_text, size_text)]
        header.append("<br>".join(escape_markdown(part) for part in parts if part))
    header += ["Average<br>%"] if table.average_columns else []
    ruler = ["---", "---"] + ["---:"] * (len(header) - 2)
    lines = [_line(header), _line(ruler)]
    for section, rows in blocks(table):
        empty = [""] * (len(header) - 1)
        lines += [_line([f"*{escape_markdown(section)}*", *empty])] if section else []
        lines += [_line(_row(table, row, numbered)) for row in rows]
    return lines


def _row(table: Table, row: Row, numbered: tuple[str, ...]) -> list[str]:
    texts = [_model(row.model), escape_markdown(row.model.weights)]
    cells = list(zip(table.columns, row.cells, strict=True))
    cells += [(AVERAGE, average_cell(row))] if table.average_columns else []
    for column, cell in cells:
        mark = ", ".join(str(number) for number in marks(cell, numbered))
        texts.append(_cell(cell, column, row.kind) + (f" <sup>{mark}</sup>" if mark else ""))
    return texts


def _cell(cell: Cell, column: Column, kind: RowKind) -> str:
    """One cell on one line: `**45.3**† <sub>±1.2</sub> (+0.7)`, or a dash."""
    start, end = {"best": ("**", "**"), "second": ("<ins>", "</ins>"), None: ("", "")}[
        rank_of(cell)
    ]
    error = format_error(cell, column, kind)
    if cell.evidence and error:
        error = f"<sub>{error}</sub>"
    delta = format_delta(cell.delta, percent=column.unit_interval)
    parts = [
        f"{start}{format_value(cell, column, kind)}{end}{dagger(cell)}",
        error,
        f"({delta})" if delta else "",
    ]
    return " ".join(part for part in parts if part)


def _model(model: ModelRow) -> str:
    name = escape_markdown(model.name)
    return f"{name} (reference)" if model.is_reference else name


def _line(texts: list[str]) -> str:
    return "| " + " | ".join(texts) + " |"
