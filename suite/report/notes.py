"""What is printed below a table: legend, numbered footnotes and where the numbers come from."""

from __future__ import annotations

from suite.records import Cell, Row, Table
from suite.report.formatting import average_cell, shows_stderr


def cell_notes(cell: Cell) -> tuple[str, ...]:
    """Everything that must be said about one cell."""
    notes = [cell.note] if cell.note else []
    if cell.num_truncated == 1:
        notes.append("1 prompt was cut to the context length")
    elif cell.num_truncated:
        notes.append(f"{cell.num_truncated} prompts were cut to the context length")
    return tuple(notes)


def footnotes(table: Table) -> tuple[str, ...]:
    """The notes of all cells in reading order, each text once; a mark is the position from 1."""
    cells = (cell for row in table.rows for cell in (*row.cells, *_shown_average(table, row)))
    texts = [note for cell in cells for note in cell_notes(cell)]
    return tuple(dict.fromkeys(texts))


def _shown_average(table: Table, row: Row) -> tuple[Cell, ...]:
    return (average_cell(row),) if table.average_columns else ()


def marks(cell: Cell, numbered: tuple[str, ...]) -> tuple[int, ...]:
    """The numbers of a cell's footnotes in `numbered`, the result of `footnotes`."""
    return tuple(numbered.index(note) + 1 for note in cell_notes(cell))


def reference_name(table: Table) -> str | None:
    """The model the differences are taken from, None without one."""
    return next((row.model.name for row in table.rows if row.model.is_reference), None)


def legend(table: Table) -> tuple[str, ...]:
    """Sentences that say how to read the numbers, only those this table needs."""
    lines = []
    directions = {column.higher_is_better for column in table.columns}
    words = [("↑", "higher", True), ("↓", "lower", False)]
    shown = [f"{sign} {word} is better" for sign, word, known in words if known in directions]
    if shown:
        lines.append(", ".join(shown) + ".")
    if any(column.unit_interval for column in table.columns):
        lines.append("Columns marked % are in percent.")
    if any(shows_stderr(cell, row.kind) for row in table.rows for cell in row.cells):
        lines.append("± is one standard error.")
    level = _bracket_level(table)
    if level is not None:
        lines.append(f"Brackets hold a {level:.4g} % interval.")
    reference = reference_name(table)
    if any(row.kind == "delta" for row in table.rows):
        lines.append("Rows of signed numbers are differences, in the column's unit.")
    elif reference is not None and _has_deltas(table):
        lines.append(f"Signed numbers are differences from {reference}, in the column's unit.")
    if table.average_columns:
        lines.append(f"Average is the unweighted mean of {_averaged(table)}.")
    if any(column.version for column in table.columns):
        lines.append(f"Task versions: {_versions(table)}.")
    if any(column.protocol for column in table.columns) and "Protocol" not in table.provenance:
        lines.append(f"Protocol: {_protocols(table)}.")
    return tuple(lines)


def provenance_lines(table: Table) -> tuple[str, ...]:
    """Seeds, versions, hardware and so on for formats without a section of their own for them."""
    return tuple(f"{name}: {text}" for name, text in table.provenance.items())


def _averaged(table: Table) -> str:
    """The columns of the average, named one by one unless they are just those in percent."""
    percent = tuple(column.label for column in table.columns if column.unit_interval)
    if table.average_columns == percent:
        return "the columns marked %"
    return ", ".join(table.average_columns)


def _versions(table: Table) -> str:
    """Each version with the tasks that have it."""
    labels: dict[str, list[str]] = {}
    for column in table.columns:
        if column.version:
            labels.setdefault(column.version, []).append(column.label)
    return "; ".join(f"{version} for {', '.join(names)}" for version, names in labels.items())


def _bracket_level(table: Table) -> float | None:
    """Coverage, in percent, of the intervals printed in the place of standard errors."""
    cells = [(cell, row.kind) for row in table.rows for cell in (*row.cells, average_cell(row))]
    levels = [
        cell.evidence.estimate.level
        for cell, kind in cells
        if cell.evidence
        and cell.evidence.estimate
        and cell.evidence.estimate.low is not None
        and not shows_stderr(cell, kind)
    ]
    return 100 * levels[0] if levels else None


def _has_deltas(table: Table) -> bool:
    """Whether cells show differences; in a table of one model there are none to show."""
    others = [row for row in table.rows if not row.model.is_reference]
    has_evidence = any(cell.evidence for row in others for cell in row.cells)
    return not has_evidence or any(cell.delta is not None for row in others for cell in row.cells)


def _protocols(table: Table) -> str:
    """How prompts were tokenised, by column where that is not the same everywhere."""
    labels: dict[str, list[str]] = {}
    for column in table.columns:
        labels.setdefault(column.protocol or "unknown", []).append(column.label)
    if len(labels) == 1:
        return next(iter(labels))
    return "; ".join(f"{protocol} for {', '.join(names)}" for protocol, names in labels.items())
