"""A check as a few lines of Markdown, for the summary page of a CI run."""

from __future__ import annotations

from suite.track.look_report import LookReport, interval_text, number, verdict_text
from suite.track.regress import TaskResult

_HEAD = ("task", "metric", "items", "pinned", "checkpoint", "difference", "verdict")


def markdown_summary(report: LookReport) -> str:
    """One heading, one table with a row a task, and what else there is to say."""
    lines = [f"## {_plain(report.title)}", "", _row(_HEAD), _row(["---"] * len(_HEAD))]
    for task in report.tasks:
        word = f"**{verdict_text(task)}**" if task.verdict == "regressed" else verdict_text(task)
        arrow = "↑" if task.higher_is_better else "↓"
        shown = (
            _plain(task.task),
            f"{_plain(task.metric)} {arrow}",
            f"{task.num_items:,}",
            number(task.pinned),
            number(task.new),
            interval_text(task),
            word,
        )
        lines.append(_row(shown))
    checkpoint, pinned = _plain(report.model), _plain(report.pinned_model)
    lines += ["", f"Checkpoint {checkpoint} against the pinned {pinned}. {report.spent}"]
    said = [f"{task.task}: {text}" for task in report.tasks for text in _remarks(task)]
    lines += ["", *(f"- {_plain(text)}" for text in (*said, *report.notes))]
    return "\n".join(lines).rstrip() + "\n"


def _remarks(task: TaskResult) -> tuple[str, ...]:
    return (*filter(None, [task.reason]), *task.flags)


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """Text without what Markdown would take for a mark, a tag or a cell's end."""
    one_line = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in r"\`*_|<>[]#" else sign for sign in one_line)
