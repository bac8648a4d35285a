from __future__ import annotations

from dataclasses import replace

import pytest

from suite.records import ModelRow, Table
from suite.report.markdown import escape_markdown, render_markdown


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("two\nlines", "two lines"),
        ("<b>&lt;", "&lt;b&gt;&amp;lt;"),
        ("*bold* `code` [link](x)", r"\*bold\* \`code\` \[link\](x)"),
        ("arc_easy _emphasis_", r"arc_easy \_emphasis\_"),
        ("back\\slash ~~gone~~ $x$", r"back\\slash \~\~gone\~\~ \$x\$"),
        ("- item", r"\- item"),
        ("# heading", r"\# heading"),
        ("1. item", r"1\. item"),
        ("0.4.13", "0.4.13"),
    ],
)
def test_text_is_shown_literally(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped


def test_every_line_of_the_table_has_the_same_number_of_cells(small_table: Table) -> None:
    row = replace(small_table.rows[0], model=ModelRow("a|b\n|c|", "w|x"))
    text = render_markdown(replace(small_table, rows=(row,)))
    lines = [line.replace(r"\|", "") for line in text.splitlines() if line.startswith("|")]
    assert [line.count("|") for line in lines] == [7, 7, 7]


def test_weights_and_reference_are_named_in_each_row(small_table: Table) -> None:
    text = render_markdown(small_table)
    assert "| teacher (reference) | bfloat16 |" in text
    assert "| teacher-Q4 | Q4_1, dequantised to bfloat16 |" in text


def test_nothing_is_marked_as_best(small_table: Table) -> None:
    assert "**" not in render_markdown(small_table)


def test_a_table_without_rows_still_renders() -> None:
    table = Table(title="empty", columns=(), rows=(), average_columns=())
    assert render_markdown(table).startswith("# empty\n\n| Model | Weights |\n")
