"""The details of a page as the texts and drawings that its templates put into place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from suite.records import Column, Comparison, Estimate, Table
from suite.report.flips import RULE
from suite.report.formatting import (
    MISSING,
    format_delta,
    format_interval,
    format_score,
    heading,
    one_line,
)
from suite.report.page_data import HeatMap, PageDetails, RunFile, TaskPage, TaskRow
from suite.report.page_drawings import (
    Drawing,
    agreement_drawing,
    cost_drawing,
    curve_drawings,
    fidelity_drawing,
    forest_drawing,
    percent,
    reliability_drawing,
)


@dataclass(frozen=True)
class Bar:
    """An interval on a scale of 0-100 as widths; ends are None where there is no interval."""

    value: float
    low: float | None
    high: float | None
    zero: float | None = None


@dataclass(frozen=True)
class TaskRowView:
    """The texts of one model's line."""

    model: str
    is_reference: bool
    score: str
    interval: str
    bar: Bar | None
    num_items: str
    difference: str
    difference_interval: str
    difference_bar: Bar | None
    p_value: str
    p_adjusted: str
    mde: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Shade:
    """A cell of a heat map: its text and how strong its shade is, 0-9."""

    text: str
    strength: int


@dataclass(frozen=True)
class MapView:
    """A heat map as a table; models are numbered from 1 along the top."""

    labels: tuple[str, ...]
    rows: tuple[tuple[Shade, ...], ...]


@dataclass(frozen=True)
class TaskView:
    """One task's page."""

    title: str
    summary: str
    metric: str
    rows: tuple[TaskRowView, ...]
    has_differences: bool
    conditions: tuple[tuple[str, str], ...]
    agreement: MapView | None
    reliability: Drawing | None


@dataclass(frozen=True)
class DetailsView:
    """Everything that the templates show beside the table."""

    tasks: tuple[TaskView, ...]
    has_flips: bool
    flip_notes: tuple[str, ...]
    curves: tuple[Drawing, ...]
    forest: Drawing | None
    agreement: Drawing | None
    cost: Drawing | None
    fidelity: Drawing | None
    files: tuple[RunFile, ...]
    sections: tuple[str, ...]
    notes: tuple[str, ...]

    def with_flips(self, num_shown: int, num_flips: int) -> DetailsView:
        """The same with how many flips the page holds."""
        told = f"{num_shown:,} of {num_flips:,} are on this page, which takes at most 20 MB."
        return replace(self, flip_notes=(RULE, told))


def details_view(table: Table, details: PageDetails) -> DetailsView:
    """All texts and drawings."""
    reference = next((row.model.name for row in table.rows if row.model.is_reference), None)
    sections = dict.fromkeys(row.model.section for row in table.rows if row.model.section)
    return DetailsView(
        tasks=tuple(_task(table.columns[page.column], page) for page in details.tasks),
        has_flips=bool(details.flips),
        flip_notes=(),
        curves=tuple(curve_drawings(details.curves)),
        forest=forest_drawing(table, details.tasks, reference),
        agreement=agreement_drawing(details.agreement),
        cost=cost_drawing(details.costs),
        fidelity=fidelity_drawing(details.fidelity),
        files=details.files,
        sections=tuple(sections) if len(sections) > 1 else (),
        notes=details.notes,
    )


def _task(column: Column, page: TaskPage) -> TaskView:
    compared = [row.comparison.difference for row in page.rows if row.comparison]
    scores = [row.estimate or _point(row.value) for row in page.rows if row.value is not None]
    low, high = (0.0, 1.0) if column.unit_interval else _span(scores)
    far = max((abs(end) for end in _ends(compared)), default=0.0)
    scored = [row.value for row in page.rows if row.value is not None]
    return TaskView(
        title=one_line(heading(column)),
        summary=_summary(column, scored),
        metric=f"{column.metric}, %" if column.unit_interval else column.metric,
        rows=tuple(_task_row(column, row, (low, high), far) for row in page.rows),
        has_differences=bool(compared),
        conditions=tuple(
            (name, text) for name, text in page.conditions if text not in ("none", "")
        ),
        agreement=None if page.agreement is None else map_view(page.agreement),
        reliability=reliability_drawing(column.label, page.reliability),
    )


