"""The cross-entropy: a sum over the tokens that losses count."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_batches import as_float32, random_inputs, random_rows

from suite.distill.losses.contract import LossContext
from suite.distill.losses.sft import SftConfig, sft_loss
from suite.errors import ShapeError

LOSS = SftConfig().build(LossContext(student_size=8))


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_the_loss_is_the_sum_over_counted_tokens(seed):
    inputs = random_inputs(random_rows(seed), seed)
    token, mask = inputs.student.log_probs.token, inputs.batch.student.loss_mask
    pairs = zip(token.detach().flatten().tolist(), mask.flatten().tolist(), strict=True)
    counted = [value for value, counts in pairs if counts]
    found = LOSS(inputs)
    assert found.sum.item() == pytest.approx(-math.fsum(counted))
    assert found.count.item() == len(counted)
    assert found.count.dtype == torch.int64
    (gradient,) = torch.autograd.grad(found.sum, token)
    assert torch.equal(gradient, -mask.double())
    rounded = LOSS(as_float32(inputs)).sum
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(found.sum.item(), rel=1e-5)


@pytest.mark.parametrize("junk", [3.0, math.nan, math.inf, -math.inf])
def test_what_is_masked_changes_neither_loss_nor_gradient(junk):
    log_probs = torch.tensor([[junk, -1.0, -2.0, junk]], requires_grad=True)
    loss = sft_loss(log_probs, torch.tensor([[False, True, True, False]]))
    loss.backward()
    assert loss.item() == 3
    assert log_probs.grad.tolist() == [[0.0, -1.0, -1.0, 0.0]]


def test_half_precision_is_summed_in_float32():
    log_probs = torch.full((1, 4096), -1.0, dtype=torch.bfloat16)
    assert sft_loss(log_probs, torch.ones(1, 4096).bool()).item() == 4096


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ShapeError) as caught:
        sft_loss(torch.zeros(1, 2), torch.zeros(1, 3).bool())
    assert str(caught.value) == (
        "sft_loss: expected token_log_probs [B, Ts], mask [B, Ts];"
        " got token_log_probs [1, 2], mask [1, 3]"
    )
