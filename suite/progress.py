"""Progress on the terminal: a bar where there is one, plain lines where there isn't."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# How often a plain line is printed where a bar can't be drawn.
SECONDS_BETWEEN_LINES = 30.0


class _RateColumn(ProgressColumn):
    """Answers a second, over the last moments."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "-/s", style="dim")


def progress_bar(console: Console, rate: ProgressColumn) -> Progress:
    """A bar that is not drawn where there is no terminal, and leaves nothing behind."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        rate,
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


class RunProgress:
    """One bar for a run of many pairs: model, task, requests answered, rate, time left."""

    def __init__(self, console: Console, num_pairs: int) -> None:
        self.console = console
        self.num_pairs = num_pairs
        self.pair = 0
        self._last_line = 0.0
        self._bar = progress_bar(console, _RateColumn())
        self._task = self._bar.add_task("", total=None)
        self._label = ""
        self._done = 0

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin(self, model: str, what: str, total: int | None = None) -> None:
        """Show what is being done for a model; `total` requests are expected."""
        self._label = f"[{self.pair}/{self.num_pairs}] {model} · {what}"
        self._done = 0
        self._last_line = time.monotonic()
        # A task that is reset keeps its total where the new one is not known.
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task(self._label, total=total)

    def advance(self) -> None:
        """One more request was answered."""
        self._done += 1
        self._bar.advance(self._task)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            self.line(f"{self._label}: {self._done} answered")

    def expect(self, total: int) -> None:
        """Set how many requests there are, once that is known."""
        self._bar.update(self._task, total=total)

    def line(self, text: str) -> None:
        """Print one line above the bar."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class DocumentProgress:
    """One bar for work on documents: how many are done, tokens a second, time left."""

    def __init__(self, console: Console, label: str, total: int | None) -> None:
        """`total` is the number of documents; None if it is not known."""
        self.console = console
        self._label = label
        self._total = total
        rate = TextColumn("{task.fields[rate]}", style="dim", markup=False)
        self._bar = progress_bar(console, rate)
        self._task = self._bar.add_task(label, total=total, rate="")
        self.num_done = 0
        self.begin(0)

    def __enter__(self) -> DocumentProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin(self, num_done: int) -> None:
        """From here on time counts; so many documents were done before."""
        self.num_done = self._first = num_done
        self._num_tokens = 0
        self._start = self._last_line = time.monotonic()
        self._bar.reset(self._task, completed=num_done)

    def advance(self, num_done: int, num_tokens: int) -> None:
        """So many documents are done by now, with so many more tokens than at the last call."""
        self.num_done = num_done
        self._num_tokens += num_tokens
        now = time.monotonic()
        seconds = max(now - self._start, 1e-9)
        rate = f"{self._num_tokens / seconds:,.0f} tokens/s"
        self._bar.update(self._task, completed=num_done, rate=rate)
        if not self.console.is_terminal and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            total = "" if self._total is None else f" of {self._total:,}"
            done = f"{num_done:,}{total} documents"
            self.line(f"{self._label}: {done}, {rate}{self._left(seconds)}")

    def line(self, text: str) -> None:
        """Print one line above the bar."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _left(self, seconds: float) -> str:
        num_new = self.num_done - self._first
        if self._total is None or num_new <= 0:
            return ""
        left = (self._total - self.num_done) * seconds / num_new
        return f", about {left / 60:.0f} min left"
