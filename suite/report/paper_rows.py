"""Tables in the style of papers: scores by section, then differences from the teacher."""

from __future__ import annotations

from dataclasses import replace

from suite.records import Cell, Evidence, ModelRow, Row, Table
from suite.report.average_evidence import compare_averages
from suite.report.evidence import TableEvidence, Versus, compare_with, is_significant
from suite.report.evidence_notes import (
    bootstrap_note,
    brackets_note,
    evidence_notes,
    versus_notes,
)
from suite.report.formatting import no_interval
from suite.report.recovered_cells import Roles as Roles
from suite.report.recovered_cells import gaps_of, recovered_cell
from suite.report.sections import by_section


def with_evidence(
    table: Table, evidence: TableEvidence, *, keep_deltas: bool = False, with_ranks: bool = True
) -> Table:
    """The table's own rows with what the items allow to say about each cell.

    Differences from the reference row move from the cells' `delta` into their evidence, unless
    `keep_deltas`: then they stay printed in the cells as well. `with_ranks` tells of the tests
    behind best and second.
    """
    rows = []
    for row in table.rows:
        name = row.model.name
        found = [evidence.cells.get((name, column.label)) for column in table.columns]
        cells = (
            replace(
                cell, evidence=one, note=_note(cell, one, evidence.versus, (name, column.label))
            )
            for cell, one, column in zip(row.cells, found, table.columns, strict=True)
        )
        kept = tuple(cell if keep_deltas else replace(cell, delta=None) for cell in cells)
        rows.append(
            replace(
                row,
                cells=kept,
                average_delta=row.average_delta if keep_deltas else None,
                average_evidence=None if row.average is None else evidence.averages.get(name),
            )
        )
    return replace(
        table,
        rows=tuple(rows),
        notes=(
            *evidence_notes(table, evidence, with_ranks=with_ranks),
            *bootstrap_note(rows, evidence.options.seed),
            *table.notes,
        ),
    )


def paper_table(table: Table, evidence: TableEvidence, roles: Roles) -> Table:
    """Score rows by section; below the transferred ones, what is left of the teacher.

    For each transferred row one of differences from the teacher, and one of the share recovered.
    """
    scores = with_evidence(table, evidence)
    sorted_rows = by_section(scores.rows)
    transferred = [row.model for row in sorted_rows if row.model.section == "transferred"]
    teacher = roles.teacher
    students = [model for model in transferred if model.name not in {teacher, roles.start}]
    if teacher is None or not students:
        return replace(scores, rows=sorted_rows)
    names = [model.name for model in students]
    versus = compare_with(teacher, names, evidence.columns)
    gaps = gaps_of(roles, evidence.columns)
    below = [
        row
        for model in students
        for row in (
            delta_row(table, evidence, versus, model, below=f"Δ to {teacher}"),
            _recovered_row(table, evidence, model, roles, gaps),
        )
    ]
    last = max(i for i, row in enumerate(sorted_rows) if row.model.section == "transferred")
    rows = (*sorted_rows[: last + 1], *below, *sorted_rows[last + 1 :])
    notes = [
        *brackets_note(below, table.columns, "delta", f"a row of Δ to {teacher}"),
        _about_recovered(roles, gaps),
        *brackets_note(below, table.columns, "recovered", f"a row of % of {teacher} recovered"),
    ]
    if evidence.versus is None or evidence.versus.base != teacher:
        claim = f"† in a row of Δ to {teacher}: differs from it"
        notes = [*versus_notes(table.columns, versus, evidence.options.level, claim=claim), *notes]
    seed = evidence.options.seed
    notes += [note for note in bootstrap_note(rows, seed) if note not in scores.notes]
    return replace(scores, rows=rows, notes=(*scores.notes, *notes))


def delta_row(
    table: Table, evidence: TableEvidence, versus: Versus, model: ModelRow, *, below: str = ""
) -> Row:
    """A model's differences from another one, each with its interval and its test.

    `below` is printed where a row of scores has its weights, and then the row has a name of its
    own beside that of the scores.
    """
    level = evidence.options.level
    own = {row.model.name: row.cells for row in table.rows}
    cells = []
    for place, column in enumerate(table.columns):
        key = (model.name, column.label)
        comparison = versus.comparisons.get(key)
        if comparison is None:
            without = _no_score(own[model.name][place], own[versus.base][place], versus.base)
            cells.append(Cell(value=None, note=_refusal(versus, key) or without))
            continue
        known = Evidence(comparison.difference, comparison, None, is_significant(comparison, level))
        note = no_interval(comparison.difference)
        cells.append(Cell(value=comparison.difference.value, note=note, evidence=known))
    averaged = [evidence.columns[label] for label in table.average_columns]
    average = compare_averages(model.name, versus.base, averaged, level)
    return Row(
        model=ModelRow(f"{model.name}: Δ", below, section=model.section) if below else model,
        cells=tuple(cells),
        average=average.difference.value if average else None,
        kind="delta",
        average_evidence=Evidence(average.difference, average) if average else None,
    )


def _no_score(cell: Cell, base: Cell, name: str) -> str | None:
    """Why there is nothing to take the difference of."""
    if cell.value is None:
        return cell.note
    return f"{name} has no score" if base.value is None else None


def _recovered_row(
    table: Table, evidence: TableEvidence, model: ModelRow, roles: Roles, gaps: Versus | None
) -> Row:
    cells = tuple(
        recovered_cell(evidence.columns[column.label], model.name, roles, column, gaps)
        for column in table.columns
    )
    return Row(
        model=ModelRow(
            f"{model.name}: %", f"% of {roles.teacher} recovered", section=model.section
        ),
        cells=cells,
        average=_recovered_average(table, evidence, model.name, roles),
        kind="recovered",
    )


def _recovered_average(
    table: Table, evidence: TableEvidence, student: str, roles: Roles
) -> float | None:
    """The same share of the averages, without an interval; None where the gap may be 0."""
    averages = {row.model.name: row.average for row in table.rows}
    new, teacher = averages.get(student), averages.get(roles.teacher or "")
    if new is None or teacher is None:
        return None
    if roles.start is None:
        return new / teacher if teacher > 0 else None
    start = averages.get(roles.start)
    averaged = [evidence.columns[label] for label in table.average_columns]
    level = evidence.options.level
    gap = compare_averages(roles.teacher or "", roles.start, averaged, level)
    if start is None or gap is None or gap.p_value is None or gap.p_value > 1 - level:
        return None
    return (new - start) / (teacher - start)


def _about_recovered(roles: Roles, gaps: Versus | None) -> str:
    if roles.start is None:
        return (
            f"% of {roles.teacher} recovered is the score divided by {roles.teacher}'s, under "
            "Average that of the averages, without an interval; name a --start to see the share of "
            "the gap that was closed"
        )
    return (
        f"% of {roles.teacher} recovered is the share of the gap from {roles.start} to "
        f"{roles.teacher} that was closed, a dash where that gap is not distinguishable from 0"
        + (f" after Holm over {gaps.num_tests} columns" if gaps and gaps.num_tests > 1 else "")
        + "; under Average that of the averages, without an interval"
    )


def _note(
    cell: Cell, found: Evidence | None, versus: Versus | None, key: tuple[str, str]
) -> str | None:
    refusal = _refusal(versus, key) if versus else None
    missing = no_interval(found.estimate) if found and cell.value is not None else None
    return "; ".join(note for note in (cell.note, refusal, missing) if note) or None


def _refusal(versus: Versus, key: tuple[str, str]) -> str | None:
    return f"not comparable with {versus.base}" if key in versus.refused else None
