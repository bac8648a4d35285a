"""Tables of differences: the reference row's scores, and what each other row adds or loses."""

from __future__ import annotations

from dataclasses import replace

from suite.records import Row, Table
from suite.report.evidence import TableEvidence
from suite.report.evidence_notes import brackets_note
from suite.report.paper_rows import delta_row, with_evidence
from suite.report.sections import by_section


def delta_table(table: Table, evidence: TableEvidence) -> Table:
    """The reference row first, then a row of differences from it for every other model."""
    versus = evidence.versus
    if versus is None:
        raise ValueError("a table of differences needs a reference row")
    scores = with_evidence(table, evidence, with_ranks=False)
    first = _without_ranks(next(row for row in scores.rows if row.model.is_reference))
    others = [
        delta_row(table, evidence, versus, row.model)
        for row in by_section(scores.rows)
        if not row.model.is_reference
    ]
    notes = brackets_note(others, table.columns, "delta", "a row of differences")
    return replace(scores, rows=(first, *others), notes=(*scores.notes, *notes))


def _without_ranks(row: Row) -> Row:
    """Beside differences nothing is best: the rows that it was better than are not shown."""
    cells = (
        replace(cell, evidence=cell.evidence and replace(cell.evidence, rank=None))
        for cell in row.cells
    )
    return replace(row, cells=tuple(cells))
