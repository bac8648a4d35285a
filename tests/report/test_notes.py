from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from handmade import acc, bits_per_byte, run, task_scores
from rich.console import Console

from suite.records import ModelRow, Table
from suite.report.console import console_table
from suite.report.html_page import render_html
from suite.report.latex import render_latex
from suite.report.markdown import render_markdown
from suite.report.notes import legend
from suite.report.tables import ColumnSpec, build_table


def grouped(*others: str) -> Table:
    """A group, whose direction lm-eval leaves open, and other columns by their labels."""
    scores = {
        "group": replace(acc(0.5), higher_is_better=None),
        "up": acc(0.25),
        "down": bits_per_byte(1.0),
    }
    labels = ("group", *others)
    return build_table(
        title="A group",
        models=[ModelRow("a", "float32")],
        columns_spec=[ColumnSpec(label, label) for label in labels],
        runs=[run("a", label, task_scores(scores[label])) for label in labels],
        failures=(),
        provenance={},
    )


def console_text(table: Table) -> str:
    console = Console(width=110, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(console_table(table, 110))
    return capture.get()


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        (("up",), "↑ higher is better."),
        (("down",), "↓ lower is better."),
        (("up", "down"), "↑ higher is better, ↓ lower is better."),
    ],
)
def test_the_legend_explains_only_the_arrows_there_are(
    others: tuple[str, ...], sentence: str
) -> None:
    assert legend(grouped(*others))[0] == sentence


def test_a_column_of_unknown_direction_has_no_arrow_and_is_not_averaged() -> None:
    table = grouped("up")
    assert table.average_columns == ("up",)
    assert table.rows[0].average == 0.25
    assert "| group<br>acc<br>" in render_markdown(table)


@pytest.mark.parametrize(
    "render",
    [render_markdown, render_latex, console_text, lambda table: render_html(table, [])],
    ids=["md", "tex", "console", "html"],
)
def test_without_any_direction_no_format_has_an_arrow(render: Callable[[Table], str]) -> None:
    text = render(grouped())
    assert "0.500" in text
    assert not [sign for sign in ("↑", "↓", "uparrow", "downarrow", "is better") if sign in text]
