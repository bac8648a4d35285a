from __future__ import annotations

import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from rich.console import Console

from suite.records import ModelRow, Table
from suite.report.console import console_svg, console_table


def printed(table: Table, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(console_table(table, width))
    return capture.get()


def with_columns(table: Table, count: int) -> Table:
    """The table with its first column repeated under other labels."""
    columns = tuple(replace(table.columns[0], label=f"task_{i:02}") for i in range(count))
    rows = tuple(replace(row, cells=row.cells[:1] * count) for row in table.rows)
    return replace(table, columns=columns, rows=rows)


def test_a_small_table_is_one_block_of_models_by_tasks(small_table: Table) -> None:
    text = printed(small_table, 110)
    assert text.count("weights") == 2  # the header and one note
    assert re.search(r"student_1 +40\.0 ±1\.2 \[1\] +– \[2\] +1\.250", text)
    assert "[2] failed: item 3 needs 2210 tokens" in text


@pytest.mark.parametrize("width", [60, 100, 120])
def test_fifteen_columns_fit_without_wrapped_headings(small_table: Table, width: int) -> None:
    text = printed(with_columns(small_table, 15), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert all(f"task_{i:02} ↑" in text for i in range(15))
    assert text.count("33.3 ±1.2") == 15


def test_names_are_not_read_as_markup_or_terminal_escapes(small_table: Table) -> None:
    row = replace(small_table.rows[0], model=ModelRow("[red]x[/red]\x1b[2J", "float32"))
    assert "[red]x[/red][2J" in printed(replace(small_table, rows=(row,)), 110)


def test_the_picture_is_valid_and_asks_for_nothing_from_a_server(small_table: Table) -> None:
    svg = console_svg(small_table)
    ElementTree.fromstring(svg)
    assert "url(http" not in svg
    assert "@font-face" not in svg


def test_the_picture_of_a_table_is_always_the_same(small_table: Table) -> None:
    assert console_svg(small_table) == console_svg(small_table)


@pytest.mark.parametrize("width", [60, 110])
def test_provenance_is_below_the_notes_one_line_a_heading(small_table: Table, width: int) -> None:
    table = replace(small_table, provenance={"Seeds": "data 0", "Hardware": "a [red]\x1b[2J " * 9})
    lines = [line.rstrip() for line in printed(table, width).splitlines()]
    note = lines.index("teacher-Q4: weights Q4_1, dequantised to bfloat16")
    assert lines[note + 1] == "Seeds: data 0"
    assert lines[note + 2].startswith("Hardware: a [red][2J a [red][2J")
    assert max(len(line) for line in lines) <= width


def test_the_picture_has_the_provenance(small_table: Table) -> None:
    text = " ".join(ElementTree.fromstring(console_svg(small_table)).itertext())
    assert "lm-eval:\xa00.4.13" in text
