from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

from suite.records import ModelRow, Row, Sample, Table
from suite.report.html_page import render_html

ATTACK = "<script>alert(1)</script>"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;"


class Tags(HTMLParser):
    """All start tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def sample(index: int, text: str = "5") -> Sample:
    return Sample("teacher", "arc_easy", f"prompt {index}\n  {text}", text, text, 1.0)


def attacked(table: Table) -> Table:
    row = table.rows[0]
    model = ModelRow(f"{ATTACK}\" onclick='x'", ATTACK)
    cells = tuple(replace(cell, note=f"failed: {ATTACK}") for cell in row.cells)
    return replace(
        table,
        title=ATTACK,
        columns=tuple(replace(column, label=ATTACK, filter=ATTACK) for column in table.columns),
        rows=(Row(model, cells, row.average),),
        notes=(ATTACK,),
        provenance={ATTACK: ATTACK},
    )


def test_text_of_models_and_data_is_never_markup(small_table: Table) -> None:
    table = attacked(small_table)
    hostile = Sample(table.rows[0].model.name, ATTACK, ATTACK, ATTACK, ATTACK, 0.0)
    page = render_html(table, [hostile])
    assert ATTACK not in page
    assert page.count(ESCAPED) >= 10
    tags = Tags(page)
    assert len(tags.named("script")) == 1
    assert not [a for _, attributes in tags.found for a in attributes if a.startswith("on")]


def test_the_page_refers_to_nothing_outside_itself(small_table: Table) -> None:
    tags = Tags(render_html(small_table, [sample(0)]))
    links = [
        value
        for _, attributes in tags.found
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "action"} and value is not None
    ]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)


def test_only_the_pages_own_script_is_allowed_to_run(small_table: Table) -> None:
    page = render_html(small_table, [])
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page


def test_a_dash_links_to_its_footnote(small_table: Table) -> None:
    page = render_html(small_table, [])
    assert re.search(r'–<sup><a href="#note-2" aria-label="note 2">2</a></sup>', page)
    assert '<li id="note-2">failed: item 3 needs 2210 tokens, the model reads 2048</li>' in page


def test_cells_are_sorted_by_the_unrounded_value_and_dashes_by_none(small_table: Table) -> None:
    page = render_html(small_table, [])
    assert page.count(f'data-value="{1 / 3!r}"') == 1
    cells = Tags(page).named("td")
    # Two scores, and an average that one of them enters.
    missing = [cell for cell in cells if "data-value" not in cell]
    assert len(cells) == 12
    assert len(missing) == 3


def test_the_table_can_be_read_by_a_screen_reader(small_table: Table) -> None:
    tags = Tags(render_html(small_table, []))
    headings = tags.named("th")
    assert [heading["scope"] for heading in headings] == ["col"] * 5 + ["row"] * 3
    assert [heading.get("aria-sort") for heading in headings[:5]] == ["none"] * 5
    assert len(tags.named("caption")) == 1
    assert len(tags.named("button")) == 5


def test_low_scores_come_first_where_less_is_better(small_table: Table) -> None:
    headings = Tags(render_html(small_table, [])).named("th")
    first = [heading.get("data-first") for heading in headings[1:5]]
    assert first == ["descending", "descending", None, "descending"]


def test_samples_keep_line_breaks_and_are_limited_for_each_model(small_table: Table) -> None:
    page = render_html(small_table, [sample(i) for i in range(9)], max_samples=4)
    assert "prompt 3\n  5" in page
    assert "prompt 4" not in page
    assert page.count("<details>") == 1
    assert "4 items shown" in page


def test_without_samples_there_is_no_section_for_them(small_table: Table) -> None:
    assert 'id="samples"' not in render_html(small_table, [])
