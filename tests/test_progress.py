"""Progress over documents: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from suite.progress import DocumentProgress, RunProgress


class Clock:
    """Stands for the time module."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("suite.progress.time", clock)
    return clock


def test_a_line_every_half_minute_away_from_a_terminal(clock: Clock) -> None:
    lines = StringIO()
    with DocumentProgress(Console(file=lines), "work", 1000) as progress:
        # What was there before takes no part in the rate.
        progress.begin(400)
        for _ in range(4):
            clock.now += 20
            progress.advance(progress.num_done + 10, 1000)
    assert lines.getvalue().splitlines() == [
        "work: 420 of 1,000 documents, 50 tokens/s, about 19 min left",
        "work: 440 of 1,000 documents, 50 tokens/s, about 19 min left",
    ]


def test_without_a_total_no_time_left_is_told(clock: Clock) -> None:
    lines = StringIO()
    with DocumentProgress(Console(file=lines), "work", None) as progress:
        clock.now += 40
        progress.advance(3, 80)
    assert lines.getvalue() == "work: 3 documents, 2 tokens/s\n"


def test_a_terminal_gets_a_bar_and_lines_above_it() -> None:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with DocumentProgress(console, "work", 10) as progress:
        progress.advance(5, 100)
        progress.line("a line")
    assert "a line" in screen.getvalue()
    assert "5/10" in screen.getvalue()
    assert " tokens/s" in screen.getvalue()


def test_what_has_no_known_number_of_requests_shows_none_of_the_task_before() -> None:
    screen = StringIO()
    with RunProgress(Console(file=screen, force_terminal=True, width=100), 2) as progress:
        progress.begin("m", "task", 7)
        progress.begin("m", "loading")
    last = screen.getvalue().rpartition("loading")[2]
    assert last
    assert "/7" not in last
