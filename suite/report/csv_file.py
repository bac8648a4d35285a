"""A table as CSV in long format: one line for each row and task, and its average, unrounded."""

from __future__ import annotations

import csv
import io

from suite.records import Cell, Column, Evidence, Row, Table
from suite.report.formatting import average_cell

HEADER = (
    "section",
    "kind",
    "model",
    "weights",
    "task",
    "label",
    "metric",
    "filter",
    "value",
    "stderr",
    "low",
    "high",
    "level",
    "interval",
    "delta",
    "delta_low",
    "delta_high",
    "test",
    "paired",
    "p",
    "p_adjusted",
    "mde",
    "mde_alpha",
    "rank",
    "significant",
    "n",
    "shots",
    "version",
    "protocol",
    "truncated",
    "note",
)


def render_csv(table: Table) -> str:
    """All cells in table order, each row's average last; what is not known is an empty field.

    `low` and `high` are the limits of `value` at `level`; `delta` and all that follows it up to
    `mde_alpha` is the difference from the reference row and its test: the smallest true difference
    found with 80 % power at the level `mde_alpha`, empty where a difference was found.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, HEADER, restval="", lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            writer.writerow(_fields(row, column, cell))
        if table.average_columns:
            writer.writerow(_average_fields(row))
    return buffer.getvalue()


def _fields(row: Row, column: Column, cell: Cell) -> dict[str, str]:
    return _row_fields(row) | {
        "task": column.task,
        "label": column.label,
        "metric": column.metric,
        "filter": column.filter,
        "value": exact(cell.value),
        "stderr": exact(cell.stderr),
        **_evidence_fields(cell.evidence, cell.delta),
        "n": _count(column.num_items),
        "shots": _count(column.num_fewshot),
        "version": column.version,
        "protocol": column.protocol,
        "truncated": _count(cell.num_truncated),
        "note": cell.note or "",
    }


def _average_fields(row: Row) -> dict[str, str]:
    """The average as a line without a task, which tells it from a task labelled `average`."""
    return _row_fields(row) | {
        "label": "average",
        "metric": "mean",
        "value": exact(row.average),
        "note": average_cell(row).note or "",
        **_evidence_fields(row.average_evidence, row.average_delta),
    }


def _row_fields(row: Row) -> dict[str, str]:
    return {
        "section": row.model.section,
        "kind": row.kind,
        "model": row.model.name,
        "weights": row.model.weights,
    }


def _evidence_fields(evidence: Evidence | None, delta: float | None) -> dict[str, str]:
    """Interval, difference and rank; a difference without items has only its value."""
    found = {"delta": exact(delta)}
    if evidence is None:
        return found
    if (estimate := evidence.estimate) is not None:
        found |= {
            "low": exact(estimate.low),
            "high": exact(estimate.high),
            "level": exact(estimate.level),
            "interval": estimate.method if estimate.low is not None else "",
        }
    if (versus := evidence.versus_reference) is not None:
        found |= {
            "delta": exact(versus.difference.value),
            "delta_low": exact(versus.difference.low),
            "delta_high": exact(versus.difference.high),
            "test": versus.test,
            "paired": str(versus.paired).lower(),
            "p": exact(versus.p_value),
            "p_adjusted": exact(versus.p_adjusted),
            "mde": exact(versus.mde),
            "mde_alpha": exact(versus.mde_alpha),
            "significant": str(evidence.is_significant).lower(),
        }
    return found | {"rank": evidence.rank or ""}


def exact(value: float | None) -> str:
    """`repr` gives the shortest text that reads back as the same float."""
    return "" if value is None else repr(float(value))


def _count(value: int | None) -> str:
    return "" if value is None else str(value)
