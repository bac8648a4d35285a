"""The table of `suite bench report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ANSWERS = {None: "", True: "yes", False: "**no**"}


@dataclass(frozen=True)
class ReportRow:
    """One command over a tree of results, in a process of its own.

    Attributes:
        command: What ran.
        seconds: From start to end, imports included; the median of several runs.
        cpu_seconds: Of all cores; the median of several runs.
        peak_bytes: Of the whole process; the largest of several runs.
        num_models: Whose results it read.
        num_runs: How often it ran.
        lines_a_second: Sample lines it read; None where that is not counted.
        holds: Whether the bounds hold; None where there are none.
    """

    command: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    num_models: int = 0
    num_runs: int = 1
    lines_a_second: float | None = None
    holds: bool | None = None


def render_report(rows: Sequence[ReportRow], provenance: Mapping[str, str]) -> str:
    """The table in Markdown."""
    columns = (
        "command",
        "models",
        "runs",
        "seconds",
        "CPU seconds",
        "peak MB",
        "lines/s",
        "within bounds",
    )
    lines = [columns, ("---", *("---:" for _ in columns[1:]))]
    for row in rows:
        rate = "" if row.lines_a_second is None else f"{row.lines_a_second:,.0f}"
        lines.append(
            (
                row.command,
                str(row.num_models),
                str(row.num_runs),
                f"{row.seconds:.1f}",
                f"{row.cpu_seconds:.1f}",
                f"{row.peak_bytes / 1e6:,.0f}",
                rate,
                _ANSWERS[row.holds],
            )
        )
    parts = [
        "# Reports over many runs",
        "Bounds: the index is rebuilt at 20,000 sample lines a second or faster, and a report from"
        " it takes less than 60 seconds and 2 GB.",
        "\n".join("| " + " | ".join(line) + " |" for line in lines),
        "\n".join(f"* {name}: {text}" for name, text in provenance.items()),
    ]
    return "\n\n".join(parts) + "\n"
