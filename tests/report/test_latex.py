from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from suite.records import ModelRow, Table
from suite.report.latex import escape_latex, render_latex, standalone

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
    (tmp_path / "table.tex").write_text(standalone(render_latex(table)), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert "Missing character" not in log
    assert "Overfull" not in log
