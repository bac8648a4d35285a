"""The exact text of every style in every format, and that LaTeX accepts it.

After a wanted change: `SUITE_UPDATE_GOLDEN=1 pytest tests/report/test_style_golden.py`, then read
the difference before committing it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from handscored import hand_table

from suite.report.csv_file import render_csv
from suite.report.delta_style import delta_table
from suite.report.json_file import render_json
from suite.report.latex import render_latex, standalone
from suite.report.markdown import render_markdown
from suite.report.paper_rows import Roles, paper_table
from suite.report.published_tables import PublishedRow, PublishedTable, with_published
from suite.report.regression_render import (
    regression_csv,
    regression_json,
    regression_latex,
    regression_markdown,
)
from suite.report.regression_style import regression_report

GOLDEN = Path(__file__).parent / "golden"
STYLES = ("paper", "delta", "regression")
PUBLISHED = PublishedTable(
    "a-table",
    "arXiv 0000.00000",
    "A table",
    (PublishedRow("Model_1", "a & b", {"quiz": 0.5, "elsewhere": 0.25}, 0.375),),
)


@cache
def rendered(style: str) -> dict[str, str]:
    table, evidence = hand_table()
    if style == "regression":
        report = regression_report(table, evidence, margin=0.02)
        return {
            "md": regression_markdown(report),
            "tex": regression_latex(report),
            "csv": regression_csv(report),
            "json": regression_json(report),
        }
    if style == "delta":
        styled = delta_table(table, evidence)
    else:
        styled = paper_table(table, evidence, Roles("teacher", "start_1"))
        styled = with_published(styled, PUBLISHED)
    return {
        "md": render_markdown(styled),
        "tex": render_latex(styled),
        "csv": render_csv(styled),
        "json": render_json(styled, (), ("a.json",)),
    }


@pytest.mark.parametrize("suffix", ["md", "tex", "csv", "json"])
@pytest.mark.parametrize("style", STYLES)
def test_the_style_is_written_as_it_was(style: str, suffix: str) -> None:
    path, text = GOLDEN / f"{style}.{suffix}", rendered(style)[suffix]
    if os.environ.get("SUITE_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    texts, numbers = parts(text)
    golden_texts, golden_numbers = parts(path.read_text(encoding="utf-8"))
    assert texts == golden_texts
    # The last digits of unrounded numbers are those of another version of SciPy elsewhere.
    assert numbers == pytest.approx(golden_numbers, rel=1e-9, abs=1e-12)


def parts(text: str) -> tuple[list[str], list[float]]:
    """What is between the numbers with a decimal point, and these."""
    pieces = re.split(r"(\d+\.\d+(?:e-?\d+)?)", text)
    return pieces[::2], [float(number) for number in pieces[1::2]]


@pytest.mark.latex
@pytest.mark.parametrize("style", STYLES)
def test_pdflatex_compiles_the_style(style: str, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed; apt-get install texlive-latex-recommended")
    (tmp_path / "table.tex").write_text(standalone(rendered(style)["tex"]), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert "Missing character" not in log
    assert "Overfull" not in log
    assert "Float too large" not in log
