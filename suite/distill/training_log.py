"""What a run tells: one JSON line a step, and a bar on the terminal."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import TextColumn

from suite.errors import CheckpointError
from suite.files import write_atomically
from suite.progress import SECONDS_BETWEEN_LINES, progress_bar

LOG_NAME = "log.jsonl"


class TrainingLog:
    """Lines of `log.jsonl`, and the run's progress.

    A line behind the step that a run goes on from was written by a run that was killed before it
    could save that step; it is taken out, so that every step has one line.
    """

    def __init__(
        self,
        folder: Path | None,
        console: Console,
        num_steps: int,
        *,
        from_step: int,
        track: Callable[[Mapping[str, float], int], None] | None = None,
    ) -> None:
        """Open the log of a run's folder.

        Args:
            folder: Of the run; None for a process that writes nothing.
            console: For the bar.
            num_steps: Of the whole run.
            from_step: Steps done before.
            track: Told the numbers of every line, by name, and the step.
        """
        self._track = track
        self._path = None if folder is None else folder / LOG_NAME
        self.console = console
        self._num_steps = num_steps
        self._from_step = from_step
        rate = TextColumn("{task.fields[figures]}", style="dim", markup=False)
        self._bar = progress_bar(console, rate)
        self._task = self._bar.add_task(
            "training", total=num_steps, completed=from_step, figures=""
        )
        self._start = self._last_line = time.monotonic()
        self._num_tokens = 0
        if folder is not None:
            # A new run measures its start anew.
            kept = [line for line in read_log(folder) if 0 < from_step >= line["step"]]
            with self._told():
                write_atomically(folder / LOG_NAME, "".join(_line(entry) for entry in kept))

    def __enter__(self) -> TrainingLog:
        self._bar.start()
        self._start = self._last_line = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def write(self, entry: Mapping[str, Any]) -> None:
        """Add a line."""
        if self._path is None:
            return
        with self._told(), self._path.open("a", encoding="utf-8") as file:
            file.write(_line(entry))
        if self._track is not None:
            kind = entry["kind"]
            self._track(dict(_numbers(entry, f"{kind}/")), entry["step"])

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CheckpointError(
                f"{self._path}: cannot be written ({error.strerror or error}); what is saved is"
                " kept: make room, then go on with --resume"
            ) from error

    def advance(self, step: int, losses: Mapping[str, float | None], num_tokens: int) -> None:
        """So many steps are done, the last one with these losses and so many tokens."""
        self._num_tokens += num_tokens
        now = time.monotonic()
        seconds = max(now - self._start, 1e-9)
        shown = [f"{name} {value:.4g}" for name, value in losses.items() if value is not None]
        figures = " · ".join([*shown, f"{self._num_tokens / seconds:,.0f} tokens/s"])
        self._bar.update(self._task, completed=step, figures=figures)
        if not self.console.is_terminal and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = (self._num_steps - step) * seconds / max(1, step - self._from_step)
            self.line(
                f"step {step:,} of {self._num_steps:,}: {figures},"
                f" about {math.ceil(left / 60)} min left"
            )

    def line(self, text: str) -> None:
        """Print one line above the bar."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; the last one may have been cut by a kill and is left out then."""
    path = folder / LOG_NAME
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _numbers(entry: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    """The numbers of a line, those inside other mappings under `kind/losses/alm`."""
    for name, value in entry.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            yield prefix + name, value


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False) + "\n"
