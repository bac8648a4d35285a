from __future__ import annotations

import csv
import io
from dataclasses import replace

from suite.records import Cell, ModelRow, Table
from suite.report.csv_file import HEADER, render_csv


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_reading_the_file_gives_the_unrounded_values(small_table: Table) -> None:
    cells = [cell for row in small_table.rows for cell in row.cells]
    for line, cell in zip(read(render_csv(small_table)), cells, strict=True):
        for name in ("value", "stderr", "delta"):
            expected = getattr(cell, name)
            assert (float(line[name]) if line[name] else None) == expected


def test_lines_follow_the_table_and_say_how_the_score_was_measured(small_table: Table) -> None:
    lines = read(render_csv(small_table))
    assert [(line["model"], line["label"]) for line in lines] == [
        (row.model.name, column.label) for row in small_table.rows for column in small_table.columns
    ]
    first = ("teacher", "bfloat16", "gsm8k", "word_problems", "exact_match", "strict-match")
    others = ("0.25", "0.02", "", "100", "5", "3.0", "0", "")
    assert lines[1] == dict(zip(HEADER, (*first, *others), strict=True))


def test_text_with_commas_quotes_and_line_breaks_comes_back(small_table: Table) -> None:
    name = 'a, "b"\nc'
    cells = (Cell(value=None, note="x,\ny", num_truncated=None), *small_table.rows[0].cells[1:])
    row = replace(small_table.rows[0], model=ModelRow(name, "w"), cells=cells)
    line = read(render_csv(replace(small_table, rows=(row,))))[0]
    assert (line["model"], line["note"], line["value"], line["truncated"]) == (
        name,
        "x,\ny",
        "",
        "",
    )
