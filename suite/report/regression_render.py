"""Verdicts on tasks as Markdown, LaTeX, CSV, JSON, one page, and for the terminal."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import asdict

from markupsafe import Markup
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from suite.records import Table
from suite.report.csv_file import exact
from suite.report.formatting import (
    MISSING,
    filter_text,
    format_delta,
    format_interval,
    format_score,
    heading,
    metric_text,
    one_line,
    size_text,
)
from suite.report.json_file import SCHEMA_VERSION
from suite.report.latex import environment, escape_latex
from suite.report.markdown import escape_markdown
from suite.report.page import render_page
from suite.report.page_data import PageDetails
from suite.report.page_json import MAX_BYTES, flips_json
from suite.report.page_views import details_view
from suite.report.regression_style import RegressionReport, RegressionRow, RegressionTable

# Of the page's bytes, what items that flipped may take; the rest is small.
FLIP_BYTES = MAX_BYTES - 4_000_000

# Tasks in one table of LaTeX, with room for the notes below the last.
ROWS_PER_FLOAT = 12

# What each verdict is printed with, so that nobody needs colour to tell them apart.
SIGNS = {"regressed": "▼", "improved": "▲", "pass": "=", "inconclusive": "?", None: ""}

HEADER = (
    "model",
    "reference",
    "task",
    "label",
    "metric",
    "filter",
    "reference_value",
    "value",
    "delta",
    "delta_low",
    "delta_high",
    "level",
    "test",
    "paired",
    "p",
    "p_adjusted",
    "mde",
    "margin",
    "verdict",
    "note",
)


def headings(table: RegressionTable) -> tuple[str, ...]:
    """The columns of one table."""
    return ("Task", table.reference, table.model.name, "Difference", "p", "MDE", "Verdict")


def cells(row: RegressionRow) -> tuple[tuple[str, str], ...]:
    """A row's texts; of each the second is printed in small type."""
    column, comparison = row.column, row.comparison
    percent = column.unit_interval
    details = [line(column) for line in (metric_text, filter_text, size_text)]
    task = (heading(column), ", ".join(text for text in details if text))
    scores = [
        (
            format_score(one.value if one else None, percent=percent),
            format_interval(one, percent=percent),
        )
        for one in (row.reference, row.new)
    ]
    if comparison is None:
        nothing = (MISSING, "")
        return (task, *scores, nothing, nothing, nothing, (MISSING, row.note or ""))
    difference = comparison.difference
    return (
        task,
        *scores,
        (
            format_delta(difference.value, percent=percent) or MISSING,
            format_interval(difference, percent=percent, signed=True),
        ),
        (format_p(comparison.p_adjusted), ""),
        (format_score(comparison.mde, percent=percent), ""),
        (f"{SIGNS[row.verdict]} {row.verdict}" if row.verdict else MISSING, row.note or ""),
    )


def format_p(p_value: float | None) -> str:
    """A p-value with two digits that mean something."""
    if p_value is None:
        return MISSING
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.2g}"


def about(table: RegressionTable) -> tuple[str, ...]:
    """How to read a table, and what was tested."""
    return (
        f"Difference is {table.model.name} minus {table.reference}, with its interval at the level "
        f"at which Holm judged the task (in all {1 - table.level:g}); p is after Holm; MDE is the "
        "smallest true difference found with 80 % power at that level.",
        f"Regressed: the interval is below 0 and the drop at least {table.margin:g} (of 1, or in "
        f"the metric's unit); improved: the same upwards; pass: a drop of {table.margin:g} is "
        "excluded; inconclusive: neither.",
    )


def regression_markdown(report: RegressionReport) -> str:
    """One table for each model, then notes and provenance."""
    lines = [f"# {escape_markdown(report.title)}"]
    for table in report.tables:
        name, reference = escape_markdown(table.model.name), escape_markdown(table.reference)
        lines += ["", f"## {name} against {reference}", ""]
        lines += [_line([escape_markdown(text) for text in headings(table)])]
        lines += [_line(["---", *["---:"] * 5, "---"])]
        lines += [_line(_markdown_row(row)) for row in table.rows]
        lines += ["", escape_markdown(" ".join(about(table)))]
        if table.notes:
            lines += ["", *(f"- {escape_markdown(note)}" for note in table.notes)]
    if report.notes:
        lines += ["", *(f"- {escape_markdown(note)}" for note in report.notes)]
    if report.provenance:
        lines += ["", "## Provenance", ""]
        lines += [
            f"- {escape_markdown(name)}: {escape_markdown(text)}"
            for name, text in report.provenance.items()
        ]
    return "\n".join(lines) + "\n"


