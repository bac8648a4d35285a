"""Products of half precision into float32, as CUDA has them; a stand-in makes them here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from log_prob_cases import random_case
from torch import Tensor

from suite.likelihood.blocked import BlockedLogProbs, BlockPlan, Products

# Of a gradient's norm. At worst dlogits are off by a step of the dtype, because the interpreter
# cuts off what it stores, and the result by half a step; over a whole norm, by half of both.
ROUNDING = {dtype: 0.75 * torch.finfo(dtype).eps for dtype in (torch.bfloat16, torch.float16)}


@pytest.fixture
def product(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Lets `torch.mm` take `out_dtype` on a processor, and notes the operands' dtypes."""
    mm: Callable[..., Tensor] = torch.mm
    seen: list[torch.dtype] = []

    def with_out_dtype(left: Tensor, right: Tensor, **options: Any) -> Tensor:
        out_dtype = options.pop("out_dtype", None)
        if out_dtype is None:
            return mm(left, right, **options)
        assert left.dtype == right.dtype
        seen.append(left.dtype)
        return mm(left.to(out_dtype), right.to(out_dtype))

    monkeypatch.setattr(torch, "mm", with_out_dtype)
    return seen


@pytest.mark.parametrize("uses_kernels", [False, True])
@pytest.mark.parametrize("held_in", ["its own dtype", "float32, as under autocast"])
@pytest.mark.parametrize("dtype", list(ROUNDING))
def test_gradients_are_rounded_twice_and_come_in_the_dtype_of_the_weights(
    product: list[torch.dtype], dtype: torch.dtype, held_in: str, uses_kernels: bool
) -> None:
    case = random_case(12, 75, 16, has_mask=True, has_bias=True, softcap=5.0)
    stored = dtype if held_in == "its own dtype" else torch.float32
    inputs = [getattr(case, name).to(stored) for name in ("hidden", "weight", "bias")]
    exact = [inputs[0].to(dtype).double(), inputs[1].to(dtype).double(), inputs[2].double()]

    def run(tensors: list[Tensor], products: Products) -> tuple[list[Tensor], list[Tensor]]:
        tensors = [tensor.detach().requires_grad_() for tensor in tensors]
        plan = BlockPlan(num_entries=75, block_size=32, softcap=5.0, products=products)
        outputs = BlockedLogProbs.apply(*tensors, case.targets, case.boundary_mask, plan)
        upstream = [case.token_gradient, case.boundary_gradient]
        gradients = [own.to(output.dtype) for own, output in zip(upstream, outputs, strict=True)]
        found = torch.autograd.grad(outputs, tensors, gradients)
        return [output.detach() for output in outputs], list(found)

    half = Products(dtype, dtype, torch.float32, uses_kernels)
    outputs, gradients = run(inputs, half)
    assert set(product) == {dtype}
    true_outputs, true_gradients = run(exact, Products(*[torch.float64] * 3, uses_kernels=False))
    for found, true in zip(outputs, true_outputs, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), true, rtol=0, atol=1e-5)
    for found, true in zip(gradients, true_gradients, strict=True):
        assert found.dtype == stored
        assert (found.double() - true).norm() <= ROUNDING[dtype] * true.norm()
