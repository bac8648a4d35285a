"""Seeded draws and the block layout that every multiple-choice task shares."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
Row = dict[str, object]

TRAIN_ITEMS = 100
TEST_ITEMS = 150


def split_words(text: str) -> list[str]:
    """The words of a text; easier to read and extend than a list of quoted strings."""
    return text.split()


def split_parts(text: str) -> list[str]:
    """The parts of a text between semicolons."""
    return [part.strip() for part in text.split(";")]


class Draw:
    """Draws built on `Random.random` alone.

    Only the stream of `random()` is promised to stay the same across Python versions, so
    `choice`, `shuffle` and `sample` of the standard library are not used.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def below(self, stop: int) -> int:
        """An integer in [0, stop)."""
        return int(self._random.random() * stop)

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high], both ends included."""
        return low + self.below(high - low + 1)

    def pick(self, values: Sequence[T]) -> T:
        """One of the values."""
        return values[self.below(len(values))]

    def shuffled(self, values: Sequence[T]) -> list[T]:
        """The values in a new order (Fisher-Yates)."""
        result = list(values)
        for last in range(len(result) - 1, 0, -1):
            other = self.below(last + 1)
            result[last], result[other] = result[other], result[last]
        return result

    def sample(self, values: Sequence[T], count: int) -> list[T]:
        """`count` values at different places."""
        return self.shuffled(values)[:count]


@dataclass(frozen=True)
class Block:
    """Questions that share one set of choices, each choice being right for one of them.

    Whoever scores the choices without reading the question ranks them the same way in the
    whole block and so is right exactly once: chance, by construction.
    """

    kind: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]


def split_blocks(draw: Draw, units: Sequence[Sequence[Block]]) -> dict[str, list[Row]]:
    """Rows of both splits; blocks of one unit share words, so a unit stays in one split."""
    size = len(units[0][0].answers)
    order = draw.shuffled(units)
    train: list[Block] = []
    rest: list[Block] = []
    for unit in order:
        fits = (len(train) + len(unit)) * size <= TRAIN_ITEMS
        (train if fits else rest).extend(unit)
    return {
        "train": _rows(draw, train, TRAIN_ITEMS),
        "test": _rows(draw, rest, TEST_ITEMS),
    }


def _rows(draw: Draw, blocks: Sequence[Block], count: int) -> list[Row]:
    rows: list[Row] = []
    for number, block in enumerate(blocks):
        places = draw.shuffled(range(len(block.answers)))
        for question, answer, place in zip(block.questions, block.answers, places, strict=True):
            choices = draw.shuffled([other for other in block.answers if other != answer])
            choices.insert(place, answer)
            rows.append(
                {
                    "kind": block.kind,
                    "block": number,
                    "question": question,
                    "choices": choices,
                    "gold": place,
                }
            )
    if len(rows) < count:
        raise ValueError(f"{len(rows)} rows, {count} needed")
    return rows[:count]
