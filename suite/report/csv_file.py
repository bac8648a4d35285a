"""A table as CSV in long format: one line for each model and task, and its average, unrounded."""

from __future__ import annotations

import csv
import io

from suite.records import Cell, Column, ModelRow, Row, Table

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
    """All cells in table order, each model's average last; what is not known is an empty field."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            writer.writerow(_fields(row.model, column, cell))
        if table.average_columns:
            writer.writerow(_average_fields(row))
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


def _average_fields(row: Row) -> tuple[str, ...]:
    """The average as a line without a task, which tells it from a task labelled `average`."""
    known = {
        "model": row.model.name,
        "weights": row.model.weights,
        "label": "average",
        "metric": "mean",
        "value": _exact(row.average),
        "delta": _exact(row.average_delta),
    }
    return tuple(known.get(name, "") for name in HEADER)


def _exact(value: float | None) -> str:
    """`repr` gives the shortest text that reads back as the same float."""
    return "" if value is None else repr(float(value))


def _count(value: int | None) -> str:
    return "" if value is None else str(value)
