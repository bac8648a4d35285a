from __future__ import annotations

import io
import re
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from suite.report.alignment_console import print_alignment
from suite.report.alignment_record import (
    AlignmentView,
    ChunkView,
    TokenView,
    columns,
    segments,
    visible,
)

ISOLATES = re.compile("[\u2068\u2069]")


def view_of(*pairs: tuple[list[str], list[str]]) -> AlignmentView:
    """A view with one chunk for each pair of the teacher's and the student's tokens."""
    sides = [
        tuple(
            TokenView(100 + index, text, None, index)
            for index, pair in enumerate(pairs)
            for text in pair[side]
        )
        for side in (0, 1)
    ]
    chunks = tuple(
        ChunkView("".join(teacher), len(teacher), len(student), 1, is_special=False)
        for teacher, student in pairs
    )
    return AlignmentView("a_teacher", "a_student", sides[0], sides[1], chunks, (), (), 9, 9)


def printed(view: AlignmentView, width: int = 80, *, colour: bool = False) -> str:
    console = Console(
        width=width,
        file=io.StringIO(),
        force_terminal=colour,
        color_system="standard" if colour else None,
    )
    with console.capture() as capture:
        print_alignment(view, console)
    return capture.get()


def rows_of(text: str) -> list[str]:
    """The lines of the bands, without the direction isolates, which take no cell."""
    lines = text.partition("\n\n")[2].partition("\n\n· ")[0].splitlines()
    return [ISOLATES.sub("", line) for line in lines if line]


def bar_cells(line: str) -> list[int]:
    return [cell_len(line[: found.start()]) for found in re.finditer("┃", line)]


def test_the_whole_output_of_a_small_view_without_colours() -> None:
    view = view_of((["The"], ["T", "h", "e"]), ([" qui", "ck"], [" quick"]), (["\n"], ["\n"]))
    view = replace(
        view,
        teacher_tokens=(
            TokenView(1, "<s>", "begin", None),
            *view.teacher_tokens,
            TokenView(2, "<|im_end|>", "end_of_turn", 3),
            TokenView(9, "\tx", None, None),
        ),
        student_tokens=(*view.student_tokens, TokenView(3, "</s>", "end_of_turn", 3)),
        chunks=(*view.chunks, ChunkView("<|im_end|>", 1, 1, 0, is_special=True)),
        facts=(("bytes in chunks", "83.3 %"), ("1:1 chunks", "50.0 %")),
        warnings=("1 special token has no counterpart.",),
        num_bytes=1200,
    )
    lines = [line.rstrip() for line in printed(view, 100).splitlines()]
    assert lines == [
        "T  a_teacher, 7 tokens shown",
        "S  a_student, 6 tokens shown",
        "",
        "T  ✗<s>(begin) ┃ The   ┃ ·qui│ck ┃ ⏎",
        "S              ┃ T│h│e ┃ ·quick  ┃ ⏎",
        "",
        "T  <|im_end|>(end_of_turn) ┃ ✗→x",
        "S  </s>(end_of_turn)       ┃",
        "",
        "· space  → tab  ⏎ newline  │ between tokens  ┃ between chunks  ✗ in no chunk",
        "Only the first 9 of 1,200 bytes are shown.",
        "",
        "bytes in chunks  83.3 %",
        "1:1 chunks       50.0 %",
        "warning: 1 special token has no counterpart.",
    ]


def test_a_text_without_tokens_prints_no_rows() -> None:
    text = printed(replace(view_of(), facts=(("chunks", "0"),)))
    assert " ".join(text.split()) == "T a_teacher, 0 tokens S a_student, 0 tokens chunks 0"


def test_colours_change_nothing_but_the_look() -> None:
    view = view_of((["a", "b"], ["ab"]), (["c"], ["c"]))
    special = TokenView(1, "<s>", "begin", None)
    matched = TokenView(2, "</s>", "end", 2)
    view = replace(
        view,
        teacher_tokens=(special, *view.teacher_tokens, matched),
        student_tokens=(*view.student_tokens, matched),
    )
    coloured = printed(view, colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == printed(view)
    assert "\x1b[36ma" in coloured  # chunks alternate between cyan
    assert "\x1b[35mc" in coloured  # and magenta
    assert "\x1b[1;4;31m✗<s>(begin)" in coloured  # bold, underlined, red
    assert "\x1b[2;4;36m</s>(end)" in coloured  # dim, underlined


def test_no_color_keeps_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(view_of((["a", "b"], ["ab"]), (["c"], ["c"])), colour=True)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", text)
    assert rows_of(re.sub(r"\x1b\[[0-9;]*m", "", text)) == ["T  a│b ┃ c", "S  ab  ┃ c"]


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        pytest.param(["中文字"], ["中", "文", "字"], id="ideographs are two cells wide"),
        pytest.param(["👍"], ["<0xF0>", "<0x9F>", "<0x91>", "<0x8D>"], id="emoji"),
        pytest.param(["👍🏽"], ["👍", "🏽"], id="emoji with a modifier"),
        pytest.param(["👩‍👧"], ["👩", "\u200d", "👧"], id="emoji joined by a joiner"),
        pytest.param(["❤\ufe0f"], ["❤", "\ufe0f"], id="emoji by a variation selector"),
        pytest.param(["e\u0301"], ["e", "\u0301"], id="a combining mark as a token"),
        pytest.param(["한국"], ["한", "국"], id="Hangul"),
        pytest.param([" שלום"], [" ש", "לום"], id="right to left"),
    ],
)
def test_columns_stay_aligned_beside_text_of_any_width(
    teacher: list[str], student: list[str]
) -> None:
    above, below = rows_of(printed(view_of((teacher, student), (["end"], ["end"]))))
    assert bar_cells(above) == bar_cells(below)
    assert len(bar_cells(above)) == 1


