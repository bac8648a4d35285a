"""A report as one HTML file that needs no server, no network and no other file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from suite.records import Cell, Column, Row, Sample, Table
from suite.report.formatting import (
    MISSING,
    filter_text,
    format_delta,
    format_score,
    format_stderr,
    heading,
    metric_text,
    one_line,
    size_text,
)
from suite.report.notes import footnotes, legend, marks
from suite.report.page import render_page


@dataclass(frozen=True)
class ColumnView:
    """A heading, the small lines below it, and whether a first click sorts high scores first."""

    heading: str
    lines: tuple[str, ...]
    more_first: bool


@dataclass(frozen=True)
class CellView:
    """The texts of one cell; `sort_key` is the unrounded value, None where it is missing."""

    score: str
    stderr: str
    delta: str
    sort_key: str | None
    marks: tuple[int, ...]


@dataclass(frozen=True)
class RowView:
    """One model's line of the page."""

    name: str
    weights: str
    is_reference: bool
    cells: tuple[CellView, ...]


@dataclass(frozen=True)
class SampleView:
    """One item; prompt, target and answer keep their line breaks."""

    prompt: str
    target: str
    answer: str
    score: str


@dataclass(frozen=True)
class ModelSamples:
    """The items shown for one model."""

    name: str
    samples: tuple[SampleView, ...]


@dataclass(frozen=True)
class ColumnSamples:
    """The items shown for one task."""

    label: str
    models: tuple[ModelSamples, ...]
    num_shown: int


def render_html(table: Table, samples: Sequence[Sample], *, max_samples: int = 20) -> str:
    """The whole page, with at most `max_samples` items for each task and model."""
    return render_page(
        "index.html.j2",
        styles=["style.css"],
        script="sort.js",
        table=table,
        columns=_columns(table),
        rows=[_row(table, row, footnotes(table)) for row in table.rows],
        legend=legend(table),
        footnotes=footnotes(table),
        samples=_samples(table, samples, max_samples),
    )


def _columns(table: Table) -> list[ColumnView]:
    views = [
        ColumnView(
            heading=one_line(heading(column)),
            lines=tuple(
                one_line(line(column))
                for line in (metric_text, filter_text, size_text)
                if line(column)
            ),
            more_first=column.higher_is_better is not False,
        )
        for column in table.columns
    ]
    return views + [ColumnView("Average", ("%",), more_first=True)] * bool(table.average_columns)


def _row(table: Table, row: Row, numbered: tuple[str, ...]) -> RowView:
    cells = [
        _cell(cell, column, numbered) for cell, column in zip(row.cells, table.columns, strict=True)
    ]
    if table.average_columns:
        average = Cell(value=row.average, delta=row.average_delta)
        cells.append(_cell_view(average, percent=True, numbered=()))
    return RowView(
        name=one_line(row.model.name),
        weights=one_line(row.model.weights),
        is_reference=row.model.is_reference,
        cells=tuple(cells),
    )


def _cell(cell: Cell, column: Column, numbered: tuple[str, ...]) -> CellView:
    return _cell_view(cell, percent=column.unit_interval, numbered=numbered)


def _cell_view(cell: Cell, *, percent: bool, numbered: tuple[str, ...]) -> CellView:
    return CellView(
        score=format_score(cell.value, percent=percent),
        stderr=format_stderr(cell.stderr, percent=percent),
        delta=format_delta(cell.delta, percent=percent),
        sort_key=None if cell.value is None else repr(cell.value),
        marks=marks(cell, numbered),
    )


def _samples(table: Table, samples: Sequence[Sample], max_samples: int) -> list[ColumnSamples]:
    """The items by task and model, in the table's order; tasks without items are left out."""
    shown: dict[tuple[str, str], list[SampleView]] = {}
    for sample in samples:
        collected = shown.setdefault((sample.column, sample.model), [])
        if len(collected) < max_samples:
            collected.append(_sample(sample))
    columns = []
    for column in table.columns:
        models = tuple(
            ModelSamples(one_line(row.model.name), tuple(views))
            for row in table.rows
            if (views := shown.get((column.label, row.model.name)))
        )
        if models:
            count = sum(len(model.samples) for model in models)
            columns.append(ColumnSamples(one_line(column.label), models, count))
    return columns


def _sample(sample: Sample) -> SampleView:
    return SampleView(
        prompt=sample.prompt,
        target=sample.target,
        answer=sample.answer,
        score=MISSING if sample.score is None else f"{sample.score:g}",
    )
