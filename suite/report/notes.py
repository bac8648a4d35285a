"""What is printed below a table: legend, numbered footnotes and where the numbers come from."""

from __future__ import annotations

from suite.records import Cell, Table


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
    texts = [note for row in table.rows for cell in row.cells for note in cell_notes(cell)]
    return tuple(dict.fromkeys(texts))


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
    if any(cell.stderr is not None for row in table.rows for cell in row.cells):
        lines.append("± is one standard error.")
    reference = reference_name(table)
    if reference is not None:
        lines.append(f"Signed numbers are differences from {reference}, in the column's unit.")
    if table.average_columns:
        lines.append(f"Average is the unweighted mean of {_averaged(table)}.")
    if any(column.version for column in table.columns):
        lines.append(f"Task versions: {_versions(table)}.")
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
