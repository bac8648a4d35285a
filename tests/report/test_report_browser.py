"""The page with details in a real browser: filters, flips, text of items, both colour schemes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import DARK, look_at, screenshot
from flip_cases import ATTACK, MIXTURE, REFERENCE, STUDENT, runs, source, table_of
from matplotlib.image import imread

from suite.records import Estimate, Sample
from suite.report.html_page import render_html
from suite.report.page_data import Curve, CurvePanel, FidelityRow, ReferenceLine
from suite.report.page_details import page_details

pytestmark = pytest.mark.browser

WIDTHS = (390, 1280)

LOOK = """
function change(element, value, name) {
  element.value = value;
  element.dispatchEvent(new Event(name, { bubbles: true }));
}
function look(page, view) {
  const byId = (id) => page.getElementById(id);
  const shownModels = () => [...page.querySelectorAll("#score-table tbody tr:not(.section) th")]
    .filter((th) => th.offsetParent !== null).map((th) => th.dataset.value);
  const shownHeadings = () => [...page.querySelectorAll("#score-table thead th button")]
    .filter((one) => one.offsetParent !== null).map((one) => one.textContent);
  const found = {};

  page.querySelectorAll("#score-table thead button")[1].click();
  page.querySelectorAll("#score-table thead button")[1].click();
  found.sorted = shownModels();
  const filter = byId("filter").elements;
  change(filter.model, "STUDENT", "input");
  found.byModel = [shownModels(), byId("filter-status").textContent];
  change(filter.model, "", "input");
  change(filter.task, "sum", "input");
  found.byTask = shownHeadings();
  change(filter.task, "", "input");
  change(filter.section, "ensembles", "input");
  found.bySection = shownModels();
  change(filter.section, "", "input");
  found.all = [shownModels(), byId("filter-status").textContent];

  const choice = byId("flip-choice").elements;
  const options = (select) => [...select.options].map((one) => one.textContent);
  const pick = (select, text) =>
    change(select, [...select.options].find((one) => one.textContent === text).value, "change");
  const cells = () => [...page.querySelectorAll("#flip-groups tbody tr")]
    .map((row) => [...row.cells].map((cell) => cell.textContent));
  found.models = [options(choice.first), options(choice.second)];
  pick(choice.second, "mixture");
  found.forward = [byId("flip-status").textContent, cells()];
  pick(choice.first, "mixture");
  pick(choice.second, "teacher");
  found.backward = [byId("flip-status").textContent, cells()];
  pick(choice.change, "right → wrong");
  found.changes = [...page.querySelectorAll("#flip-items .change")].map((one) => one.textContent);
  found.names = [...page.querySelectorAll("#flip-items article:first-child dt")]
    .map((one) => one.textContent);
  pick(choice.second, "mixture");
  found.same = byId("flip-status").textContent;
  pick(choice.second, "teacher");
  pick(choice.change, "both");
  for (let click = 0; !byId("flip-more").hidden && click < 50; click++) byId("flip-more").click();
  found.items = page.querySelectorAll("#flip-items article").length;
  found.texts = [...page.querySelectorAll("#flip-items pre")].map((one) => one.textContent);
  found.scripts = page.querySelectorAll("script").length;

  found.taskLink = page.querySelector("#score-table thead a").getAttribute("href");
  view.location.hash = found.taskLink;
  page.querySelectorAll("details").forEach((details) => { details.open = true; });
  found.pageWidth = page.documentElement.scrollWidth;
  found.bodyHeight = page.body.scrollHeight;
  found.drawings = page.querySelectorAll("figure svg[role=img]").length;
  found.focusable = [...page.querySelectorAll(".table-box, .drawing")]
    .filter((box) => box.scrollWidth > box.clientWidth)
    .every((box) => box.tabIndex === 0);
  const colours = {};
  for (const place of ["h1", "#legend", "nav a", "#score-table small", "#flip-status", ".badge",
                       "#filter input", "figcaption", ".drawing text", "article dt", "td.s9",
                       "article pre", "td.interval"]) {
    const element = page.querySelector(place);
    const style = view.getComputedStyle(element);
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      layers.push(view.getComputedStyle(one).backgroundColor);
    }
    colours[place] = [element.closest("svg") ? style.fill : style.color, layers];
  }
  found.colours = colours;
  return found;
}
"""


@lru_cache
def page() -> str:
    """Drawn once for both colour schemes."""
    scored = runs()
    points = tuple(Estimate(v, v - 0.1, v + 0.1, 0.95, 60, "t") for v in (0.4, 0.5, 0.6))
    panel = CurvePanel("sums", (Curve("a", (1, 2, 3), points),), "acc", (ReferenceLine("b", 0.7),))
    table = table_of(scored)
    details = page_details(
        scored,
        table,
        curves=[panel],
        fidelity=[FidelityRow("agreement", 0.8, 0.7, 0.9)],
        source=source(ATTACK),
    )
    samples = [Sample(STUDENT, "sums", ATTACK, ATTACK, f"{ATTACK} {'x' * 400}", 0.0)]
    return render_html(table, samples, details=details)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def seen(folder: Path) -> tuple[dict[str, Any], str]:
    return look_at(page(), folder, LOOK, WIDTHS)


@pytest.fixture(scope="module", params=WIDTHS)
def found(seen: tuple[dict[str, Any], str], request: pytest.FixtureRequest) -> dict[str, Any]:
    """What was found at one width."""
    content: dict[str, Any] = seen[0][str(request.param)]
    assert "error" not in content, content
    return content | {"width": request.param}


def test_the_console_is_free_of_errors(seen: tuple[dict[str, Any], str]) -> None:
    assert "CONSOLE" not in seen[1]


def test_sorting_keeps_sections_apart(found: dict[str, Any]) -> None:
    assert found["sorted"] == [STUDENT, REFERENCE, MIXTURE]


def test_the_table_is_filtered_by_model_task_and_section(found: dict[str, Any]) -> None:
    assert found["byModel"] == [[STUDENT], "1 of 3 rows, 3 of 3 columns"]
    assert found["byTask"] == ["Model", "sums ↑"]
    assert found["bySection"] == [MIXTURE]
    assert found["all"] == [[STUDENT, REFERENCE, MIXTURE], ""]


def test_two_chosen_models_show_their_flips_in_both_directions(found: dict[str, Any]) -> None:
    assert found["models"] == [[REFERENCE, STUDENT, MIXTURE]] * 2
    scored = runs()
    before, after = (scored[name, "choices"].items for name in (REFERENCE, MIXTURE))
    assert before is not None
    assert after is not None
    changed = list(zip(before.values, after.values, strict=True))
    lost, gained = changed.count((1, 0)), changed.count((0, 1))
    status, rows = found["forward"]
    net = f"−{lost - gained}" if lost > gained else f"+{gained - lost}"
    assert status.startswith(
        f"{lost} right → wrong, {gained} wrong → right of 60 items, net {net};"
    )
    assert rows[0] == ["all items", "60", str(lost), str(gained), net]
    assert sum(int(row[2]) for row in rows if row[0].startswith("length")) == lost
    backward = found["backward"][1]
    assert backward[0][2:4] == [str(gained), str(lost)]
    assert found["changes"] == ["✗ right → wrong"] * min(gained, 20)
    assert found["names"] == ["Prompt", "Target", MIXTURE, REFERENCE]
    assert found["same"] == "Choose two different models."
    assert found["items"] == lost + gained


def test_a_script_in_an_item_is_shown_as_text(found: dict[str, Any]) -> None:
    assert any(ATTACK in text for text in found["texts"])
    # The data and the page's own.
    assert found["scripts"] == 2


def test_nothing_is_wider_than_the_screen(found: dict[str, Any]) -> None:
    assert found["pageWidth"] <= found["width"]
    assert found["drawings"] >= 6
    assert found["taskLink"] == "#task-1"


def test_what_scrolls_can_be_reached_by_keyboard(found: dict[str, Any]) -> None:
    assert found["focusable"] is True


def channels(colour: str) -> list[float]:
    parts = [
        float(part) for part in colour[colour.index("(") + 1 : -1].replace("/", ",").split(",")
    ]
    return [*(part / 255 for part in parts[:3]), *(parts[3:] or [1.0])]


def luminance(parts: list[float]) -> float:
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrasts(found: dict[str, Any]) -> dict[str, float]:
    """WCAG's contrast of each text against what lies behind it."""
    ratios = {}
    for place, (ink, layers) in found["colours"].items():
        below = [1.0, 1.0, 1.0]
        for layer in reversed(layers):
            *colour, alpha = channels(layer)
            below = [alpha * c + (1 - alpha) * b for c, b in zip(colour, below, strict=True)]
        light, dark = sorted((luminance(channels(ink)), luminance(below)), reverse=True)
        ratios[place] = (light + 0.05) / (dark + 0.05)
    return ratios


def test_text_stands_out_in_the_light(found: dict[str, Any]) -> None:
    assert {place: ratio for place, ratio in contrasts(found).items() if ratio < 4.5} == {}


def test_text_stands_out_in_the_dark(tmp_path: Path) -> None:
    content, log = look_at(page(), tmp_path, LOOK, (390,), DARK)
    assert "error" not in content["390"], content
    assert "CONSOLE" not in log
    *_, paper = content["390"]["colours"]["h1"][1][:-1]
    assert luminance(channels(paper)) < 0.05
    assert {p: ratio for p, ratio in contrasts(content["390"]).items() if ratio < 4.5} == {}


def test_a_picture_of_the_page_is_not_blank(seen: tuple[dict[str, Any], str], folder: Path) -> None:
    picture = imread(screenshot(folder, sum(WIDTHS)))[..., :3]
    assert picture.shape[1] == sum(WIDTHS)
    for part in (picture[:, : WIDTHS[0]], picture[:, WIDTHS[0] :]):
        is_ink = np.abs(part - 1.0).max(axis=2) > 0.5
        assert 0.005 < is_ink.mean() < 0.5
