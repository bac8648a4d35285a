"""How close a student is to its teacher, as Markdown and for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from suite.records import Estimate
from suite.report.fidelity_record import FidelityRecord, Role, TaskFidelity
from suite.report.formatting import MISSING, format_score, one_line

_HEADINGS: dict[Role, str] = {
    "teacher": "teacher",
    "before": "before",
    "student": "student",
}
_FIGURES = {"recovered": "gap recovered"}
_TEXT_COLUMNS = {"", "task", "model"}
_TITLE = "Fidelity of a student to its teacher"
_LEGEND = (
    "Intervals have 95 % coverage. Agreement is the share of items on which a model chooses the"
    " teacher's option. Correlations are Spearman's: of the options' log-likelihoods within an item"
    " (mean over items), and of the right option's margin over the best other one, over the items"
    " of a task (mean over tasks). Probability loyalty is 1 - sqrt(Jensen-Shannon divergence, base"
    " 2). Gap recovered is (student - before) / (teacher - before), in accuracy. Calibration is of"
    " the options' probabilities by summed log-likelihood. The divergence is that of the ALM loss,"
    " a group of byte-aligned chunks; t and s are the log-probabilities of a group."
)


@dataclass(frozen=True)
class _Block:
    """One table: a title, column names, and lines of a label and values."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def render_fidelity(record: FidelityRecord) -> str:
    """The record as GitHub-flavoured Markdown."""
    models = (f"* {_HEADINGS[one.role]}: `{one.source}`, {one.weights}" for one in record.models)
    parts = [f"# {_TITLE}", "\n".join(models)]
    for block in _blocks(record):
        parts += [f"## {block.title}", _markdown_table(block)]
    parts += [_LEGEND, *undefined_notes(record), *record.notes]
    parts.append("\n".join(f"* {name}: {text}" for name, text in record.provenance.items()))
    return "\n\n".join(part for part in parts if part) + "\n"


def fidelity_console(record: FidelityRecord) -> RenderableType:
    """The record for a terminal."""
    shown: list[RenderableType] = [Text(_TITLE, style="bold")]
    for model in record.models:
        shown.append(Text(one_line(f"{_HEADINGS[model.role]}: {model.source}, {model.weights}")))
    for block in _blocks(record, with_intervals=False):
        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for number, name in enumerate(block.columns):
            is_text = name in _TEXT_COLUMNS
            grid.add_column(
                name, justify="left" if is_text else "right", no_wrap=number > 0, overflow="fold"
            )
        for line in block.lines:
            grid.add_row(*(Text(one_line(value)) for value in line))
        shown += [Text(one_line(f"\n{block.title}"), style="bold"), grid]
    texts = (_LEGEND, *undefined_notes(record), *record.notes)
    return Group(*shown, *(Text(one_line(text), style="dim") for text in texts))


def undefined_notes(record: FidelityRecord) -> tuple[str, ...]:
    """Why figures have no value, one sentence for each figure and reason."""
    where: dict[tuple[str, str], list[str]] = {}
    for task in (record.overall, *record.tasks):
        parts = (*task.own.items(), *task.versus_teacher.items())
        for role, figures in parts:
            for name, found in vars(figures).items():
                if found is not None and found.value is None:
                    figure = _FIGURES.get(name, name.replace("_", " "))
                    key = f"{figure}, {_HEADINGS[role]}", str(found.reason)
                    where.setdefault(key, []).append(task.label)
    return tuple(
        f"Without a value: {figure}, on {', '.join(labels)} ({reason})."
        for (figure, reason), labels in where.items()
    )


def _blocks(record: FidelityRecord, *, with_intervals: bool = True) -> Iterator[_Block]:
    """The tables; intervals task by task have no place on a terminal."""
    roles: list[Role] = [model.role for model in record.models]
    compared = [role for role in roles if role != "teacher"]
    yield _versus(record.overall, roles, compared)
    yield _text(record, roles)
    yield _by_task(record, roles, with_intervals)


