"""One bar for work in several stages, each with its own number of steps."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import TaskProgressColumn

from suite.progress import SECONDS_BETWEEN_LINES, progress_bar


class StageProgress:
    """A bar on a terminal, elsewhere now and then a plain line; leaves no bar behind."""

    def __init__(self, console: Console) -> None:
        """Say where it is drawn."""
        self.console = console
        self._bar = progress_bar(console, TaskProgressColumn())
        self._task = self._bar.add_task("", total=None)
        self._label = ""
        self._done = 0
        self._last_line = 0.0

    def __enter__(self) -> StageProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin(self, label: str, total: int | None = None) -> None:
        """A new stage; `total` is the number of its steps, None if it is not known yet."""
        self._label, self._done = label, 0
        self._last_line = time.monotonic()
        # A task that is reset keeps its total where the new one is not known.
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task(label, total=total)
        if not self.console.is_terminal:
            self._line(label)

    def advance(self, count: int, total: int) -> None:
        """So many more steps of so many are done."""
        self.reach(self._done + count, total)

    def reach(self, done: int, total: int) -> None:
        """So many steps of so many are done by now."""
        self._done = done
        self._bar.update(self._task, completed=done, total=total)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._line(f"{self._label}: {done / total:.0%}")

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
