"""Sums by index: against a plain loop, and exact where a running sum is not."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.errors import ShapeError
from suite.likelihood.chunk_log_probs import chunk_log_probs

TOKENS = st.lists(st.tuples(st.floats(-50, 0), st.integers(-1, 4)), max_size=12)


@settings(max_examples=50)
@given(rows=st.lists(TOKENS, min_size=1, max_size=3))
def test_each_chunk_is_the_sum_of_its_tokens(rows):
    width = max(len(row) for row in rows)
    padded = [[*row, *[(math.nan, -1)] * (width - len(row))] for row in rows]
    log_probs = torch.tensor([[value for value, _ in row] for row in padded], dtype=torch.float64)
    index = torch.tensor([[chunk for _, chunk in row] for row in padded], dtype=torch.int64)
    found = chunk_log_probs(log_probs, index, 5)
    expected = [
        [math.fsum(value for value, chunk in row if chunk == n) for n in range(5)] for row in rows
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_tokens_of_no_chunk_get_no_gradient_whatever_they_hold():
    log_probs = torch.tensor([[math.nan, -1.0, -math.inf, -2.0, -3.0]], requires_grad=True)
    index = torch.tensor([[-1, 0, -1, 1, 1]])
    found = chunk_log_probs(log_probs, index, 3)
    assert found.tolist() == [[-1.0, -5.0, 0.0]]
    (found * torch.tensor([2.0, 3.0, math.inf])).sum().backward()
    assert log_probs.grad.tolist() == [[0.0, 2.0, 0.0, 3.0, 3.0]]


def test_the_gradient_agrees_with_finite_differences():
    log_probs = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([[0, 0, 1, -1], [-1, 2, 2, 2]])
    assert torch.autograd.gradcheck(lambda values: chunk_log_probs(values, index, 3), (log_probs,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_sums_are_float32_and_do_not_depend_on_what_came_before(dtype):
    # A running sum stands at -32 million here and moves in steps of 2.
    log_probs = torch.full((1, 8192), -4096.0, dtype=dtype)
    log_probs[0, -1] = -0.125
    index = torch.zeros(1, 8192, dtype=torch.int64)
    index[0, -1] = 1
    found = chunk_log_probs(log_probs, index, 2)
    assert found.dtype == torch.float32
    assert found.tolist() == [[-4096.0 * 8191, -0.125]]


def test_a_batch_may_have_no_chunks_or_no_tokens():
    assert chunk_log_probs(torch.zeros(2, 3), torch.full((2, 3), -1), 0).shape == (2, 0)
    none = torch.zeros(2, 0)
    assert chunk_log_probs(none, none.long(), 3).tolist() == [[0.0] * 3] * 2


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ShapeError) as caught:
        chunk_log_probs(torch.zeros(2, 3), torch.zeros(2, 4, dtype=torch.int64), 2)
    assert str(caught.value) == (
        "chunk_log_probs: expected log_probs [B, T], chunk_index [B, T];"
        " got log_probs [2, 3], chunk_index [2, 4]"
    )
