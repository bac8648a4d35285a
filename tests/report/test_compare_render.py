"""One comparison as Markdown, JSON and for the terminal."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from suite.records import Comparison, Estimate
from suite.report.compare_record import ComparedAverage, ComparedTask, Comparisons, Side
from suite.report.compare_render import (
    compare_console,
    render_compare_json,
    render_compare_markdown,
)
from suite.report.compare_text import format_p, model_names


def estimate(
    value: float | None, width: float | None = 0.05, reason: str | None = None
) -> Estimate:
    if value is None or width is None:
        return Estimate(value, None, None, 0.95, 100, "t", reason)
    return Estimate(value, value - width, value + width, 0.95, 100, "t", reason)


FOUND = Comparisons(
    first=Side("old", "runs/old"),
    second=Side("new", "runs/new"),
    tasks=(
        ComparedTask(
            label="arc",
            task="arc",
            metric="acc",
            filter="none",
            higher_is_better=True,
            unit_interval=True,
            n=1_000,
            first=estimate(0.5),
            second=estimate(0.512),
            comparison=Comparison(
                difference=estimate(0.012),
                p_value=0.0301,
                test="exact McNemar",
                paired=True,
                num_better=30,
                num_worse=18,
                mde=0.021,
                p_adjusted=0.0602,
            ),
            agreement=estimate(0.9),
        ),
        ComparedTask(
            label="text",
            task="text",
            metric="bits_per_byte",
            filter="strict",
            higher_is_better=False,
            unit_interval=False,
            n=None,
            first=estimate(1.2, None, "no samples"),
            second=estimate(1.1),
            comparison=Comparison(
                difference=estimate(-0.1), p_value=0.00001, test="t", paired=False, p_adjusted=2e-5
            ),
            agreement=estimate(None, reason="no answers"),
        ),
    ),
    average=ComparedAverage(
        labels=("arc", "other"),
        first=estimate(0.5),
        second=estimate(0.512),
        comparison=Comparison(
            difference=estimate(0.012, None), p_value=None, test="t", paired=True, reason="constant"
        ),
    ),
    level=0.95,
    test="auto",
    seed=0,
    notes=("a note",),
)


def on_terminal(found: Comparisons, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(compare_console(found))
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()


def test_markdown_holds_every_number_and_how_to_read_it() -> None:
    assert render_compare_markdown(FOUND) == (
        "# new compared with old\n"
        "\n"
        "| Task | A<br>old | B<br>new | B − A | p<br>Holm | B better, worse<br>same answers"
        " | Finding |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |\n"
        "| arc<br>acc % ↑<br>n=1,000 | 50.0<br>45.0 to 55.0 | 51.2<br>46.2 to 56.2"
        " | +1.2<br>−3.8 to +6.2 | 0.030<br>0.060 | 30, 18<br>90.0 % | no difference<br>MDE 2.1 |\n"
        "| text<br>bits_per_byte, strict ↓ | 1.200 | 1.100<br>1.050 to 1.150"
        " | −0.100<br>−0.150 to −0.050 | <0.0001<br><0.0001 | – | better |\n"
        "| Average<br>%<br>2 tasks | 50.0<br>45.0 to 55.0 | 51.2<br>46.2 to 56.2"
        " | +1.2 | – | – | not tested |\n"
        "\n"
        "B − A with its 95 % interval; ↑ more is better, ↓ less is better. p is two-sided, below it"
        " Holm's correction over 2 tested tasks, by which findings go at 0.05. MDE: the smallest"
        " true difference that the test finds with 80 % power at"
        " the level that Holm left for the task; a smaller one may be there. Tests: exact McNemar"
        " (arc); t (text). Average: plain mean of the tasks in percent, items drawn within fixed"
        " tasks (t); not in Holm's family.\n"
        "\n"
        "- text: no samples\n"
        "- text: no answers\n"
        "- Average: constant\n"
        "- a note\n"
    )


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_whole_names_within_its_width(width: int) -> None:
    text = on_terminal(FOUND, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for shown in ("51.2", "+1.2", "0.060", "30, 18", "MDE 2.1", "a note"):
        assert shown in text


def test_names_are_shown_as_they_are_and_no_markup() -> None:
    odd = replace(FOUND, first=Side("[red]old|*x*", "a"), notes=("\x1b[31m<b>note",))
    terminal, markdown = on_terminal(odd, 200), render_compare_markdown(odd)
    assert "[red]old|*x*" in terminal
    assert "\x1b" not in terminal
    assert r"\[red\]old\|\*x\*" in markdown
    assert "&lt;b&gt;note" in markdown


def test_json_is_unrounded_and_says_its_version_and_outcomes() -> None:
    content = json.loads(render_compare_json(FOUND))
    assert content["schema_version"] == 1
    assert [task["outcome"] for task in content["tasks"]] == ["no difference", "better"]
    assert content["average"]["outcome"] == "not tested"
    assert content["tasks"][0]["comparison"]["p_adjusted"] == 0.0602
    assert content["tasks"][1]["n"] is None
    assert content["notes"] == ["a note"]


def test_one_model_twice_is_told_apart_by_its_folders() -> None:
    same = replace(FOUND, second=Side("old", "runs/later"))
    assert model_names(same) == ("old (runs/old)", "old (runs/later)")


def test_a_missing_mde_is_said() -> None:
    task = replace(FOUND.tasks[0], comparison=replace(FOUND.tasks[0].comparison, mde=None))
    assert "no difference<br>MDE unknown" in render_compare_markdown(replace(FOUND, tasks=(task,)))


@pytest.mark.parametrize(
    ("p_value", "text"),
    [(None, "–"), (1.0, "1.000"), (0.0123, "0.012"), (0.00123, "0.0012"), (9e-5, "<0.0001")],
)
def test_p_values_keep_the_digits_that_count(p_value: float | None, text: str) -> None:
    assert format_p(p_value) == text
