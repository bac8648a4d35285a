"""All files of one report, each replaced as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from suite.errors import ConfigError
from suite.files import write_atomically
from suite.records import Failure, Sample, Table
from suite.report.console import console_svg, svg_of
from suite.report.csv_file import render_csv
from suite.report.html_page import render_html
from suite.report.json_file import render_json
from suite.report.latex import render_latex
from suite.report.markdown import render_markdown
from suite.report.page_data import PageDetails
from suite.report.regression_render import (
    regression_console,
    regression_csv,
    regression_html,
    regression_json,
    regression_latex,
    regression_markdown,
)
from suite.report.regression_style import RegressionReport

FILES = ("table.md", "table.tex", "table.csv", "table.svg", "results.json", "index.html")


def write_report(
    table: Table,
    samples: Sequence[Sample],
    failures: Sequence[Failure],
    run_files: Sequence[str],
    folder: Path,
    *,
    details: PageDetails | None = None,
) -> tuple[Path, ...]:
    """Write every format of `table` into `folder` and return the paths written.

    `details` is what the page shows beside the table. All formats are made before the first is
    written, so a table that cannot be rendered leaves an earlier report as it was.

    Raises:
        ConfigError: The folder cannot be made or written to.
    """
    contents = {
        "table.md": render_markdown(table),
        "table.tex": render_latex(table),
        "table.csv": render_csv(table),
        "table.svg": console_svg(table),
        "results.json": render_json(table, failures, run_files),
        "index.html": render_html(table, samples, details=details),
    }
    return _write(contents, folder)


def write_regression(
    report: RegressionReport,
    folder: Path,
    *,
    scores: Table | None = None,
    details: PageDetails | None = None,
) -> tuple[Path, ...]:
    """Write every format of the verdicts into `folder`, under the same names as a table's.

    `details` is what the page shows of the table of scores beside the verdicts.

    Raises:
        ConfigError: The folder cannot be made or written to.
    """
    contents = {
        "table.md": regression_markdown(report),
        "table.tex": regression_latex(report),
        "table.csv": regression_csv(report),
        "table.svg": svg_of(regression_console(report)),
        "results.json": regression_json(report),
        "index.html": regression_html(report, scores, details),
    }
    return _write(contents, folder)


def _write(contents: Mapping[str, str], folder: Path) -> tuple[Path, ...]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            write_atomically(folder / name, text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot write to {folder} ({reason}); give another --output") from error
    return tuple(folder / name for name in contents)
