"""A report as one HTML file that needs no server, no network and no other file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from suite.records import Cell, Column, Row, Sample, Table
from suite.report.formatting import (
    AVERAGE,
    MISSING,
    RowKind,
    average_cell,
    dagger,
    filter_text,
    format_delta,
    format_error,
    format_interval,
    format_value,
    heading,
    metric_text,
    one_line,
    rank_of,
    shows_stderr,
    size_text,
)
from suite.report.notes import footnotes, legend, marks
from suite.report.page import render_page
from suite.report.page_data import PageDetails
from suite.report.page_json import MAX_BYTES, cut, flips_json
from suite.report.page_views import DetailsView, details_view
from suite.report.sections import blocks

# Of the page's bytes, what items shown without a comparison may take.
SAMPLE_BYTES = 4_000_000
# What follows from how many flips found room: a few digits in a sentence.
SLACK_BYTES = 1_000

KIND_NAMES = {"delta": "difference", "recovered": "recovered", "published": "published"}


@dataclass(frozen=True)
class ColumnView:
    """A heading, the small lines below it, and whether a first click sorts high scores first."""

    heading: str
    label: str
    lines: tuple[str, ...]
    more_first: bool


@dataclass(frozen=True)
class CellView:
    """The texts of one cell; `sort_key` is the unrounded value, None where it is missing."""

    score: str
    error: str
    interval: str
    delta: str
    dagger: str
    rank: str
    sort_key: str | None
    marks: tuple[int, ...]


@dataclass(frozen=True)
class RowView:
    """One line of the table; `kind` is "" for a model's own scores."""

    name: str
    weights: str
    is_reference: bool
    kind: str
    cells: tuple[CellView, ...]


@dataclass(frozen=True)
class BlockView:
    """The rows of one section; `section` is "" in a table without sections."""

    section: str
    rows: tuple[RowView, ...]


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


def render_html(
    table: Table,
    samples: Sequence[Sample],
    *,
    details: PageDetails | None = None,
    max_samples: int = 20,
) -> str:
    """The whole page, with at most `max_samples` items for each task and model.

    With `details` it has a page for each task, the items that flip between two models, figures and
    provenance, and takes at most `MAX_BYTES`: items give way.
    """
    shown = _samples(table, samples, _fitting(samples, max_samples))
    if details is None:
        return _render(table, shown, None, "")
    view = details_view(table, details)
    if not details.flips:
        return _render(table, shown, view, "")
    without = len(_render(table, shown, view, "").encode("utf-8", "backslashreplace"))
    data = flips_json(table, details.flips, MAX_BYTES - SLACK_BYTES - without)
    return _render(table, shown, view.with_flips(data.num_shown, data.num_flips), data.text)


def _render(
    table: Table, samples: Sequence[ColumnSamples], details: DetailsView | None, flips: str
) -> str:
    numbered = footnotes(table)
    return render_page(
        "index.html.j2",
        styles=["style.css", "details.css"] if details else ["style.css"],
        script="sort.js",
        more_scripts=["details.js"] if details else [],
        table=table,
        columns=_columns(table),
        blocks=[
            BlockView(section, tuple(_row(table, row, numbered) for row in rows))
            for section, rows in blocks(table)
        ],
        num_models=_num_models(table),
        legend=legend(table),
        footnotes=numbered,
        samples=samples,
        details=details,
        flips=Markup(flips),
    )


def _num_models(table: Table) -> int:
    """The models of a table; a row named `model: …` says more about one that has its own row."""
    names = {row.model.name for row in table.rows}
    return len([name for name in names if name.rpartition(": ")[0] not in names])


def _columns(table: Table) -> list[ColumnView]:
    views = [
        ColumnView(
            heading=one_line(heading(column)),
            label=one_line(column.label),
            lines=tuple(
                one_line(line(column))
                for line in (metric_text, filter_text, size_text)
                if line(column)
            ),
            more_first=column.higher_is_better is not False,
        )
        for column in table.columns
    ]
    average = ColumnView("Average", "Average", ("%",), more_first=True)
    return views + [average] * bool(table.average_columns)


def _row(table: Table, row: Row, numbered: tuple[str, ...]) -> RowView:
    cells = [
        _cell(cell, column, row.kind, marks(cell, numbered))
        for cell, column in zip(row.cells, table.columns, strict=True)
    ]
    if table.average_columns:
        average = average_cell(row)
        cells.append(_cell(average, AVERAGE, row.kind, marks(average, numbered)))
    return RowView(
        name=one_line(row.model.name),
        weights=one_line(row.model.weights),
        is_reference=row.model.is_reference and row.kind == "scores",
        kind=KIND_NAMES.get(row.kind, ""),
        cells=tuple(cells),
    )


def _cell(cell: Cell, column: Column, kind: RowKind, numbers: tuple[int, ...]) -> CellView:
    return CellView(
        score=format_value(cell, column, kind),
        error=format_error(cell, column, kind),
        interval=_interval(cell, column, kind),
        delta=format_delta(cell.delta, percent=column.unit_interval) if kind == "scores" else "",
        dagger=dagger(cell),
        rank=rank_of(cell) or "",
        sort_key=None if cell.value is None else repr(cell.value),
        marks=numbers,
    )


def _interval(cell: Cell, column: Column, kind: RowKind) -> str:
    """The interval of a score, where it is not in the place of the standard error already."""
    if cell.evidence is None or not shows_stderr(cell, kind):
        return ""
    return format_interval(cell.evidence.estimate, percent=column.unit_interval)


def _fitting(samples: Sequence[Sample], max_samples: int) -> int:
    """The most items for each task and model, up to `max_samples`, that `SAMPLE_BYTES` hold."""
    sizes = [0] * max_samples
    seen: dict[tuple[str, str], int] = {}
    for sample in samples:
        place = seen.get((sample.column, sample.model), 0)
        seen[sample.column, sample.model] = place + 1
        if place < max_samples:
            texts = (cut(sample.prompt), cut(sample.target), cut(sample.answer))
            sizes[place] += 300 + sum(_num_bytes(text) for text in texts)
    total = 0
    for number, size in enumerate(sizes):
        total += size
        if total > SAMPLE_BYTES:
            return number
    return max_samples


def _num_bytes(text: str) -> int:
    return len(str(escape(text)).encode("utf-8", "backslashreplace"))


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
            ModelSamples(one_line(name), tuple(views))
            for name in dict.fromkeys(row.model.name for row in table.rows)
            if (views := shown.get((column.label, name)))
        )
        if models:
            count = sum(len(model.samples) for model in models)
            columns.append(ColumnSamples(one_line(column.label), models, count))
    return columns


def _sample(sample: Sample) -> SampleView:
    return SampleView(
        prompt=cut(sample.prompt),
        target=cut(sample.target),
        answer=cut(sample.answer),
        score=MISSING if sample.score is None else f"{sample.score:g}",
    )
