from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from handscored import hand_table

from suite.records import ModelRow, Table
from suite.report.latex import escape_latex, render_latex, standalone
from suite.report.latex_floats import MAX_HEIGHT, ModelLines, Panel, floats
from suite.report.published_tables import read_published, with_published
from suite.report.regression_render import regression_latex
from suite.report.regression_style import regression_report

NASTY = '_%&#${}~^\\ <a|b> "q" `x` [o] -- é ł α µ ≤ – 日本 🙂 \x1b'


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("arc_easy", r"arc\_easy"),
        ("100% & #1 $x$", r"100\% \& \#1 \$x\$"),
        ("{a}", r"\{a\}"),
        ("~^\\", r"\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ("<a|b>", "$<$a$|$b$>$"),
        ("[option]", "{[}option{]}"),
        ("a--b---c", "a-{}-b-{}-{}-c"),
        ("↑ − ±", r"$\uparrow$ $-$ $\pm$"),
        ("–", "--"),
        ("é ñ", "é ñ"),
        ("ő ﬁ", "o fi"),
        ("λ", r"$\lambda$"),
        ("日", "?"),
        ("½ ² e\u0301", "? ? é"),
    ],
)
def test_text_is_printed_literally(text: str, escaped: str) -> None:
    assert escape_latex(text) == escaped


def test_no_character_outside_latin_1_reaches_pdflatex() -> None:
    text = escape_latex("".join(chr(code) for code in range(0x20, 0x3000)))
    assert all(ord(character) < 0x100 for character in text)


def test_many_columns_become_panels_that_repeat_the_models(small_table: Table) -> None:
    columns = tuple(replace(small_table.columns[0], label=f"task {i}") for i in range(15))
    rows = tuple(replace(row, cells=row.cells[:1] * 15) for row in small_table.rows)
    tex = render_latex(replace(small_table, columns=columns, rows=rows))
    assert tex.count(r"\toprule") == 3
    assert tex.count("student\\_1 &") == 3
    assert tex.count("& Average") == 1


def test_nothing_is_marked_as_best(small_table: Table) -> None:
    tex = render_latex(small_table)
    assert r"\textbf" not in tex
    assert r"\underline" not in tex


def test_provenance_is_one_small_paragraph_below_the_notes(small_table: Table) -> None:
    _, below = render_latex(small_table).split("dequantised to bfloat16\n\\par\\smallskip")
    assert below.startswith(r"{\scriptsize Seed: 0 $\cdot$ lm-eval: 0.4.13\par}")
    without = render_latex(replace(small_table, provenance={}))
    assert without.endswith("dequantised to bfloat16\n\\end{minipage}\n\\end{table}\n")


def test_a_reference_of_unknown_weights_is_told_without_a_comma(small_table: Table) -> None:
    first = replace(small_table.rows[0], model=ModelRow("teacher", "", is_reference=True))
    tex = render_latex(replace(small_table, rows=(first, *small_table.rows[1:])))
    assert "\n{\\scriptsize reference} &" in tex


def with_long_table(small_table: Table) -> Table:
    """Measured rows on published tasks beside a whole published table, in two panels."""
    names = ("piqa", "arc_challenge", "boolq", "mmlu", "ifeval", "quiz", "novels")
    columns = tuple(replace(small_table.columns[0], label=name, task=name) for name in names)
    rows = tuple(replace(row, cells=row.cells[:1] * 7) for row in small_table.rows)
    table = replace(small_table, columns=columns, rows=rows, average_columns=names)
    return with_published(table, read_published("alm-table-1"))


def test_a_long_table_is_cut_into_floats_under_one_number(small_table: Table) -> None:
    tex = render_latex(with_long_table(small_table))
    assert tex.count(r"\begin{table}[tp]") == tex.count(r"\end{table}") == 2
    assert tex.count(r"\addtocounter{table}{-1}") == tex.count("(continued)}") == 1
    assert tex.count(r"\label{") == 1
    assert tex.count("{\\scriptsize arXiv 2503.20083}") == 0
    assert tex.count("Gemma2-2B-IT $\\to$ Qwen2, ALM &") == 2


def test_a_panel_longer_than_a_page_is_cut_between_rows() -> None:
    rows = tuple(ModelLines(f"m{i}", ("1",), (), 17) for i in range(60))
    panel = Panel(("a",), (("acc",),), (("first", rows[:40]), ("second", rows[40:])))
    pages = floats([panel])
    assert [row for page in pages for part in page for _, held in part.blocks for row in held] == [
        *rows
    ]
    num_rows = [sum(len(held) for _, held in part.blocks) for page in pages for part in page]
    assert num_rows == [22, 20, 18]
    assert all(sum(part.height for part in page) <= MAX_HEIGHT for page in pages)


@pytest.mark.latex
def test_verdicts_on_many_tasks_fit_on_their_pages(tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed; apt-get install texlive-latex-recommended")
    report = regression_report(*hand_table(), margin=0.02)
    long = replace(report.tables[0], rows=report.tables[0].rows * 8)
    tex = regression_latex(replace(report, tables=(long, *report.tables[1:2])))
    assert tex.count("(continued)}") == 2
    log = compiled(tex, tmp_path)
    assert "Float too large" not in log
    assert "Overfull" not in log


@pytest.mark.latex
def test_a_long_table_fits_on_its_pages(small_table: Table, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed; apt-get install texlive-latex-recommended")
    tex = render_latex(with_long_table(small_table))
    log = compiled(tex, tmp_path)
    assert "Float too large" not in log
    assert "Overfull" not in log


@pytest.mark.latex
def test_a_table_with_every_special_character_compiles(small_table: Table, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed; apt-get install texlive-latex-recommended")
    nasty_row = replace(small_table.rows[0], model=ModelRow(NASTY, NASTY))
    bracket_row = replace(small_table.rows[0], model=ModelRow("[1ex] first", "* second"))
    cells = tuple(replace(cell, note=NASTY) for cell in small_table.rows[0].cells)
    table = replace(
        small_table,
        title=NASTY,
        columns=tuple(replace(c, label=f"{NASTY} {c.label}") for c in small_table.columns),
        rows=(*small_table.rows, nasty_row, bracket_row, replace(nasty_row, cells=cells)),
        notes=(NASTY, "/a/very/long/path" * 20),
        provenance={
            NASTY: NASTY,
            "Recipe hash": "0123456789abcdef",
            "Versions": ", ".join(f"{name} 2.9.0+cpu" for name in ["transformers"] * 12),
            "Hardware": "/a/very/long/path" * 20,
        },
    )
    log = compiled(render_latex(table), tmp_path)
    assert "Missing character" not in log
    assert "Overfull" not in log
    assert "Float too large" not in log


def compiled(tex: str, folder: Path) -> str:
    """What pdflatex says of a document with this table."""
    (folder / "table.tex").write_text(standalone(tex), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-2000:]
    return log
