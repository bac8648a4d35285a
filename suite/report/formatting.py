"""Numbers and headers as text: the one place where a score is rounded."""

from __future__ import annotations

from suite.records import Cell, Column

MISSING = "–"


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


def format_cell(cell: Cell, column: Column) -> str:
    """One cell on one line: `45.3 ±1.2 (+0.7)`, or a dash."""
    percent = column.unit_interval
    return join_score(
        format_score(cell.value, percent=percent),
        format_stderr(cell.stderr, percent=percent),
        format_delta(cell.delta, percent=percent),
    )


def format_average(average: float | None, delta: float | None) -> str:
    """An average on one line; only 0-1 metrics are averaged, so it is always in percent."""
    score = format_score(average, percent=True)
    return join_score(score, "", format_delta(delta, percent=True))


def join_score(score: str, stderr: str, delta: str) -> str:
    """Score, standard error and difference with the empty parts left out."""
    return " ".join(part for part in (score, stderr, f"({delta})" if delta else "") if part)


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
