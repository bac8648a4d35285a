"""Which texts are read together: few passes, little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from suite.engine.prefixes import Segment


@dataclass
class TokenBudget:
    """How much one forward pass may hold; a text longer than that is read alone.

    Attributes:
        num_read: New tokens of a batch, padding included.
        num_held: Tokens of its caches, padding included.
        pass_cost: What a pass costs beside its tokens, in tokens: all weights are read once.
    """

    num_read: int
    num_held: int
    pass_cost: int = 36

    @classmethod
    def for_device(cls, device: torch.device, num_read: int | None = None) -> TokenBudget:
        """The usual budget of a device, or as many new tokens as given."""
        if device.type == "cpu":
            size = num_read or 1024
            return cls(size, 8 * size)
        size = num_read or 16384
        return cls(size, 8 * size, pass_cost=512)

    def halve(self) -> None:
        """Hold half as much from now on."""
        self.num_read, self.num_held = self.num_read // 2, self.num_held // 2


def batches(segments: Sequence[Segment], budget: TokenBudget) -> Iterator[list[Segment]]:
    """Segments in batches, the longest first, so that memory fails at once or never.

    A batch is as wide as its longest segment. Among all ways to cut the segments, sorted by length,
    this takes one that costs least: padded tokens, and `pass_cost` for each batch.
    """
    by_length: dict[int, list[Segment]] = {}
    for segment in segments:
        by_length.setdefault(len(segment.ids), []).append(segment)
    widths = np.array(sorted(by_length, reverse=True), np.int64)
    counts = np.array([len(by_length[int(width)]) for width in widths], np.int64)
    for first, stop in _ranges(widths, counts, budget):
        # Neighbours have caches of like length, too.
        together = [s for width in widths[first:stop] for s in by_length[int(width)]]
        yield from _within(sorted(together, key=lambda s: -s.start), int(widths[first]), budget)


def _ranges(
    widths: NDArray[np.int64], counts: NDArray[np.int64], budget: TokenBudget
) -> list[tuple[int, int]]:
    """Ranges of widths that share batches, by dynamic programming from the last one."""
    num_widths = len(widths)
    best = np.zeros(num_widths + 1)
    stop_of = np.zeros(num_widths, np.int64)
    for first in reversed(range(num_widths)):
        tokens = widths[first] * np.cumsum(counts[first:])
        costs = tokens + budget.pass_cost * np.ceil(tokens / max(budget.num_read, 1))
        costs = costs + best[first + 1 :]
        stop_of[first] = first + 1 + int(costs.argmin())
        best[first] = costs.min()
    ranges = []
    first = 0
    while first < num_widths:
        ranges.append((first, int(stop_of[first])))
        first = int(stop_of[first])
    return ranges


def _within(segments: list[Segment], width: int, budget: TokenBudget) -> Iterator[list[Segment]]:
    """Segments of like length, as many at a time as the budget allows, at least one."""
    batch: list[Segment] = []
    for segment in segments:
        # The first of a batch has the longest cache.
        longest = batch[0].start if batch else segment.start
        count = len(batch) + 1
        too_many = count * width > budget.num_read or count * (longest + width) > budget.num_held
        if batch and too_many:
            yield batch
            batch = []
        batch.append(segment)
    if batch:
        yield batch
