"""Scores over checkpoints, each with its band, and the level they are read against."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from suite.records import Estimate
from suite.report.figures.drawing import INK, Look, grid, look, new_axes, settings, shorten
from suite.report.page_data import Curve, ReferenceLine


def curve_figure(
    curves: Sequence[Curve],
    *,
    unit: str = "",
    references: Sequence[ReferenceLine] = (),
    step_label: str = "step",
) -> Figure:
    """One line a curve with the interval of every point as a band.

    A checkpoint without a value leaves a gap; one without an interval has a point and no band.
    """
    with settings():
        figure, axes = new_axes(5.6, 3.3)
        for index, curve in enumerate(curves):
            _draw(axes, curve, look(index))
        for index, reference in enumerate(references):
            axes.axhline(
                reference.value,
                color=INK,
                linewidth=1,
                linestyle=("--", ":", "-.")[index % 3],
                label=shorten(reference.label),
            )
        axes.set_xlabel(step_label)
        axes.set_ylabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        grid(axes, "y")
        if len(curves) + len(references) > 1:
            figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        return figure


def _draw(axes: Axes, curve: Curve, style: Look) -> None:
    values = _numbers(curve.estimates, "value")
    axes.plot(
        curve.steps,
        values,
        color=style.colour,
        marker=style.marker,
        linestyle=style.line,
        linewidth=1.4,
        label=shorten(curve.label),
    )
    low, high = _numbers(curve.estimates, "low"), _numbers(curve.estimates, "high")
    axes.fill_between(curve.steps, low, high, color=style.colour, alpha=0.18, linewidth=0)
    # A band has no width at a single point between gaps; the bars show it there too.
    axes.vlines(curve.steps, low, high, color=style.colour, linewidth=0.8, alpha=0.7)


def _numbers(estimates: Sequence[Estimate], part: str) -> np.ndarray:
    found = [getattr(estimate, part) for estimate in estimates]
    return np.array([math.nan if number is None else number for number in found], dtype=float)
