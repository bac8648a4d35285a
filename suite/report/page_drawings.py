"""The page's figures, each with a sentence on how to read it and its numbers as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from suite.records import Estimate, Table
from suite.report.formatting import MISSING, one_line
from suite.report.page_data import (
    CostPoint,
    CurvePanel,
    FidelityRow,
    ForestRow,
    HeatMap,
    ReliabilityCurve,
    TaskPage,
)

# More rows or lines than these nobody can read off a figure; their numbers are in the tables.
MAX_FOREST_ROWS = 80
MAX_RELIABILITY_CURVES = 8


@dataclass(frozen=True)
class Drawing:
    """A figure: `<svg>` or nothing, a caption, and its numbers under `headings`."""

    title: str
    svg: Markup
    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def curve_drawings(panels: Sequence[CurvePanel]) -> Iterator[Drawing]:
    """One figure a panel, with the estimates by step."""
    from suite.report.figures import curve_figure, figure_svg

    for panel in panels:
        figure = curve_figure(panel.curves, unit=panel.unit, references=panel.references)
        title = f"{panel.title} over checkpoints"
        caption = "Bands are the intervals of the points."
        if panel.references:
            levels = ", ".join(f"{line.label} at {line.value:.4g}" for line in panel.references)
            caption += f" Horizontal lines: {levels}."
        rows = tuple(
            (one_line(curve.label), f"{step:g}", *_estimate(estimate))
            for curve in panel.curves
            for step, estimate in zip(curve.steps, curve.estimates, strict=True)
        )
        svg = Markup(figure_svg(figure, title=title, description=caption))
        yield Drawing(title, svg, caption, ("curve", "step", "value", "low", "high"), rows)


def forest_drawing(
    table: Table, tasks: Sequence[TaskPage], reference: str | None
) -> Drawing | None:
    """All differences from the reference in columns of percent; too many are left to the tasks."""
    rows = [
        ForestRow(
            row.model,
            _scaled(row.comparison.difference),
            row.is_significant,
            table.columns[page.column].label,
        )
        for page in tasks
        if table.columns[page.column].unit_interval
        for row in page.rows
        if row.comparison is not None
    ]
    if not rows or reference is None:
        return None
    title = f"Differences from {one_line(reference)}"
    caption = (
        "Percentage points with intervals; a filled point is significant after correction, a "
        "hollow one is not."
    )
    svg = Markup("")
    if len(rows) <= MAX_FOREST_ROWS:
        from suite.report.figures import figure_svg, forest_figure

        figure = forest_figure(rows, unit="percentage points", reference=reference)
        svg = Markup(figure_svg(figure, title=title, description=caption))
    else:
        caption = f"{len(rows):,} differences are too many for a figure; here are the numbers."
    headings = ("task", "model", "difference", "low", "high", "significant")
    numbers = tuple(
        (
            one_line(row.group),
            one_line(row.label),
            *_estimate(row.difference),
            "yes" if row.is_significant else "no",
        )
        for row in rows
    )
    return Drawing(title, svg, caption, headings, numbers)


def agreement_drawing(found: HeatMap | None) -> Drawing | None:
    """The agreement over all tasks."""
    if found is None:
        return None
    from suite.report.figures import figure_svg, heat_map_figure

    title = "Agreement over all tasks"
    caption = "Share of items, in percent, that two models answer alike, right or wrong."
    rows = tuple(
        (one_line(first), one_line(second), percent(value), f"{found.counts[i][j]:,}")
        for i, first in enumerate(found.labels)
        for j, second in enumerate(found.labels)
        if i < j and (value := found.values[i][j]) is not None
    )
    svg = Markup(figure_svg(heat_map_figure(found), title=title, description=caption))
    return Drawing(title, svg, caption, ("model", "model", "same answers, %", "items"), rows)


def cost_drawing(points: Sequence[CostPoint]) -> Drawing | None:
    """Cost against the average, with the front."""
    if not points:
        return None
    from suite.report.figures import cost_figure, figure_svg, pareto_front

    shown = [replace(point, score=100 * point.score) for point in points]
    front = pareto_front(shown)
    title = "Cost against score"
    places = list(dict.fromkeys(point.hardware for point in points if point.hardware))
    caption = (
        "Wall time for an item against the average; no model beats one on the dashed front in both."
    )
    if len(places) == 1:
        caption += f" Measured on {one_line(places[0])}."
    elif places:
        caption += " Measured on different hardware, so times are not comparable across it."
    rows = tuple(
        (
            one_line(point.label),
            f"{point.seconds_per_item:.3g}",
            f"{point.score:.1f}",
            MISSING if point.parameters is None else f"{point.parameters:,}",
            one_line(point.hardware) or MISSING,
            "yes" if point in front else "no",
        )
        for point in shown
    )
    headings = ("model", "seconds an item", "average, %", "parameters", "hardware", "on the front")
    figure = cost_figure(shown, score_label="average, %")
    svg = Markup(figure_svg(figure, title=title, description=caption))
    return Drawing(title, svg, caption, headings, rows)


def reliability_drawing(label: str, curves: Sequence[ReliabilityCurve]) -> Drawing | None:
    """How much the confidence of a task's choices is worth."""
    if not curves:
        return None
    from suite.report.figures import figure_svg, reliability_figure

    title = f"Reliability on {one_line(label)}"
    caption = (
        "Items by the probability of the chosen option; below the diagonal a model is too sure "
        "of itself. Larger marks hold more items."
    )
    if len(curves) > MAX_RELIABILITY_CURVES:
        caption += f" The first {MAX_RELIABILITY_CURVES} models are drawn."
    rows = tuple(
        (one_line(curve.label), _short(curve.calibration_error), _short(curve.brier))
        for curve in curves
    )
    headings = ("model", "calibration error (ECE)", "Brier score of the choice")
    svg = Markup(
        figure_svg(
            reliability_figure(curves[:MAX_RELIABILITY_CURVES]), title=title, description=caption
        )
    )
    return Drawing(title, svg, caption, headings, rows)


def fidelity_drawing(rows: Sequence[FidelityRow]) -> Drawing | None:
    """How close a student is to its teacher; numbers alone."""
    if not rows:
        return None
    numbers = tuple(
        (one_line(row.label), *(_number(part) for part in (row.value, row.low, row.high)))
        for row in rows
    )
    return Drawing("Fidelity", Markup(""), "", ("measure", "value", "low", "high"), numbers)


def percent(value: float) -> str:
    """A share as whole percent, which 100 is only for all of it."""
    return f"{min(round(100 * value), 99) if value < 1 else 100}"


def _scaled(found: Estimate) -> Estimate:
    value, low, high = (
        None if part is None else 100 * part for part in (found.value, found.low, found.high)
    )
    return replace(found, value=value, low=low, high=high)


def _estimate(found: Estimate) -> tuple[str, str, str]:
    return _number(found.value), _number(found.low), _number(found.high)


def _short(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return _number(found.value)
    return f"{_number(found.value)} [{_number(found.low)}, {_number(found.high)}]"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}".replace("-", "−")
