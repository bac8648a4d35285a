"""All figures, drawn by matplotlib; importing this loads it."""

from suite.report.figures.cost import cost_figure, pareto_front
from suite.report.figures.curves import curve_figure
from suite.report.figures.drawing import figure_svg, save_figure
from suite.report.figures.forest import forest_figure
from suite.report.figures.heat_map import heat_map_figure
from suite.report.figures.reliability import reliability_figure
from suite.report.page_data import (
    CostPoint,
    Curve,
    CurvePanel,
    ForestRow,
    HeatMap,
    ReferenceLine,
    ReliabilityCurve,
)

__all__ = [
    "CostPoint",
    "Curve",
    "CurvePanel",
    "ForestRow",
    "HeatMap",
    "ReferenceLine",
    "ReliabilityCurve",
    "cost_figure",
    "curve_figure",
    "figure_svg",
    "forest_figure",
    "heat_map_figure",
    "pareto_front",
    "reliability_figure",
    "save_figure",
]
