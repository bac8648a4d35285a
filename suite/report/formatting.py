"""Numbers and headers as text: the one place where a score is rounded."""

from __future__ import annotations

from typing import Literal

from suite.records import Cell, Column, Estimate, Row

MISSING = "–"

RowKind = Literal["scores", "delta", "recovered", "published"]
Rank = Literal["best", "second"]

# The average beside the tasks: only 0-1 metrics are averaged, so it is always in percent.
AVERAGE = Column(
    label="Average",
    task="",
    metric="",
    filter="",
    higher_is_better=None,
    unit_interval=True,
    num_items=None,
    num_fewshot=None,
    version="",
)


def format_score(value: float | None, *, percent: bool) -> str:
    """A score as papers print it: `45.3` for 0.4531 in percent, `0.976` otherwise."""
    if value is None:
        return MISSING
    # Rounding may leave a negative zero, which reads like a difference.
    rounded = round(value * 100, 1) + 0.0 if percent else round(value, 3) + 0.0
    if abs(rounded) >= 1e6:
        text = f"{rounded:.3e}"
    else:
        text = f"{rounded:.1f}" if percent else f"{rounded:.3f}"
    return text.replace("-", "−", 1) if rounded < 0 else text


def format_stderr(stderr: float | None, *, percent: bool) -> str:
    """A standard error as `±1.2`, nothing where there is none."""
    return "" if stderr is None else "±" + format_score(stderr, percent=percent)


def format_delta(delta: float | None, *, percent: bool) -> str:
    """A difference with its sign, `0.0` where it rounds to zero, nothing where there is none."""
    if delta is None:
        return ""
    text = format_score(delta, percent=percent)
    return f"+{text}" if float(text.replace("−", "-")) > 0 else text


def format_interval(estimate: Estimate | None, *, percent: bool, signed: bool = False) -> str:
    """An interval as `[43.1, 47.5]`, nothing where there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    show = format_delta if signed else format_score
    return f"[{show(estimate.low, percent=percent)}, {show(estimate.high, percent=percent)}]"


def format_value(cell: Cell, column: Column, kind: RowKind = "scores") -> str:
    """The number of a cell: a score, a difference with its sign, or a share in percent."""
    if kind == "recovered":
        text = format_score(cell.value, percent=True)
        return text if cell.value is None else f"{text} %"
    if kind == "delta":
        return format_delta(cell.value, percent=column.unit_interval) or MISSING
    return format_score(cell.value, percent=column.unit_interval)


def format_error(cell: Cell, column: Column, kind: RowKind = "scores") -> str:
    """What is printed in small type beside a number: its standard error, else its interval."""
    if cell.value is None:
        return ""
    if shows_stderr(cell, kind):
        return format_stderr(cell.stderr, percent=column.unit_interval)
    estimate = cell.evidence.estimate if cell.evidence else None
    percent = column.unit_interval or kind == "recovered"
    return format_interval(estimate, percent=percent, signed=kind == "delta")


def shows_stderr(cell: Cell, kind: RowKind = "scores") -> bool:
    """Whether a standard error is printed; one of 0, of items that all score alike, says nothing.

    Without an interval to print in its place it stays.
    """
    if kind != "scores" or cell.stderr is None:
        return False
    estimate = cell.evidence.estimate if cell.evidence else None
    return cell.stderr > 0 or estimate is None or estimate.low is None


def average_cell(row: Row) -> Cell:
    """A row's average as a cell of the column `AVERAGE`, with why it has no interval."""
    estimate = row.average_evidence.estimate if row.average_evidence else None
    return Cell(
        value=row.average,
        delta=row.average_delta,
        note=no_interval(estimate) if row.average is not None else None,
        evidence=row.average_evidence,
    )


def no_interval(estimate: Estimate | None) -> str | None:
    """Why there is no interval, None where there is one."""
    if estimate is None or estimate.low is not None or estimate.reason is None:
        return None
    return f"no interval: {estimate.reason}"


def rank_of(cell: Cell) -> Rank | None:
    """`best` or `second` where the tests allow to say so."""
    return cell.evidence.rank if cell.evidence else None


def dagger(cell: Cell) -> str:
    """`†` where the difference from the reference row is significant."""
    return "†" if cell.evidence and cell.evidence.is_significant else ""


def arrow(column: Column) -> str:
    """`↑` where more is better, `↓` where less is, nothing where that is not known."""
    return {True: "↑", False: "↓", None: ""}[column.higher_is_better]


def heading(column: Column) -> str:
    """The first header line: `hellaswag ↑`."""
    return f"{column.label} {arrow(column)}".strip()


def metric_text(column: Column) -> str:
    """The second header line: the metric, with `%` where it is shown in percent."""
    metric = column.metric or "no metric"
    return f"{metric} %" if column.unit_interval else metric


def filter_text(column: Column) -> str:
    """The third header line: the filter, nothing where the task has only the default one."""
    return "" if column.filter in {"", "none"} else column.filter


def size_text(column: Column) -> str:
    """The last header line: `n=150, 0-shot`, with what is not known left out."""
    items = "" if column.num_items is None else f"n={column.num_items}"
    shots = "" if column.num_fewshot is None else f"{column.num_fewshot}-shot"
    return ", ".join(part for part in (items, shots) if part)


def one_line(text: str) -> str:
    """Text without line breaks and characters that cannot be printed.

    Terminal escapes and direction overrides in a model name or an error could otherwise change how
    the rest of the table looks.
    """
    spaced = " ".join(text.split())
    return "".join(character for character in spaced if character.isprintable())
