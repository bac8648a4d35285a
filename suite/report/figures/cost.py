"""What a model costs against what it scores, and which models no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from suite.report.figures.drawing import INK, grid, look, new_axes, settings, shorten
from suite.report.page_data import CostPoint


def pareto_front(points: Sequence[CostPoint]) -> tuple[CostPoint, ...]:
    """The points that no other equals or beats in both cost and score while beating it in one.

    Sorted by rising cost; of equal points all are in front.
    """
    front = [
        point
        for point in points
        if not any(
            other.seconds_per_item <= point.seconds_per_item
            and other.score >= point.score
            and (other.seconds_per_item, other.score) != (point.seconds_per_item, point.score)
            for other in points
        )
    ]
    return tuple(sorted(front, key=lambda point: (point.seconds_per_item, point.score)))


def cost_figure(points: Sequence[CostPoint], *, score_label: str) -> Figure:
    """A marker for each model, numbered as in the legend, and a step line along the front."""
    front = pareto_front(points)
    with settings():
        figure, axes = new_axes(5.6, 3.3 + 0.14 * len(points))
        axes.step(
            [point.seconds_per_item for point in front],
            [point.score for point in front],
            where="post",
            color=INK,
            linewidth=1,
            linestyle="--",
            label="Pareto front",
        )
        for index, point in enumerate(points):
            style = look(index)
            axes.plot(
                [point.seconds_per_item],
                [point.score],
                color=style.colour,
                marker=style.marker,
                markerfacecolor=style.colour if point in front else "none",
                linestyle="none",
                label=f"{index + 1} {shorten(point.label)}",
            )
            axes.annotate(
                str(index + 1),
                (point.seconds_per_item, point.score),
                xytext=(6, 3),
                textcoords="offset points",
                fontsize=8,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("seconds an item (log scale)")
        axes.set_ylabel(score_label)
        axes.margins(0.12)
        grid(axes, "y")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        return figure
