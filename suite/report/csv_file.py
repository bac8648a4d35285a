"""A table as CSV in long format: one line for each model and task, values unrounded."""

from __future__ import annotations

import csv
import io

from suite.records import Cell, Column, ModelRow, Table

HEADER = (
    "model",
    "weights",
    "task",
    "label",
    "metric",
    "filter",
    "value",
    "stderr",
    "delta",
    "n",
    "shots",
    "version",
    "truncated",
    "note",
)


def render_csv(table: Table) -> str:
    """All cells in table order; what is not known is an empty field."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            writer.writerow(_fields(row.model, column, cell))
    return buffer.getvalue()


def _fields(model: ModelRow, column: Column, cell: Cell) -> tuple[str, ...]:
    return (
        model.name,
        model.weights,
        column.task,
        column.label,
        column.metric,
        column.filter,
        _exact(cell.value),
        _exact(cell.stderr),
        _exact(cell.delta),
        _count(column.num_items),
        _count(column.num_fewshot),
        column.version,
        _count(cell.num_truncated),
        cell.note or "",
    )


def _exact(value: float | None) -> str:
    """`repr` gives the shortest text that reads back as the same float."""
    return "" if value is None else repr(float(value))


def _count(value: int | None) -> str:
    return "" if value is None else str(value)
