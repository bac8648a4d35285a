from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from log_prob_cases import (
    IMPLEMENTATIONS,
    assert_same,
    random_case,
    small_case,
)
from torch import Tensor

from suite.likelihood.blocked import BlockPlan, Products

_ALL_SETTINGS = {"softcap": 2.0, "has_bias": True, "vocab_size": 5}


@pytest.mark.parametrize(
    ("implementation", "block_size", "settings"),
    [
        pytest.param("plain", None, {}, id="plain"),
        pytest.param("plain", None, _ALL_SETTINGS, id="plain, all settings"),
        pytest.param("blockwise", 100, {"has_mask": False}, id="no boundary set, one block"),
        pytest.param("blockwise", 1, {}, id="blocks of 1"),
        pytest.param("blockwise", 4, {"softcap": 2.0}, id="blocks of 4 and 2, soft-cap"),
        pytest.param("blockwise", 3, {"has_bias": True}, id="blocks of 3, bias"),
        pytest.param("blockwise", 3, _ALL_SETTINGS, id="blocks of 3 and 2, all settings"),
    ],
)
def test_gradients_are_those_of_finite_differences(
    implementation: str, block_size: int | None, settings: dict[str, Any]
) -> None:
    case = random_case(2, 6, 2, **{"has_mask": True} | settings)
    inputs = [case.hidden, case.weight, *([] if case.bias is None else [case.bias])]

    def outputs(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:
        given = replace(case, hidden=hidden, weight=weight, bias=bias)
        found = given.log_probs(implementation, block_size)
        return (found.token,) if found.boundary is None else (found.token, found.boundary)

    assert torch.autograd.gradcheck(outputs, [value.requires_grad_() for value in inputs])


@pytest.mark.parametrize("implementation", ["plain", "blockwise"])
@pytest.mark.parametrize("output", [0, 1], ids=["token", "boundary"])
def test_either_output_has_its_gradient_alone(implementation: str, output: int) -> None:
    case = random_case(2, 6, 2, has_mask=True)

    def one(hidden: Tensor, weight: Tensor) -> Tensor | None:
        found = replace(case, hidden=hidden, weight=weight).log_probs(implementation, 4)
        return (found.token, found.boundary)[output]

    inputs = [case.hidden.requires_grad_(), case.weight.requires_grad_()]
    assert torch.autograd.gradcheck(one, inputs)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("wanted", ["hidden", "weight", "bias"])
def test_only_the_gradients_that_are_wanted_are_given(implementation: str, wanted: str) -> None:
    case = small_case(num_entries=9, has_bias=True)
    expected = case.answer(implementation, 4)[f"d_{wanted}"]
    inputs = {
        name: getattr(case, name).clone().requires_grad_(name == wanted)
        for name in ("hidden", "weight", "bias")
    }
    found = replace(case, **inputs).log_probs(implementation, 4)
    torch.autograd.backward(
        [found.token, found.boundary], [case.token_gradient, case.boundary_gradient]
    )
    for name, value in inputs.items():
        if name != wanted:
            assert value.grad is None
    given = inputs[wanted].grad
    assert given is not None
    torch.testing.assert_close(given.double(), expected, rtol=0, atol=0)


def test_a_frozen_head_costs_neither_a_product_nor_room(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    for owner, name in ((Products, "product_into"), (BlockPlan, "room")):
        monkeypatch.setattr(owner, name, lambda *given, name=name: called.append(name))
    case = small_case(num_entries=9)
    hidden = case.hidden.clone().requires_grad_()
    replace(case, hidden=hidden).log_probs("blockwise", 4).token.sum().backward()
    assert hidden.grad is not None
    assert called == []


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_gradient_of_a_plain_sum_is_that_of_ones(implementation: str) -> None:
    case = small_case(num_entries=9)
    ones = torch.ones(4)
    expected = replace(case, token_gradient=ones, boundary_gradient=ones).answer("plain")
    hidden = case.hidden.clone().requires_grad_()
    found = replace(case, hidden=hidden).log_probs(implementation, 4)
    assert found.boundary is not None
    # The gradient of a sum is one number, seen as many.
    (found.token.sum() + found.boundary.sum()).backward()
    assert hidden.grad is not None
    torch.testing.assert_close(hidden.grad.double(), expected["d_hidden"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_inputs_may_be_views_with_gaps(implementation: str) -> None:
    case = small_case(num_entries=9, has_bias=True)

    def gapped(value: Tensor) -> Tensor:
        return torch.stack([value, torch.zeros_like(value)], dim=-1)[..., 0]

    names = ("hidden", "weight", "bias", "targets", "boundary_mask", "token_gradient")
    views = replace(case, **{name: gapped(getattr(case, name)) for name in names})
    assert not views.targets.is_contiguous()
    assert_same(views.answer(implementation, 4), case.answer("plain"))


@pytest.mark.parametrize("implementation", ["blockwise", "triton"])
def test_a_second_derivative_is_refused(implementation: str) -> None:
    case = small_case(num_entries=9)
    hidden = case.hidden.clone().requires_grad_()
    found = replace(case, hidden=hidden).log_probs(implementation).token
    (first,) = torch.autograd.grad(found.square().sum(), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
