"""A comparison as Markdown, as JSON, and as a table for the terminal."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Literal

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from suite.report.compare_record import Comparisons, outcome_of
from suite.report.compare_text import header, legend, lines, reasons, title
from suite.report.formatting import one_line
from suite.report.markdown import escape_markdown

SCHEMA_VERSION = 1


def compare_console(found: Comparisons) -> RenderableType:
    """The table with its legend and notes for a terminal."""
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, leading=1)
    for index, names in enumerate(header(found)):
        is_text = index in (0, len(header(found)) - 1)
        justify: Literal["left", "right"] = "left" if is_text else "right"
        # Names are told apart by their ends as well, so they are never cut.
        grid.add_column(_stacked(names), justify=justify, overflow="fold")
    for line in lines(found):
        grid.add_row(*map(_stacked, line.cells))
    below = [" ".join(legend(found)), *reasons(found), *found.notes]
    texts = [Text(one_line(text), style="dim") for text in below if text]
    return Group(Text(one_line(title(found)), style="bold"), grid, *texts)


def _stacked(cell: tuple[str, ...]) -> Text:
    """Lines of one cell, all but the first dim. Text, not str: names may look like markup."""
    first, *others = map(one_line, cell)
    return Text(first).append("".join(f"\n{other}" for other in others), style="dim")


def render_compare_markdown(found: Comparisons) -> str:
    """The table with legend and notes as GitHub-flavoured Markdown."""
    columns = header(found)
    ruler = ["---", *["---:"] * (len(columns) - 2), "---"]
    rows = [[_markdown_cell(names) for names in columns], ruler]
    # The other cells hold no text of others, and signs are no lists inside a table.
    rows += [
        [_markdown_cell(line.task), *map("<br>".join, line.cells[1:])] for line in lines(found)
    ]
    table = [f"| {' | '.join(row)} |" for row in rows]
    notes = [f"- {escape_markdown(note)}" for note in (*reasons(found), *found.notes)]
    below = ["", escape_markdown(" ".join(legend(found))), *[""] * bool(notes), *notes]
    return "\n".join([f"# {escape_markdown(title(found))}", "", *table, *below]) + "\n"


def _markdown_cell(cell: tuple[str, ...]) -> str:
    return "<br>".join(map(escape_markdown, cell))


def render_compare_json(found: Comparisons) -> str:
    """The comparison for other programs: unrounded values, what is not known is null.

    A reader refuses a `schema_version` it does not know.
    """
    content = {"schema_version": SCHEMA_VERSION, **asdict(found)}
    for told, task in zip(content["tasks"], found.tasks, strict=True):
        told["outcome"] = outcome_of(
            task.comparison, higher_is_better=task.higher_is_better, level=found.level
        )
    if found.average is not None:
        content["average"]["outcome"] = outcome_of(
            found.average.comparison, higher_is_better=True, level=found.level
        )
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
