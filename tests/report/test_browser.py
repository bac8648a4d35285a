"""The page in a real browser: nothing injected runs, nothing is cut off, sorting works."""

from __future__ import annotations

from typing import Any

import pytest
from browser import FLAGS as FLAGS
from browser import look_at

from suite.records import Sample, Table
from suite.report.html_page import render_html

pytestmark = pytest.mark.browser

ATTACK = (
    "<script>document.title='taken over'</script><img src=x onerror=\"document.title='taken'\">"
)

LOOK = """
function look(page) {
  const box = page.querySelector(".table-box");
  const order = () => [...page.querySelectorAll("tbody th")].map((th) => th.dataset.value);
  const heading = page.querySelectorAll("thead th")[2];
  page.querySelectorAll("details").forEach((details) => { details.open = true; });
  const result = {
    title: page.title,
    pageWidth: page.documentElement.scrollWidth,
    tableScrolls: box.scrollWidth > box.clientWidth,
    before: order(),
    orders: [],
  };
  for (let click = 0; click < 2; click++) {
    heading.querySelector("button").click();
    result.orders.push([heading.getAttribute("aria-sort"), order()]);
  }
  return result;
}
"""


@pytest.fixture(scope="module")
def seen(small_table: Table, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the browser found in the page at each width."""
    samples = [
        Sample(row.model.name, "arc_easy", f"{ATTACK} {'x' * 500}", ATTACK, ATTACK, 1.0)
        for row in small_table.rows
    ]
    page = render_html(small_table, samples)
    return look_at(page, tmp_path_factory.mktemp("page"), LOOK, (390, 1280))[0]


@pytest.mark.parametrize("width", [390, 1280])
def test_injected_text_does_not_run(seen: dict[str, Any], width: int) -> None:
    assert seen[str(width)]["title"] == "Three models on three tasks"


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_never_wider_than_the_screen(seen: dict[str, Any], width: int) -> None:
    assert seen[str(width)]["pageWidth"] <= width


def test_a_wide_table_scrolls_in_its_own_box_on_a_phone(seen: dict[str, Any]) -> None:
    assert seen["390"]["tableScrolls"] is True
    assert seen["1280"]["tableScrolls"] is False


def test_a_click_sorts_and_a_missing_score_stays_last(seen: dict[str, Any]) -> None:
    page = seen["1280"]
    assert page["before"] == ["teacher", "student_1", "teacher-Q4"]
    # teacher and teacher-Q4 have the same score here, so they keep their order.
    assert page["orders"] == [
        ["descending", ["teacher", "teacher-Q4", "student_1"]],
        ["ascending", ["teacher", "teacher-Q4", "student_1"]],
    ]
