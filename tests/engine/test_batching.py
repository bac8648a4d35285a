"""Batches hold every text once, within the budget, and cost no more than simple ways to cut."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from suite.engine.batching import TokenBudget, batches
from suite.engine.prefixes import Segment


def segment(length: int, start: int = 0) -> Segment:
    return Segment(np.arange(length, dtype=np.int32), start, None)


def cost(batch: list[Segment], budget: TokenBudget) -> int:
    return len(batch) * max(len(s.ids) for s in batch) + budget.pass_cost


sizes = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 50)), max_size=25)


@given(sizes, st.integers(1, 200), st.integers(1, 800))
def test_every_segment_is_in_one_batch_within_the_budget(given_sizes, num_read, num_held):
    segments = [segment(*size) for size in given_sizes]
    found = list(batches(segments, TokenBudget(num_read, num_held)))
    assert sorted(map(id, (s for batch in found for s in batch))) == sorted(map(id, segments))
    for batch in found:
        width = max(len(s.ids) for s in batch)
        if len(batch) > 1:
            assert len(batch) * width <= num_read
            assert len(batch) * (width + max(s.start for s in batch)) <= num_held


@given(st.lists(st.integers(1, 30), min_size=1, max_size=25), st.integers(0, 60))
def test_no_simple_cut_is_cheaper(lengths, pass_cost):
    budget = TokenBudget(10**6, 10**6, pass_cost)
    segments = [segment(length) for length in lengths]
    found = sum(cost(batch, budget) for batch in batches(segments, budget))
    by_length = [[s for s in segments if len(s.ids) == n] for n in sorted(set(lengths))]
    assert found <= cost(segments, budget)
    assert found <= sum(cost(batch, budget) for batch in by_length)


def test_the_longest_come_first():
    found = list(batches([segment(n) for n in (3, 100, 4, 50)], TokenBudget(10**6, 10**6, 1)))
    widths = [max(len(s.ids) for s in batch) for batch in found]
    assert widths == sorted(widths, reverse=True)


def test_a_text_beyond_the_budget_is_read_alone():
    found = list(batches([segment(500), segment(500)], TokenBudget(100, 100)))
    assert [len(batch) for batch in found] == [1, 1]


def test_nothing_makes_no_batch():
    assert list(batches([], TokenBudget(10, 10))) == []


def test_a_wished_number_of_tokens_sets_the_budget():
    budget = TokenBudget.for_device(torch.device("cpu"), 300)
    assert (budget.num_read, budget.num_held) == (300, 2400)
