"""The processes of one run, as torchrun or accelerate start them: all decide alike, one writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

from suite.errors import ConfigError, HarnessError

ValueT = TypeVar("ValueT")

# One process may score for hours while the others wait for it.
_PATIENCE = timedelta(weeks=1)
_REQUESTS = ("loglikelihood", "loglikelihood_rolling", "generate_until")
_MEETINGS = ("all_gather", "gather_object", "barrier", "total_counts")


class Ranks:
    """This process among those of its run; alone unless the environment says otherwise."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size
        self._group: Any = None
        self._has_told = False

    @classmethod
    def of_environment(cls) -> Ranks:
        """The place that the launcher gave this process."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def check(self, backend: str, *, has_served_models: bool, jobs: int) -> None:
        """Refuse what only one process can do.

        Raises:
            ConfigError: There are several processes.
        """
        if self.world_size == 1:
            return
        if jobs > 1:
            raise ConfigError(
                f"--jobs is {jobs}, but {self.world_size} processes were started to share each"
                " pair; leave out one of the two"
            )
        if backend == "hf" or has_served_models:
            what = "backend: hf" if backend == "hf" else "a model from an lm_eval source"
            raise ConfigError(
                f"{what} is scored by one process, {self.world_size} were started; leave it out, or"
                " start the suite without a launcher"
            )

    def from_first(self, decide: Callable[[], ValueT]) -> ValueT:
        """What the first process decides, on all of them.

        Raises:
            Exception: As `raise_together`.
        """
        decided = [self.together(decide if self.is_first else lambda: None)]
        if self.world_size > 1:
            self._distributed().broadcast_object_list(decided, src=0, group=self._group)
        return cast(ValueT, decided[0])

    def raise_together(self, error: Exception | None) -> None:
        """Raise on every process if there is an error on any.

        Raises:
            Exception: This process's own.
            HarnessError: Another's, in its words.
        """
        if self.world_size > 1:
            reasons: list[str | None] = [None] * self.world_size
            own = None if error is None else str(error) or type(error).__name__
            self._distributed().all_gather_object(reasons, own, group=self._group)
            others = [reason for reason in reasons if reason is not None]
            self._has_told = bool(others)
            if error is None and others:
                raise HarnessError(others[0])
        if error is not None:
            raise error

    def together(self, action: Callable[[], ValueT]) -> ValueT:
        """Do something on every process; it fails on all of them or on none.

        The processes may meet in between (see `hold_together`): a failure that is told there is not
        told again.

        Raises:
            Exception: As `raise_together`.
        """
        self._has_told = False
        value, error = _attempt(action)
        if error is not None and self._has_told:
            raise error
        self.raise_together(error)
        return cast(ValueT, value)

    def hold_together(self, backend: Any) -> None:
        """Make an evaluation with a backend fail on all processes or on none.

        Requests are answered on all or on none. Wherever lm-eval lets the processes meet, those
        that get there ask first: one that failed on its own documents has left `together`, and
        tells them instead of keeping them waiting.
        """
        if self.world_size == 1:
            return
        for name in _REQUESTS:
            setattr(backend, name, self._together(getattr(backend, name)))
        for name in _MEETINGS:
            setattr(backend, name, self._asking_first(getattr(backend, name)))

    def _together(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        def answered(requests: Any, *rest: Any, **options: Any) -> Any:
            return self.together(lambda: answer(requests, *rest, **options))

        return answered

    def _asking_first(self, meet: Callable[..., Any]) -> Callable[..., Any]:
        def met(*given: Any, **options: Any) -> Any:
            self.raise_together(None)
            return meet(*given, **options)

        return met

    def _distributed(self) -> Any:
        """torch.distributed, with a group of this run's own for decisions."""
        import torch
        from torch import distributed

        from suite.harness.sharding import Ranks as ScoringRanks

        if self._group is None:
            is_cuda = torch.cuda.is_available()
            ScoringRanks(torch.device("cuda" if is_cuda else "cpu"))
            self._group = distributed.new_group(backend="gloo", timeout=_PATIENCE)
        return distributed


def _attempt(action: Callable[[], ValueT]) -> tuple[ValueT | None, Exception | None]:
    try:
        return action(), None
    except Exception as error:
        return None, error
