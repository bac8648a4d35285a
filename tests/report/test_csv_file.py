from __future__ import annotations

import csv
import io
from dataclasses import replace

from suite.records import Cell, ModelRow, Row, Table
from suite.report.csv_file import HEADER, render_csv


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_reading_the_file_gives_the_unrounded_values(small_table: Table) -> None:
    cells = [cell for row in small_table.rows for cell in (*row.cells, average_cell(row))]
    for line, cell in zip(read(render_csv(small_table)), cells, strict=True):
        for name in ("value", "stderr", "delta"):
            expected = getattr(cell, name)
            assert (float(line[name]) if line[name] else None) == expected


def average_cell(row: Row) -> Cell:
    return Cell(value=row.average, delta=row.average_delta)


def test_lines_follow_the_table_and_say_how_the_score_was_measured(small_table: Table) -> None:
    lines = read(render_csv(small_table))
    labels = [*(column.label for column in small_table.columns), "average"]
    assert [(line["model"], line["label"]) for line in lines] == [
        (row.model.name, label) for row in small_table.rows for label in labels
    ]
    known = {
        "kind": "scores",
        "model": "teacher",
        "weights": "bfloat16",
        "task": "gsm8k",
        "label": "word_problems",
        "metric": "exact_match",
        "filter": "strict-match",
        "value": "0.25",
        "stderr": "0.02",
        "n": "100",
        "shots": "5",
        "version": "3.0",
        "truncated": "0",
    }
    assert lines[1] == dict.fromkeys(HEADER, "") | known


def test_averages_are_lines_without_a_task(small_table: Table) -> None:
    lines = [line for line in read(render_csv(small_table)) if line["metric"] == "mean"]
    assert [(line["label"], line["task"]) for line in lines] == [("average", "")] * 3
    known = {name: text for name, text in lines[2].items() if text}
    assert (float(known.pop("value")), float(known.pop("delta"))) == (
        small_table.rows[2].average,
        small_table.rows[2].average_delta,
    )
    assert known == {
        "kind": "scores",
        "model": "teacher-Q4",
        "weights": "Q4_1, dequantised to bfloat16",
        "label": "average",
        "metric": "mean",
    }
    assert (lines[1]["value"], lines[1]["delta"]) == ("", "")


def test_without_an_average_there_are_no_lines_for_it(small_table: Table) -> None:
    lines = read(render_csv(replace(small_table, average_columns=())))
    assert "average" not in {line["label"] for line in lines}


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
