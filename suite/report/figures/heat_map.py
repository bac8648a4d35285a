"""Numbers between every two models, as shades with the numbers written in."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from suite.report.figures.drawing import COLOURS, new_axes, settings, shorten
from suite.report.page_data import HeatMap

# The shade is see-through at zero, and never so dark that the ink on it cannot be read.
SHADES = LinearSegmentedColormap.from_list(
    "shades", [(*(int(COLOURS[0][i : i + 2], 16) / 255 for i in (1, 3, 5)), a) for a in (0, 0.45)]
)


def heat_map_figure(map_: HeatMap) -> Figure:
    """A square of cells, each with its number in percent; models are numbered along the top."""
    size = len(map_.labels)
    values = np.array(
        [[math.nan if value is None else value for value in row] for row in map_.values]
    )
    known = values[~np.isnan(values)]
    low = float(known.min()) if known.size else 0.0
    with settings():
        figure, axes = new_axes(2.2 + 0.44 * size, 0.9 + 0.34 * size)
        axes.pcolormesh(values, cmap=SHADES, vmin=min(low, 0.99), vmax=1.0)
        for i, row in enumerate(map_.values):
            for j, value in enumerate(row):
                text = "–" if value is None else f"{value * 100:.0f}"
                axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=8)
        centres = [i + 0.5 for i in range(size)]
        axes.set_yticks(
            centres, [f"{shorten(name)}  {i + 1}" for i, name in enumerate(map_.labels)]
        )
        axes.set_xticks(centres, [str(i + 1) for i in range(size)])
        axes.xaxis.tick_top()
        axes.invert_yaxis()
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return figure