def test_a_combining_mark_does_not_join_the_bar_before_it() -> None:
    assert "e│◌\u0301" in printed(view_of((["e\u0301"], ["e", "\u0301"])))


@pytest.mark.parametrize("name", ["ESC", "CSI", "bell", "override", "isolate", "line separator"])
def test_what_would_act_on_the_terminal_is_escaped(name: str) -> None:
    character, escaped = {
        "ESC": ("\x1b", r"\x1b"),
        "CSI": ("\x9b", r"\x9b"),
        "bell": ("\x07", r"\x07"),
        "override": ("\u202e", r"\u202e"),
        "isolate": ("\u2067", r"\u2067"),
        "line separator": ("\u2028", r"\u2028"),
    }[name]
    attack = f"{character}[2J"
    view = view_of(([attack], [character, "[2J"]))
    view = replace(
        view,
        teacher_name=attack,
        teacher_tokens=(*view.teacher_tokens, TokenView(0, attack, "other", None)),
        facts=((attack, attack),),
        warnings=(attack,),
    )
    text = printed(view)
    assert character not in text
    assert f"{escaped}[2J" in text
    assert f"{escaped}│[2J" in text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_visible_text_can_always_be_printed_on_one_line(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert " " not in shown
    assert shown
    assert not unicodedata.category(shown[0]).startswith("M")


def test_right_to_left_text_is_isolated_from_the_columns_beside_it() -> None:
    text = printed(view_of((["שלום"], ["ש", "לום"]), (["a"], ["a"])))
    assert "T  \u2068שלום\u2069  ┃ a" in text
    assert "S  \u2068ש\u2069│\u2068לום\u2069 ┃ a" in text


def test_names_with_markup_are_printed_as_they_are() -> None:
    assert "[red]x[/red]" in printed(view_of((["[red]x[/red]"], ["[red]", "x[/red]"])))


@pytest.mark.parametrize("width", [4, 20, 40, 200])
def test_no_line_is_wider_than_the_console_and_no_token_is_lost(width: int) -> None:
    words = [f" word{i:02}中" for i in range(30)]
    pairs = [([word], list(word)) for word in words]
    lines = rows_of(printed(view_of(*pairs, (["x" * 150], list("x" * 150))), width))
    # Below the least width, lines are too long rather than one character each.
    assert max(map(cell_len, lines)) <= max(width, 11)
    for label in "TS":
        text, is_label = "", False
        for line in lines:
            is_label = line[0] == label if line[0] in "TS" else is_label
            text += line[3:] if is_label else ""
        assert re.sub("[ │┃]", "", text) == "".join(words).replace(" ", "·") + "x" * 150


def test_an_overlong_chunk_has_lines_of_its_own() -> None:
    view = view_of((["a"], ["a"]), (["b" * 30], list("b" * 30)), (["c"], ["c"]))
    assert rows_of(printed(view, 24)) == [
        "T  a",
        "S  a",
        "T  " + "b" * 20,
        "   " + "b" * 10,
        "S  " + "b│" * 10,
        "   " + "b│" * 10,
        "   " + "b│" * 9 + "b",
        "T  c",
        "S  c",
    ]


def test_a_run_of_newlines_ends_a_line_once() -> None:
    view = view_of((["a"], ["a"]), (["\n\n"], ["\n", "\n"]), (["\n"], ["\n"]), (["b"], ["b"]))
    assert rows_of(printed(view)) == [
        "T  a ┃ ⏎⏎  ┃ ⏎",
        "S  a ┃ ⏎│⏎ ┃ ⏎",
        "T  b",
        "S  b",
    ]


def test_tokens_without_a_chunk_are_between_the_chunks_where_they_lie() -> None:
    def row(*items: tuple[str, int | None]) -> tuple[TokenView, ...]:
        return tuple(TokenView(0, text, None, chunk) for text, chunk in items)

    view = replace(
        view_of(),
        teacher_tokens=row(("A", None), ("x", 0), ("B", None), ("y", 1)),
        student_tokens=row(("x1", 0), ("C", None), ("x2", 0), ("D", None), ("y", 1), ("E", None)),
    )
    assert rows_of(printed(view)) == [
        "T  ✗A ┃ x        ┃ ✗B ┃    ┃ y ┃",
        "S     ┃ x1│✗C│x2 ┃    ┃ ✗D ┃ y ┃ ✗E",
    ]


ROW_PARTS = st.lists(st.integers(0, 3), max_size=8)


@given(st.lists(st.tuples(ROW_PARTS, ROW_PARTS), max_size=5), st.integers(0, 2))
def test_columns_hold_every_token_of_both_rows_in_order(
    chunks: list[tuple[list[int], list[int]]], num_after: int
) -> None:
    outside = TokenView(9, "x", None, None)
    rows: list[list[TokenView]] = [[], []]
    for index, parts in enumerate(chunks):
        for row, numbers in zip(rows, parts, strict=True):
            # The tokens outside before the chunk, one that surely belongs to it, and the others.
            row += [outside] * sum(number == 0 for number in numbers)
            row += [TokenView(number, "y", None, index) for number in [4, *numbers] if number]
    rows[1] += [outside] * num_after
    pairs = list(columns(rows[0], rows[1]))
    for side, row in enumerate(rows):
        parts = [pair[side] for pair in pairs if pair[side] is not None]
        assert [token for part in parts for token in part.tokens] == row
        assert parts == list(segments(row))
    both = [pair for pair in pairs if None not in pair]
    assert [a.chunk for a, _ in both if a] == [b.chunk for _, b in both if b]
    assert [a.chunk for a, _ in both if a] == list(range(len(chunks)))
