"""Figures: what a reader without colour or sight gets, and that equal figures are equal files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from suite.errors import ConfigError, SuiteError
from suite.records import Estimate
from suite.report.figures import (
    cost_figure,
    curve_figure,
    figure_svg,
    forest_figure,
    heat_map_figure,
    pareto_front,
    reliability_figure,
    save_figure,
)
from suite.report.figures.drawing import COLOURS, look
from suite.report.page_data import (
    CostPoint,
    Curve,
    ForestRow,
    HeatMap,
    ReferenceLine,
    ReliabilityCurve,
)

ATTACK = "<script>alert(1)</script> $x_1$ & co"


def estimate(value: float | None, width: float | None = 0.05) -> Estimate:
    if value is None or width is None:
        return Estimate(value, None, None, 0.95, 9, "t", "too few")
    return Estimate(value, value - width, value + width, 0.95, 100, "t")


def curves() -> Figure:
    points = tuple(estimate(value) for value in (0.2, None, 0.4))
    return curve_figure(
        [Curve(ATTACK, (10, 20, 30), points)], references=[ReferenceLine("teacher", 0.5)]
    )


def forest() -> Figure:
    rows = [
        ForestRow(ATTACK, estimate(-4.0, 2.0), is_significant=True, group="task"),
        ForestRow("alone", estimate(1.0, None), group="task"),
        ForestRow("unknown", estimate(None)),
    ]
    return forest_figure(rows, unit="points", reference="teacher")


def heat_map() -> Figure:
    values = ((1.0, None), (None, 1.0))
    return heat_map_figure(HeatMap((ATTACK, "b"), values, ((3, 0), (0, 3))))


def cost() -> Figure:
    return cost_figure([CostPoint(ATTACK, 0.1, 50.0), CostPoint("b", 2.0, 40.0)], score_label="%")


def reliability() -> Figure:
    curve = ReliabilityCurve(
        ATTACK, (0.3, 0.9), (0.2, 0.8), (5, 50), estimate(0.1), estimate(0.2, None)
    )
    return reliability_figure([curve])


FIGURES = [curves, forest, heat_map, cost, reliability]


@pytest.mark.parametrize("draw", FIGURES)
def test_a_figure_of_the_page_is_well_formed_and_holds_text_as_text(
    draw: Callable[[], Figure],
) -> None:
    svg = figure_svg(draw(), title=f"Title {ATTACK}", description="what it shows")
    root = ElementTree.fromstring(svg)
    texts = [element.text or "" for element in root.iter() if element.tag.endswith("}text")]
    assert any("script" in text for text in texts)
    assert "<script" not in svg
    assert root.get("role") == "img"
    names = root.get("aria-labelledby")
    assert names is not None
    labels = {element.get("id"): element.text for element in root.iter() if element.get("id")}
    assert [labels[name] for name in names.split()] == [f"Title {ATTACK}", "what it shows"]


@pytest.mark.parametrize("draw", FIGURES)
def test_a_figure_of_the_page_takes_the_ink_of_the_page(draw: Callable[[], Figure]) -> None:
    svg = figure_svg(draw(), title="t", description="d")
    assert "currentColor" in svg
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", svg)) <= set(COLOURS)


def test_the_same_figure_is_the_same_text_and_the_same_file(tmp_path: Path) -> None:
    assert figure_svg(curves(), title="t", description="d") == figure_svg(
        curves(), title="t", description="d"
    )
    for ending in ("svg", "png", "pdf"):
        first, second = tmp_path / f"1.{ending}", tmp_path / f"2.{ending}"
        save_figure(heat_map(), first)
        save_figure(heat_map(), second)
        assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["1"] * 3 + ["2"] * 3


def test_a_name_that_the_font_lacks_is_no_warning(tmp_path: Path) -> None:
    points = tuple(estimate(value) for value in (0.2, 0.4))
    figure = curve_figure([Curve(model, (10, 20), points) for model in ("通义千问", "b")])
    assert "千问" in figure_svg(figure, title="t", description="d")
    save_figure(figure, tmp_path / "c.png")


def test_two_figures_of_a_page_share_no_name() -> None:
    first, second = (
        set(re.findall(r' id="([^"]+)"', figure_svg(forest(), title=title, description="d")))
        for title in ("one", "two")
    )
    assert first
    assert not first & second


def test_another_ending_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        save_figure(curves(), Path("plot.bmp"))
    assert str(error.value) == ("plot.bmp: a figure is written as .svg, .png or .pdf, not '.bmp'")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    path = tmp_path / "taken" / "plot.svg"
    with pytest.raises(SuiteError) as error:
        save_figure(curves(), path)
    assert str(error.value).startswith(f"cannot write {path} (")
    assert str(error.value).endswith("); give another file")


def test_series_differ_in_more_than_colour() -> None:
    looks = [look(index) for index in range(40)]
    assert len({(str(one.marker), str(one.line)) for one in looks}) == 40


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", ["#ffffff", "#15181b"])
@pytest.mark.parametrize("colour", COLOURS)
def test_series_stand_out_from_the_light_and_the_dark_page(colour: str, page: str) -> None:
    light, dark = sorted((luminance(colour), luminance(page)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3


def test_a_row_without_a_difference_says_so() -> None:
    assert "no difference known" in figure_svg(forest(), title="t", description="d")


POINTS = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 5)).map(lambda p: CostPoint("m", p[0], p[1])),
    min_size=1,
    max_size=8,
)


@settings(max_examples=50, deadline=None)
@given(POINTS)
def test_the_front_holds_just_the_points_that_none_beats(points: list[CostPoint]) -> None:
    front = pareto_front(points)
    for point in points:
        beaten = False
        for other in points:
            no_worse = (
                other.seconds_per_item <= point.seconds_per_item and other.score >= point.score
            )
            better = other.seconds_per_item < point.seconds_per_item or other.score > point.score
            beaten = beaten or (no_worse and better)
        assert (point in front) is not beaten
    assert [p.seconds_per_item for p in front] == sorted(p.seconds_per_item for p in front)