def _versus(overall: TaskFidelity, roles: Sequence[Role], compared: Sequence[Role]) -> _Block:
    """All tasks together: one line a figure, one column a model."""
    own: list[tuple[str, Callable[[Role], Estimate | None], bool]] = [
        ("accuracy %", lambda role: overall.own[role].accuracy, True),
        ("calibration error %", lambda role: overall.own[role].calibration_error, True),
        ("Brier score", lambda role: overall.own[role].brier_score, False),
    ]
    versus = overall.versus_teacher
    others: list[tuple[str, Callable[[Role], Estimate | None], bool]] = [
        ("agreement %", lambda role: versus[role].agreement, True),
        ("options, correlation", lambda role: versus[role].option_correlation, False),
        ("margins, correlation", lambda role: versus[role].margin_correlation, False),
        ("probability loyalty", lambda role: versus[role].probability_loyalty, False),
    ]
    if "before" in roles:
        others.append(("gap recovered %", lambda role: versus[role].recovered, True))
    lines = [
        (name, *(interval_text(of(role), percent=percent) for role in roles))
        for name, of, percent in own
    ]
    for name, of, percent in others:
        cells = (
            interval_text(of(role), percent=percent) if role in compared else "" for role in roles
        )
        lines.append((name, *cells))
    title = f"All tasks, {overall.num_items:,} items"
    return _Block(title, ("", *(_HEADINGS[role] for role in roles)), tuple(lines))


def _text(record: FidelityRecord, roles: Sequence[Role]) -> _Block:
    text = record.text
    lines: list[tuple[str, ...]] = [
        ("bits per byte", *(_number(text.bits_per_byte.get(role)) for role in roles))
    ]
    figures = (
        ("ALM divergence", "divergence"),
        ("mean |t - s|, nats", "mean_distance"),
        ("groups, correlation", "rank_correlation"),
    )
    for name, attribute in figures:
        cells = []
        for role in roles:
            found = text.versus_teacher.get(role)
            cells.append("" if found is None else _number(getattr(found, attribute)))
        lines.append((name, *cells))
    counts = [text.versus_teacher.get(role) for role in roles]
    lines.append(("groups", *("" if one is None else f"{one.num_groups:,}" for one in counts)))
    documents = f"{text.num_documents:,} document{'s' * (text.num_documents != 1)}"
    title = f"Text {text.place}, {documents}, {text.num_bytes:,} bytes, {text.divergence}"
    return _Block(title, ("", *(_HEADINGS[role] for role in roles)), tuple(lines))


def _by_task(record: FidelityRecord, roles: Sequence[Role], with_intervals: bool) -> _Block:
    def text(estimate: Estimate, *, percent: bool) -> str:
        if with_intervals:
            return interval_text(estimate, percent=percent)
        return format_score(estimate.value, percent=percent)

    columns = ("task", "items", "model", "accuracy %", "agreement %", "options", "margins")
    lines: list[tuple[str, ...]] = []
    for task in record.tasks:
        for role in roles:
            versus = task.versus_teacher.get(role)
            cells = [text(task.own[role].accuracy, percent=True)]
            if versus is not None:
                cells += [
                    text(versus.agreement, percent=True),
                    text(versus.option_correlation, percent=False),
                    text(versus.margin_correlation, percent=False),
                ]
            head = (task.label, f"{task.num_items:,}") if role == roles[0] else ("", "")
            lines.append((*head, _HEADINGS[role], *cells, *[""] * (4 - len(cells))))
    return _Block("Task by task", columns, tuple(lines))


def interval_text(estimate: Estimate | None, *, percent: bool) -> str:
    """`45.3 [41.0, 49.7]`; without the brackets where there is no interval."""
    if estimate is None or estimate.value is None:
        return MISSING
    value = format_score(estimate.value, percent=percent)
    if estimate.low is None or estimate.high is None:
        return value
    low, high = (format_score(end, percent=percent) for end in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _number(value: float | None) -> str:
    """Four significant digits; what is nearly nothing as a power of ten."""
    if value is None:
        return MISSING
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.01 else f"{value:.2e}"


def _markdown_table(block: _Block) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(one_line(cell).replace("|", "\\|") for cell in cells) + " |"

    rule = ["---" if name in _TEXT_COLUMNS else "---:" for name in block.columns]
    return "\n".join([line(block.columns), line(rule), *map(line, block.lines)])
