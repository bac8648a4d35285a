from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from suite.text.corpus_order import shuffled_blocks, shuffled_numbers

counts = st.integers(0, 60)
seeds = st.lists(st.integers(0, 2**63), min_size=1, max_size=3)


class Letters:
    """A stream of numbered items that remembers which were read."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read: list[int] = []

    def read_from(self, number: int) -> Iterator[str]:
        for item in range(number, self.count):
            self.read.append(item)
            yield f"item {item}"


def blocks(count: int, block_size: int, start: int = 0, seed: int = 3) -> list[tuple[int, str]]:
    stream = Letters(count).read_from
    return list(shuffled_blocks(stream, block_size=block_size, seeds=(seed,), start=start))


@given(count=counts, seeds=seeds)
def test_a_shuffled_order_holds_every_number_once(count: int, seeds: list[int]) -> None:
    order = shuffled_numbers(count, seeds)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(count))


@given(count=counts, seeds=seeds)
def test_the_order_is_the_sort_of_the_generators_raw_numbers(count: int, seeds: list[int]) -> None:
    generator = np.random.PCG64(np.random.SeedSequence(seeds))
    raw = [int(generator.random_raw()) for _ in range(count)]
    assert shuffled_numbers(count, seeds).tolist() == sorted(range(count), key=raw.__getitem__)


def test_the_order_is_the_same_on_every_machine_and_with_every_version() -> None:
    assert shuffled_numbers(10, (0, 0)).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    assert [number for number, _ in blocks(10, 4)] == [0, 1, 3, 2, 4, 6, 5, 7, 8, 9]


def test_other_seeds_give_another_order() -> None:
    orders = {tuple(shuffled_numbers(20, seeds)) for seeds in [(0, 0), (0, 1), (1, 0), (1, 1)]}
    assert len(orders) == 4


@given(count=counts, block_size=st.integers(1, 9))
def test_blocks_give_each_item_once_with_its_number(count: int, block_size: int) -> None:
    assert sorted(blocks(count, block_size)) == sorted((n, f"item {n}") for n in range(count))


@given(count=counts, block_size=st.integers(1, 9))
def test_no_item_leaves_its_block(count: int, block_size: int) -> None:
    for place, (number, _) in enumerate(blocks(count, block_size)):
        assert number // block_size == place // block_size


@given(count=counts, block_size=st.integers(1, 9), start=st.integers(0, 70))
def test_blocks_can_be_entered_anywhere(count: int, block_size: int, start: int) -> None:
    assert blocks(count, block_size, start) == blocks(count, block_size)[start:]


def test_whole_blocks_before_the_start_are_not_read() -> None:
    stream = Letters(20)
    next(shuffled_blocks(stream.read_from, block_size=4, seeds=(0,), start=9))
    assert stream.read == [8, 9, 10, 11]


def test_blocks_have_orders_of_their_own() -> None:
    numbers = [number % 8 for number, _ in blocks(16, 8)]
    assert numbers[:8] != numbers[8:]
