"""Libraries print much; during a run it goes into a log file, and the terminal stays readable."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


@contextlib.contextmanager
def noise_to(path: Path) -> Iterator[TextIO]:
    """Send standard output, standard error, warnings and log records to the end of a file.

    Yields what standard error was, for what the user should see. What programs that libraries start
    write to standard error is caught too, because the file descriptor itself is redirected.
    """
    with path.open("a", encoding="utf-8") as log, _descriptor_to(log) as terminal:
        handler = logging.StreamHandler(log)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger()
        # transformers writes through a handler of its own, bound to what standard error was when
        # it was imported; one bound to the log must not outlive it.
        own_handlers = logging.getLogger("transformers").handlers
        held = list(own_handlers)
        own_handlers.clear()
        root.addHandler(handler)
        try:
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                yield terminal
        finally:
            root.removeHandler(handler)
            own_handlers[:] = held


@contextlib.contextmanager
def _descriptor_to(log: TextIO) -> Iterator[TextIO]:
    """Point file descriptor 2 at a file; yields a text file on what it was before."""
    with os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1) as terminal:
        os.dup2(log.fileno(), 2)
        try:
            yield terminal
        finally:
            log.flush()
            os.dup2(terminal.fileno(), 2)
