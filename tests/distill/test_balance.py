"""How several losses share a step: fixed weights, and weights from gradient norms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from suite.distill.balance import (
    GradientSums,
    fixed_weights,
    gradmag_weights,
    last_block_parameters,
)
from suite.distill.losses.alm import AlmConfig
from suite.distill.losses.hidden_state import HiddenStateConfig
from suite.distill.losses.sft import SftConfig
from suite.errors import ModelError

NAMES = ("alm", "sft", "hidden_state")
NORMS = st.floats(0, 1e6)


def test_fixed_weights_are_the_users_with_alm_scaled_by_its_temperature():
    losses = (AlmConfig(weight=0.5), SftConfig(weight=2), HiddenStateConfig())
    assert fixed_weights(losses, scale_by_temperature=True) == {
        "alm": 50,
        "sft": 2,
        "hidden_state": 1,
    }
    assert fixed_weights(losses, scale_by_temperature=False) == {
        "alm": 0.5,
        "sft": 2,
        "hidden_state": 1,
    }


def test_a_divergence_without_temperature_is_not_scaled():
    for divergence in ("log_ratio", "kl_limit"):
        losses = (AlmConfig(divergence=divergence),)
        assert fixed_weights(losses, scale_by_temperature=True) == {"alm": 1}


def test_the_first_step_weighs_all_losses_equally():
    assert gradmag_weights({}, NAMES, {}) == dict.fromkeys(NAMES, 1 / 3)


@settings(max_examples=25)
@given(norms=st.lists(st.floats(1e-12, 1e6), min_size=3, max_size=3))
def test_weights_go_with_the_inverse_of_the_norms_and_sum_to_one(norms):
    found = gradmag_weights(dict(zip(NAMES, norms, strict=True)), NAMES, {})
    assert math.fsum(found.values()) == pytest.approx(1)
    products = [found[name] * (norm + 1e-8) for name, norm in zip(NAMES, norms, strict=True)]
    assert products == pytest.approx([products[0]] * 3)


@settings(max_examples=25)
@given(
    norms=st.lists(NORMS, min_size=3, max_size=3),
    shares=st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
)
def test_a_loss_of_norm_zero_keeps_its_weight_and_all_still_sum_to_one(norms, shares):
    last = {name: share / sum(shares) for name, share in zip(NAMES, shares, strict=True)}
    found = gradmag_weights(dict(zip(NAMES, norms, strict=True)), NAMES, last)
    assert math.fsum(found.values()) == pytest.approx(1)
    assert all(weight > 0 for weight in found.values())
    for name, norm in zip(NAMES, norms, strict=True):
        if norm == 0:
            assert found[name] == last[name]


class Trunk(nn.Module):
    """Three blocks, each with a list of its own inside, and ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = nn.ModuleList([nn.Linear(2, 2)])
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(2, 2), nn.ModuleList([nn.Linear(2, 2)])) for _ in range(3)
        )


def test_the_last_block_is_that_of_the_longest_list_and_counts_only_what_is_trained():
    trunk = Trunk()
    last = trunk.blocks[2]
    last[0].bias.requires_grad_(False)
    found = last_block_parameters(trunk)
    expected = [last[0].weight, last[1][0].weight, last[1][0].bias]
    assert [id(parameter) for parameter in found] == [id(parameter) for parameter in expected]


def test_a_trunk_without_blocks_or_with_a_frozen_last_one_is_refused():
    frozen = Trunk()
    frozen.blocks[2].requires_grad_(False)
    for trunk, name in ((nn.Linear(2, 2), "Linear"), (frozen, "Trunk")):
        with pytest.raises(ModelError) as caught:
            last_block_parameters(trunk)
        assert str(caught.value) == (
            f"{name} has no last transformer block that is trained, whose gradients balance gradmag"
            " needs; set balance to fixed"
        )


def test_norms_are_of_the_gradient_over_all_passes_not_of_each():
    weight, unused = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.ones(1))
    sums = GradientSums([weight, unused])
    for factors in ([3.0, 0.0], [-3.0, 4.0]):
        loss = (torch.tensor(factors) * weight).sum()
        sums.add("alm", loss)
        assert loss.grad_fn is not None
        loss.backward()
    sums.add("sft", torch.zeros(()))
    # The first pass and the second one cancel in part: 3 and 5 alone, 4 together.
    assert sums.norms(["alm", "sft"], lambda values: values) == {"alm": 4.0, "sft": 0.0}
    assert sums.norms(["alm"], lambda values: 2 * values) == {"alm": 8.0}
