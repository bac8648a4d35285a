"""Training rows, epoch by epoch and step by step, from any place on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from suite.align.rows import Row
from suite.distill.state import DataPlace
from suite.errors import ConfigError
from suite.text.corpus import Position

# Rows of one epoch from a place on, until its last row; the epoch is that of the place.
EpochRows = Callable[[DataPlace], Iterator[Row]]


@dataclass(frozen=True, eq=False)
class StepRows:
    """What one optimiser step is made of, over all processes.

    Attributes:
        rows: In the order of reading.
        numbers: Places of the rows in their epoch, from 0.
        behind: Where to read on.
    """

    rows: tuple[Row, ...]
    numbers: tuple[int, ...]
    behind: DataPlace


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a run, endless.

    A row never holds the end of one epoch and the beginning of the next, nor does a step: so every
    epoch can be read from a stored teacher, which holds one.

    Attributes:
        epoch_rows: Reads one epoch.
        name: What messages call the data.
    """

    epoch_rows: EpochRows
    name: str

    def steps(self, place: DataPlace, rows_per_step: int) -> Iterator[StepRows]:
        """Rows of one step after another; the last step of an epoch may have fewer.

        Args:
            place: Where to begin, as `StepRows.behind` gave it.
            rows_per_step: Most rows of a step.

        Raises:
            ConfigError: An epoch has no rows.
        """
        for epoch in itertools.count(place.position.epoch):
            if epoch != place.position.epoch:
                place = DataPlace(Position(epoch))
            rows = self.epoch_rows(place)
            number = place.row
            while taken := tuple(itertools.islice(rows, rows_per_step)):
                numbers = tuple(range(number, number + len(taken)))
                number += len(taken)
                place = _behind(taken[-1], epoch, number)
                yield StepRows(taken, numbers, place)
            if number == 0:
                raise ConfigError(f"{self.name}: no text to make training rows of")

    def num_steps(self, epochs: int, rows_per_step: int) -> int:
        """Steps of so many epochs, by reading them; takes as long as reading does."""
        counts = (
            sum(1 for _ in self.epoch_rows(DataPlace(Position(epoch)))) for epoch in range(epochs)
        )
        return sum(-(-count // rows_per_step) for count in counts)


def _behind(row: Row, epoch: int, number: int) -> DataPlace:
    """The place behind a row; behind an epoch's last one stands the beginning of the next."""
    if row.resume.epoch != epoch:
        return DataPlace(Position(epoch + 1))
    return DataPlace(row.resume, row.resume_token, number)
