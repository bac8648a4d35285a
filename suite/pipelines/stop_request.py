"""A run that is told to stop: in the middle of training it saves first, elsewhere it just ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopRequest:
    """SIGTERM, SIGUSR1 or Ctrl-C, noticed from `__enter__` on.

    Attributes:
        is_set: A signal came while training was on, which is to save and stop.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._is_training = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self._former = {number: signal.signal(number, self._notice) for number in _SIGNALS}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Work that looks at `is_set` and saves what it has."""
        self._is_training = True
        try:
            yield
        finally:
            self._is_training = False

    def _notice(self, number: int, frame: Any) -> None:
        # What is not training has nothing to save; and whoever asks twice does not want to wait.
        if not self._is_training or (self.is_set and number == signal.SIGINT):
            raise KeyboardInterrupt
        self.is_set = True