def regression_latex(report: RegressionReport) -> str:
    """One `table` environment for each model."""
    template = environment().get_template("regression.tex.j2")
    return template.render(
        tables=[
            {
                "caption": escape_latex(
                    f"{report.title}: {table.model.name} against {table.reference}"
                ),
                "name": re.sub(r"[^a-z0-9]+", "-", table.model.name.lower()).strip("-"),
                "headings": [escape_latex(text) for text in headings(table)],
                "pages": [
                    [
                        [tuple(escape_latex(text) for text in cell) for cell in cells(row)]
                        for row in table.rows[start : start + ROWS_PER_FLOAT]
                    ]
                    for start in range(0, len(table.rows), ROWS_PER_FLOAT)
                ],
                "about": escape_latex(" ".join(about(table)), breakable=True),
                "notes": [escape_latex(note, breakable=True) for note in table.notes],
            }
            for table in report.tables
        ],
        notes=[escape_latex(note, breakable=True) for note in report.notes],
        provenance=escape_latex(
            " · ".join(f"{name}: {text}" for name, text in report.provenance.items()),
            breakable=True,
        ),
    )


def regression_csv(report: RegressionReport) -> str:
    """One unrounded line for each model and task."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, HEADER, restval="", lineterminator="\n")
    writer.writeheader()
    for table in report.tables:
        for row in table.rows:
            writer.writerow(_fields(table, row))
    return buffer.getvalue()


def regression_json(report: RegressionReport) -> str:
    """Everything, unrounded; what is not known is null."""
    content = {"schema_version": SCHEMA_VERSION, "regression": asdict(report)}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def regression_html(
    report: RegressionReport, scores: Table | None = None, details: PageDetails | None = None
) -> str:
    """One page that needs no other file.

    With `details` of the table of scores behind the verdicts it has their figures, a page for each
    task and the items that flip, as a table's page has.
    """
    shown, flips = None, ""
    if scores is not None and details is not None:
        shown = details_view(scores, details)
        if details.flips:
            data = flips_json(scores, details.flips, FLIP_BYTES)
            shown, flips = shown.with_flips(data.num_shown, data.num_flips), data.text
    views = [
        {
            "model": table.model.name,
            "reference": table.reference,
            "headings": headings(table),
            "rows": [(cells(row), row.verdict or "none") for row in table.rows],
            "about": about(table),
            "notes": table.notes,
        }
        for table in report.tables
    ]
    return render_page(
        "regression.html.j2",
        styles=["style.css", "details.css"] if shown else ["style.css"],
        script="regression.js",
        more_scripts=["details.js"] if shown else [],
        report=report,
        verdicts=views,
        table=report,
        samples=(),
        details=shown,
        flips=Markup(flips),
    )


def regression_console(report: RegressionReport) -> RenderableType:
    """The tables for the terminal."""
    parts: list[RenderableType] = [Text(one_line(report.title), style="bold")]
    for table in report.tables:
        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
        for index, text in enumerate(headings(table)):
            grid.add_column(Text(one_line(text)), justify="right" if 0 < index < 6 else "left")
        for row in table.rows:
            grid.add_row(*(_console_cell(*cell) for cell in cells(row)))
        below = [Text(one_line(note), style="dim") for note in (*about(table), *table.notes)]
        parts += [grid, *below]
    parts += [Text(one_line(note), style="dim") for note in report.notes]
    return Group(*parts)


def _fields(table: RegressionTable, row: RegressionRow) -> dict[str, str]:
    found = {
        "model": table.model.name,
        "reference": table.reference,
        "task": row.column.task,
        "label": row.column.label,
        "metric": row.column.metric,
        "filter": row.column.filter,
        "reference_value": exact(row.reference.value if row.reference else None),
        "value": exact(row.new.value if row.new else None),
        "margin": exact(table.margin),
        "verdict": row.verdict or "",
        "note": row.note or "",
    }
    comparison = row.comparison
    if comparison is None:
        return found
    return found | {
        "delta": exact(comparison.difference.value),
        "delta_low": exact(comparison.difference.low),
        "delta_high": exact(comparison.difference.high),
        "level": exact(comparison.difference.level),
        "test": comparison.test,
        "paired": str(comparison.paired).lower(),
        "p": exact(comparison.p_value),
        "p_adjusted": exact(comparison.p_adjusted),
        "mde": exact(comparison.mde),
    }


def _markdown_row(row: RegressionRow) -> list[str]:
    """Only the first and the last cell hold texts that are not ours."""
    (task, details), *numbers, (outcome, note) = cells(row)
    texts = [
        (escape_markdown(task), escape_markdown(details)),
        *((text.replace("<", "&lt;"), small) for text, small in numbers),
        (outcome, escape_markdown(note)),
    ]
    return [text + (f"<br><sub>{small}</sub>" if small else "") for text, small in texts]


def _console_cell(text: str, small: str) -> Text:
    cell = Text(one_line(text))
    return cell.append(f"\n{one_line(small)}", style="dim") if small else cell


def _line(texts: list[str]) -> str:
    return "| " + " | ".join(texts) + " |"
