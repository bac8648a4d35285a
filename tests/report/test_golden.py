"""The exact text of one small table.

After a wanted change: `SUITE_UPDATE_GOLDEN=1 pytest tests/report/test_golden.py`, then read the
difference before committing it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from suite.records import Table
from suite.report.csv_file import render_csv
from suite.report.latex import render_latex
from suite.report.markdown import render_markdown

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(
    ("name", "render"),
    [("table.md", render_markdown), ("table.tex", render_latex), ("table.csv", render_csv)],
)
def test_the_file_is_as_it_was(
    name: str, render: Callable[[Table], str], small_table: Table
) -> None:
    path = GOLDEN / name
    if os.environ.get("SUITE_UPDATE_GOLDEN"):
        path.write_text(render(small_table), encoding="utf-8")
    assert render(small_table) == path.read_text(encoding="utf-8")
