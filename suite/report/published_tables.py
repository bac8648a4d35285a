"""Rows that a paper has published, to stand beside measured ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files

from suite.errors import ConfigError
from suite.records import Cell, Column, ModelRow, Row, Table


@dataclass(frozen=True)
class PublishedRow:
    """One model of a published table; scores in 0-1 by lm-eval's name of the task."""

    model: str
    method: str
    scores: Mapping[str, float]
    average: float


@dataclass(frozen=True)
class PublishedTable:
    """A published table; `source` names the paper."""

    name: str
    source: str
    caption: str
    rows: tuple[PublishedRow, ...]


def published_names() -> tuple[str, ...]:
    """The names that `read_published` knows."""
    folder = files("suite.report") / "published"
    return tuple(sorted(p.name.removesuffix(".json") for p in folder.iterdir() if p.is_file()))


def read_published(name: str) -> PublishedTable:
    """A packaged table by its name.

    Raises:
        ConfigError: There is none of that name; lists the known ones.
    """
    known = published_names()
    if name not in known:
        raise ConfigError(f"--published: no table '{name}'; known: {', '.join(known)}")
    path = files("suite.report") / "published" / f"{name}.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    rows = tuple(
        PublishedRow(
            row["model"],
            row["method"],
            {task: _share(score) for task, score in row["scores"].items()},
            _share(row["average"]),
        )
        for row in data["rows"]
    )
    return PublishedTable(data["name"], data["source"], data["caption"], rows)


def with_published(table: Table, published: PublishedTable) -> Table:
    """The table with a further section of published rows, in the columns that both have.

    A published average is shown only where it is over the same tasks as the table's.
    """
    tasks = list(dict.fromkeys(task for row in published.rows for task in row.scores))
    place = {
        task: column.label
        for task in tasks
        for column in table.columns
        if column.task == task and column.unit_interval
    }
    if not place:
        note = f"Nothing of {published.name} ({published.source}) is for a task of this table: "
        return replace(table, notes=(*table.notes, note + ", ".join(tasks)))
    section = f"published ({published.source})"
    has_average = set(table.average_columns) == set(place.values()) and len(place) == len(tasks)
    rows = tuple(
        Row(
            model=ModelRow(f"{row.model}, {row.method}", "", section=section),
            cells=tuple(_cell(column, row) for column in table.columns),
            average=row.average if has_average else None,
            kind="published",
        )
        for row in published.rows
    )
    return replace(
        table,
        rows=(*table.rows, *rows),
        notes=(*table.notes, *_notes(published, table, [t for t in tasks if t not in place])),
    )


def _cell(column: Column, row: PublishedRow) -> Cell:
    value = row.scores.get(column.task) if column.unit_interval else None
    return Cell(value=value)


def _notes(published: PublishedTable, table: Table, left_out: list[str]) -> list[str]:
    notes = [
        f"Published rows are printed as in {published.source} ({published.caption}); their "
        "metrics, prompts, shots and items may be others, so they are neither ranked nor tested"
    ]
    if left_out:
        notes.append(f"Published for other tasks, left out here: {', '.join(left_out)}")
    tasks = {task for row in published.rows for task in row.scores}
    missing = [column.label for column in table.columns if column.task not in tasks]
    if missing:
        notes.append(f"Not published: {', '.join(missing)}")
    return notes


def _share(percent: float) -> float:
    """Percent as printed become a share without the noise of a division."""
    return round(percent / 100, 6)
