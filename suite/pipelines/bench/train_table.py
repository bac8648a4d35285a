"""The rows of `suite bench train`, what they are compared with, and the table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from suite.report.formatting import MISSING
from suite.report.markdown import escape_markdown

STORED_LIMIT = 1.15
LIVE_LIMIT = 1.1
MEMORY_LIMIT = 1.1

NAMES = {
    "sft": "SFT",
    "stored": "ALM, stored teacher",
    "live": "ALM, live teacher",
    "teacher": "teacher's forward pass alone",
}

_LEGEND = (
    "A step: forward, backward and AdamW of the student, on one batch; with a live teacher, its"
    " forward pass, too; with a stored one, reading its signals. Seconds are medians of runs taken"
    " in turns.",
    "Memory is the peak of a second step, in a process of its own, beyond what that process had"
    " before models were loaded; a MB is 10^6 bytes.",
)


@dataclass(frozen=True)
class TrainRow:
    """A way to take a step.

    Attributes:
        way: One of `NAMES`.
        num_runs: Over which the median was taken.
        seconds: Median.
        all_seconds: Of each run.
        peak_bytes: None where it cannot be measured.
    """

    way: str
    num_runs: int
    seconds: float
    all_seconds: tuple[float, ...]
    peak_bytes: int | None


@dataclass(frozen=True)
class OverheadRow:
    """A ratio and how large it may be.

    Attributes:
        name: What is compared with what.
        value: None where it was not measured.
        limit: The largest wanted.
    """

    name: str
    value: float | None
    limit: float


def overheads(rows: Sequence[TrainRow]) -> list[OverheadRow]:
    """The three ratios, from the rows of all ways."""
    seconds = {row.way: row.seconds for row in rows}
    peaks = {row.way: row.peak_bytes for row in rows if row.peak_bytes is not None}
    added = None
    if len(peaks) == len(rows):
        added = (peaks["live"] - peaks["sft"]) / peaks["teacher"]
    both = seconds["sft"] + seconds["teacher"]
    return [
        OverheadRow("stored teacher / SFT", seconds["stored"] / seconds["sft"], STORED_LIMIT),
        OverheadRow("live teacher / (SFT + teacher)", seconds["live"] / both, LIVE_LIMIT),
        OverheadRow(
            "memory: (live teacher - SFT) / teacher's weights and activations", added, MEMORY_LIMIT
        ),
    ]


def render_train(
    rows: Sequence[TrainRow], compared: Sequence[OverheadRow], provenance: Mapping[str, str]
) -> str:
    """Two tables, what they mean, and where the figures are from."""
    lines = ["# A training step: time and memory", ""]
    lines += [f"- {name}: {escape_markdown(text)}" for name, text in provenance.items()]
    lines += ["", _line(("step", "seconds", "least", "most", "memory, MB"))]
    lines += [_line(("---", *["---:"] * 4))]
    for row in rows:
        megabytes = None if row.peak_bytes is None else row.peak_bytes / 1e6
        times = (row.seconds, min(row.all_seconds), max(row.all_seconds))
        cells = (*(f"{seconds:.3f}" for seconds in times), _number(megabytes, ",.0f"))
        lines.append(_line((NAMES[row.way], *cells)))
    lines += ["", _line(("ratio", "found", "at most")), _line(("---", "---:", "---:"))]
    for one in compared:
        lines.append(_line((one.name, _number(one.value, ".3f"), f"{one.limit:g}")))
    return "\n".join([*lines, "", *(f"- {escape_markdown(text)}" for text in _LEGEND)]) + "\n"


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
