"""Differences from the reference with their intervals, one a line."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.report.figures.drawing import INK, grid, look, new_axes, settings, shorten
from suite.report.page_data import ForestRow


def forest_figure(rows: Sequence[ForestRow], *, unit: str, reference: str) -> Figure:
    """A point and a whisker for each difference, groups below their names, a line at zero.

    A filled point is a difference that holds after correction, a hollow one is not; a point
    without an interval has no whisker, a row without a difference says so.
    """
    lines = _lines(rows)
    with settings():
        figure, axes = new_axes(5.6, 1.0 + 0.24 * len(lines))
        for height, (_, row) in enumerate(lines):
            if row is not None:
                _draw(axes, height, row)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(lines)), [text for text, _ in lines])
        for label, (_, row) in zip(axes.get_yticklabels(), lines, strict=True):
            label.set_fontweight("bold" if row is None else "normal")
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_xlabel(f"difference from {shorten(reference)}{', ' if unit else ''}{unit}")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        grid(axes, "x")
        return figure


def _lines(rows: Sequence[ForestRow]) -> list[tuple[str, ForestRow | None]]:
    """Texts beside the axis from top to bottom; a heading has no row."""
    lines: list[tuple[str, ForestRow | None]] = []
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append((shorten(group), None))
        lines.append((shorten(row.label), row))
    return lines


def _draw(axes: Axes, height: int, row: ForestRow) -> None:
    estimate, style = row.difference, look(0)
    if estimate.value is None:
        axes.text(0, height, " no difference known", va="center", fontsize=7)
        return
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [height, height], color=style.colour, lw=1.4)
        for end in (estimate.low, estimate.high):
            axes.plot([end], [height], color=style.colour, marker="|", markersize=6)
    axes.plot(
        [estimate.value],
        [height],
        marker="o",
        color=style.colour,
        markerfacecolor=style.colour if row.is_significant else "none",
        linestyle="none",
    )
