from __future__ import annotations

import pytest

from suite.records import Cell, Row, Table
from suite.report.formatting import format_delta, format_score, format_stderr, one_line
from suite.report.notes import footnotes, legend, marks


@pytest.mark.parametrize(
    ("value", "percent", "text"),
    [
        (0.4531, True, "45.3"),
        (1.0, True, "100.0"),
        (0.98124, False, "0.981"),
        (-0.25, False, "−0.250"),
        (-0.0001, False, "0.000"),
        (23_456.789, False, "23456.789"),
        (1.5e12, False, "1.500e+12"),
        (None, True, "–"),
    ],
)
def test_scores_are_rounded_as_in_papers(value: float | None, percent: bool, text: str) -> None:
    assert format_score(value, percent=percent) == text


@pytest.mark.parametrize(
    ("delta", "text"),
    [(0.012, "+1.2"), (-0.012, "−1.2"), (0.0, "0.0"), (-0.0001, "0.0"), (None, "")],
)
def test_differences_carry_their_sign_unless_they_round_to_zero(
    delta: float | None, text: str
) -> None:
    assert format_delta(delta, percent=True) == text


def test_a_missing_standard_error_is_no_text() -> None:
    assert format_stderr(None, percent=True) == ""
    assert format_stderr(0.0123, percent=True) == "±1.2"


def test_names_lose_line_breaks_terminal_escapes_and_direction_overrides() -> None:
    assert one_line("a\n b\x1b[31m\u202ec") == "a b[31mc"


def test_equal_notes_share_one_footnote(small_table: Table) -> None:
    numbered = footnotes(small_table)
    assert numbered == (
        "3 prompts were cut to the context length",
        "failed: item 3 needs 2210 tokens, the model reads 2048",
        "not run",
    )
    assert [marks(cell, numbered) for cell in small_table.rows[1].cells] == [(1,), (2,), ()]


def test_one_cut_prompt_is_not_plural() -> None:
    cell = Cell(value=0.5, num_truncated=1)
    assert marks(cell, ("1 prompt was cut to the context length",)) == (1,)


def test_a_count_of_cut_prompts_that_is_not_known_makes_no_footnote() -> None:
    assert marks(Cell(value=0.5, num_truncated=None), ()) == ()


def test_the_legend_explains_what_the_table_shows(small_table: Table) -> None:
    assert legend(small_table) == (
        "↑ higher is better, ↓ lower is better.",
        "Columns marked % are in percent.",
        "± is one standard error.",
        "Signed numbers are differences from teacher, in the column's unit.",
        "Average is the unweighted mean of the columns marked %.",
        "Task versions: 1.0 for arc_easy, wikitext; 3.0 for word_problems.",
    )


def test_the_legend_of_an_empty_table_is_empty() -> None:
    rows: tuple[Row, ...] = ()
    assert legend(Table(title="empty", columns=(), rows=rows, average_columns=())) == ()
