"""How often answers are right by how sure the model was of them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from suite.report.figures.drawing import INK, grid, look, new_axes, settings, shorten
from suite.report.page_data import ReliabilityCurve


def reliability_figure(curves: Sequence[ReliabilityCurve]) -> Figure:
    """A line a model through its bins, marker area by the bin's items, and the perfect diagonal."""
    with settings():
        figure, axes = new_axes(4.6, 4.0 + 0.14 * len(curves))
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--", label="perfect")
        for index, curve in enumerate(curves):
            style, total = look(index), max(sum(curve.counts), 1)
            axes.plot(
                curve.confidences,
                curve.accuracies,
                color=style.colour,
                linestyle=style.line,
                linewidth=1.2,
                marker=style.marker,
                markersize=3,
                label=shorten(curve.label),
            )
            sizes = [8 + 160 * count / total for count in curve.counts]
            axes.scatter(
                curve.confidences,
                curve.accuracies,
                s=sizes,
                color=style.colour,
                marker=style.marker,
                alpha=0.35,
                linewidths=0,
            )
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("probability of the chosen option")
        axes.set_ylabel("share of right answers")
        grid(axes, "y")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        return figure