def _summary(column: Column, scores: Sequence[float]) -> str:
    count = f"{len(scores)} model{'' if len(scores) == 1 else 's'}"
    if not scores:
        return "no scores"
    texts = [format_score(end, percent=column.unit_interval) for end in (min(scores), max(scores))]
    return f"{count}, {texts[0]}" if texts[0] == texts[1] else f"{count}, {texts[0]} to {texts[1]}"


def _task_row(column: Column, row: TaskRow, span: tuple[float, float], far: float) -> TaskRowView:
    in_percent = column.unit_interval
    comparison = row.comparison
    difference = comparison.difference if comparison else None
    dagger = "†" if row.is_significant else ""
    return TaskRowView(
        model=one_line(row.model),
        is_reference=row.is_reference,
        score=format_score(row.value, percent=in_percent),
        interval=format_interval(row.estimate, percent=in_percent),
        bar=_bar(row.estimate or _point(row.value), *span, in_percent),
        num_items=MISSING if row.num_items is None else f"{row.num_items:,}",
        difference=(format_delta(difference.value, percent=in_percent) if difference else "")
        + dagger,
        difference_interval=format_interval(difference, percent=in_percent, signed=True),
        difference_bar=_difference_bar(difference, far),
        p_value=_p_value(comparison.p_value) if comparison else "",
        p_adjusted=_p_value(comparison.p_adjusted) if comparison else "",
        mde=_mde(comparison, in_percent),
        notes=tuple(_row_notes(row)),
    )


def _row_notes(row: TaskRow) -> Iterable[str]:
    if row.note:
        yield one_line(row.note)
    comparison, estimate = row.comparison, row.estimate
    if estimate is not None and estimate.reason:
        yield one_line(estimate.reason)
    if comparison is not None:
        counts = ""
        if comparison.num_better is not None and comparison.num_worse is not None:
            counts = f": better on {comparison.num_better:,}, worse on {comparison.num_worse:,}"
        unpaired = "" if comparison.paired else " (not paired)"
        yield one_line(f"{comparison.test}{unpaired}{counts}")
        reason = comparison.reason or comparison.difference.reason
        if reason:
            yield one_line(reason)
    yield from (one_line(f"{name}: {text}") for name, text in row.conditions)


def _mde(comparison: Comparison | None, in_percent: bool) -> str:
    if comparison is None:
        return ""
    return format_score(comparison.mde, percent=in_percent)


def _p_value(value: float | None) -> str:
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _point(value: float | None) -> Estimate:
    return Estimate(value, None, None, 0.95, 0, "")


def _ends(estimates: Iterable[Estimate]) -> list[float]:
    ends = (end for one in estimates for end in (one.value, one.low, one.high))
    return [end for end in ends if end is not None]


def _span(estimates: Iterable[Estimate]) -> tuple[float, float]:
    """A scale that holds all intervals with a little room at both ends."""
    ends = _ends(estimates) or [0.0]
    room = 0.08 * (max(ends) - min(ends)) or 1.0
    return min(ends) - room, max(ends) + room


def _bar(estimate: Estimate, low: float, high: float, from_zero: bool) -> Bar | None:
    if estimate.value is None:
        return None

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low) / (high - low), 2)

    return Bar(
        place(estimate.value) or 0.0,
        place(estimate.low),
        place(estimate.high),
        0.0 if from_zero else None,
    )


def _difference_bar(difference: Estimate | None, far: float) -> Bar | None:
    if difference is None or difference.value is None or far == 0:
        return None
    found = _bar(difference, -1.1 * far, 1.1 * far, from_zero=False)
    return found and replace(found, zero=50.0)


def map_view(found: HeatMap) -> MapView:
    """A heat map as shaded cells, shades from the smallest value to 1."""
    known = [value for row in found.values for value in row if value is not None]
    low = min(known, default=0.0)

    def shade(value: float | None) -> Shade:
        if value is None:
            return Shade(MISSING, 0)
        return Shade(percent(value), round(9 * (value - low) / (1 - low)) if low < 1 else 9)

    return MapView(
        tuple(map(one_line, found.labels)),
        tuple(tuple(map(shade, row)) for row in found.values),
    )
