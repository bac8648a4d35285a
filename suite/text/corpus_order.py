"""The order in which documents are read: a function of seed and epoch, so any place can be resumed.

numpy promises the raw numbers of a bit generator for all its versions, but not what `permutation`
makes of them. Orders outlive an upgrade in checkpoints and stored teachers, so they are sorted
from the raw numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")


def shuffled_numbers(count: int, seeds: Sequence[int]) -> NDArray[np.int64]:
    """A permutation of 0 to count - 1 that depends on `seeds` alone.

    Returns:
        int64 [count].
    """
    generator = np.random.PCG64(np.random.SeedSequence(seeds))
    return np.argsort(generator.random_raw(count), kind="stable")


def shuffled_blocks(
    read_from: Callable[[int], Iterator[Item]], *, block_size: int, seeds: Sequence[int], start: int
) -> Iterator[tuple[int, Item]]:
    """Items of a stream with their numbers, shuffled inside blocks of `block_size`.

    A stream can't be permuted as a whole. Blocks have a fixed place in it, so the order from
    `start` on is known without what came before: whole blocks are left out by `read_from`, and at
    most one block is read again.

    Args:
        read_from: Gives the items from a number on, in the stream's own order.
        block_size: Items held in memory at once.
        seeds: With the number of the block, what its order depends on.
        start: How many items of the shuffled order to leave out.
    """
    block, num_done = divmod(start, block_size)
    items = read_from(block * block_size)
    while held := list(islice(items, block_size)):
        order = shuffled_numbers(len(held), (*seeds, block))
        for number in order[num_done:].tolist():
            yield block * block_size + number, held[number]
        block, num_done = block + 1, 0
