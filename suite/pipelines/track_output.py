"""Between the command line and a check: options in, files and a table out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from suite.errors import ConfigError
from suite.files import write_atomically
from suite.pipelines.track import CheckOptions
from suite.track.gate import DEFAULT_MARGIN, Margins
from suite.track.junit import junit_xml
from suite.track.look_report import (
    LookReport,
    interval_text,
    number,
    report_to_json,
    verdict_text,
)
from suite.track.looks import Spending
from suite.track.summary import markdown_summary


def check_options(series: str, run: Path | None, options: Mapping[str, Any]) -> CheckOptions:
    """The options of a check as the command line gives them.

    Raises:
        ConfigError: One is wrong, or two contradict each other.
    """
    look, planned = options.get("look"), options["planned_looks"]
    if look is not None and planned is not None:
        raise ConfigError("give --look or --planned-looks, not both")
    if look is not None and look < 1:
        raise ConfigError(f"--look is {look}, expected at least 1")
    return CheckOptions(
        series=series,
        store=options["store"],
        run=run,
        model=options.get("model"),
        reference=options.get("reference"),
        margins=parse_margins(options["margins"]),
        spending=Spending(options["alpha"], planned),
        look=look,
        allow_missing=options.get("allow_missing", False),
        shared_items=options.get("shared_items", False),
    )


def parse_margins(texts: Sequence[str]) -> Margins:
    """Margins from texts like `0.02` and `task=0.1`; a later one replaces an earlier one.

    Raises:
        ConfigError: A text is no margin.
    """
    default, by_task = DEFAULT_MARGIN, {}
    for text in texts:
        label, sign, value = text.rpartition("=")
        try:
            margin = float(value)
        except ValueError:
            margin = math.nan
        if not (math.isfinite(margin) and margin >= 0) or (sign and not label):
            raise ConfigError(
                f"--margin {text!r}: expected a number of at least 0, or TASK= and such a number"
            )
        if label:
            by_task[label] = margin
        else:
            default = margin
    return Margins(default, by_task)


def write_report(report: LookReport, options: Mapping[str, Any], *, strict: bool) -> None:
    """Write the files that were asked for: JSON, JUnit XML, and Markdown, which is appended.

    Raises:
        ConfigError: One cannot be written.
    """
    data = json.dumps(report_to_json(report, strict=strict), indent=1, ensure_ascii=False) + "\n"
    if options["json_file"] is not None:
        _write("--json", options["json_file"], data)
    if options["junit"] is not None:
        _write("--junit", options["junit"], junit_xml(report, strict=strict))
    if options["summary"] is not None:
        _append("--summary", options["summary"], markdown_summary(report) + "\n")


def _write(option: str, path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise _not_written(option, path, error) from error


def _append(option: str, path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(text.encode("utf-8", errors="backslashreplace"))
    except OSError as error:
        raise _not_written(option, path, error) from error


def _not_written(option: str, path: Path, error: OSError) -> ConfigError:
    reason = error.strerror or str(error)
    return ConfigError(f"cannot write {path} ({reason}); give another {option}")


_COLOURS = {"regressed": "red", "improved": "green", "inconclusive": "yellow", "pass": ""}


def report_table(report: LookReport) -> Table:
    """The verdicts of a look as a table for a terminal; no colour says anything alone."""
    table = Table("task", "pinned → new", "difference", "verdict", show_lines=True)
    table.columns[0].overflow = "fold"
    for task in report.tasks:
        cells = (
            f"{task.task}\n{task.metric} {'↑' if task.higher_is_better else '↓'}",
            f"{number(task.pinned)} → {number(task.new)}",
            interval_text(task).replace(" ", "\n", 1),
            verdict_text(task).replace(" (", "\n("),
        )
        table.add_row(*map(escape, cells), style=_COLOURS[task.verdict])
    return table


def warnings_of(report: LookReport) -> list[str]:
    """Flags and inconclusive tasks, one sentence each."""
    said = []
    for task in report.tasks:
        said += [f"{task.task}: {flag}" for flag in task.flags]
        if task.verdict == "inconclusive":
            reason = f" ({task.reason})" if task.reason else ""
            said.append(
                f"{task.task} is inconclusive: a drop below {number(task.mde)} would not be found"
                f" with 80 % power{reason}"
            )
    return said
