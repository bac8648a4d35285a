"""Each kernel beside its twin in plain PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from log_prob_cases import DEVICES, FLOAT32_ERROR
from torch import Tensor

from suite.likelihood import block_math
from suite.likelihood.block_math import Block, RowGradients, RowSums
from suite.likelihood.kernels import launch

SETTINGS: dict[str, dict[str, Any]] = {
    "bare": {},
    "boundary set": {"has_set": True},
    "bias and cap": {"has_bias": True, "softcap": 2.5},
    "everything": {"has_set": True, "has_bias": True, "softcap": 2.5},
}

# One tile that is not full, and three of which the last one is not.
TILES = [64, 16]


class Example:
    """Entries 30 to 30 + C of a vocabulary; targets before, in and behind them."""

    def __init__(
        self,
        num_columns: int = 37,
        *,
        has_set: bool = False,
        has_bias: bool = False,
        softcap: float | None = None,
        device: str = "cpu",
    ) -> None:
        torch.manual_seed(0)
        stop = 30 + num_columns
        self.targets = torch.tensor([29, 30, stop - 1, stop, 0], device=device)
        self.logits = (torch.randn(5, num_columns) * 3).to(device)
        self.block = Block(
            start=30,
            stop=stop,
            bias=torch.randn(num_columns).to(device) if has_bias else None,
            inside=(torch.rand(num_columns) < 0.4).to(device) if has_set else None,
            softcap=softcap,
        )
        kinds = 1 + has_set
        self.sums = tuple(
            value.to(device) for value in (torch.randn(kinds, 5), torch.rand(kinds, 5) + 1)
        )
        self.rows = RowGradients(
            torch.randn(5).to(device),
            torch.randn(kinds, 5).to(device),
            (torch.randn(kinds, 5) + 8).to(device),
        )

    def sums_after(self, reduce_block: Any) -> list[Tensor]:
        sums = RowSums(*(value.clone() for value in self.sums), torch.zeros_like(self.rows.target))
        reduce_block(self.logits.clone(), self.targets, self.block, sums)
        return [sums.largest, sums.total, sums.target]

    def gradient(self, block_gradient: Any, dtype: torch.dtype = torch.float32) -> Tensor:
        found = block_gradient(self.logits.clone(), self.targets, self.block, self.rows, dtype)
        assert isinstance(found, Tensor)
        return found


def assert_close(found: Tensor, expected: Tensor, relative: float = FLOAT32_ERROR) -> None:
    assert found.dtype == expected.dtype
    bound = relative * expected.float().abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", SETTINGS)
def test_sums_are_those_of_the_twin(
    monkeypatch: pytest.MonkeyPatch, name: str, tile: int, device: str
) -> None:
    monkeypatch.setattr(launch, "_REDUCE_TILE", tile)
    example = Example(**SETTINGS[name], device=device)
    expected = example.sums_after(block_math.reduce_block)
    for found, value in zip(example.sums_after(launch.reduce_block), expected, strict=True):
        assert_close(found, value)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", SETTINGS)
def test_gradients_are_those_of_the_twin(
    monkeypatch: pytest.MonkeyPatch, name: str, tile: int, device: str
) -> None:
    monkeypatch.setattr(launch, "_GRADIENT_TILE", tile)
    example = Example(**SETTINGS[name], device=device)
    expected = example.gradient(block_math.block_gradient)
    assert_close(example.gradient(launch.block_gradient), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_in_half_precision_are_rounded_once(dtype: torch.dtype, device: str) -> None:
    example = Example(**SETTINGS["everything"], device=device)
    exact = example.gradient(block_math.block_gradient)
    found = example.gradient(launch.block_gradient, dtype)
    assert found.dtype == dtype
    # The interpreter cuts a bfloat16 off where a GPU rounds it.
    steps = 1 if dtype == torch.bfloat16 and launch.is_interpreted() else 0.5
    error = (found.float() - exact).abs()
    bound = steps * torch.finfo(dtype).eps * exact.abs() + FLOAT32_ERROR * exact.abs().max()
    assert bool((error <= bound).all())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("num_columns", [1, 16, 17])
def test_any_number_of_columns_will_do(num_columns: int, device: str) -> None:
    example = Example(num_columns, has_set=True, device=device)
    expected = example.sums_after(block_math.reduce_block)
    for found, value in zip(example.sums_after(launch.reduce_block), expected, strict=True):
        assert_close(found, value)
    gradient = example.gradient(block_math.block_gradient)
    assert_close(example.gradient(launch.block_gradient), gradient)


def test_the_kernel_leaves_the_logits_of_a_forward_pass_as_they_are() -> None:
    example = Example(**SETTINGS["everything"])
    logits = example.logits.clone()
    sums = RowSums.empty(5, True, logits.device, logits.dtype)
    launch.reduce_block(logits, example.targets, example.block, sums)
    assert torch.equal(logits, example.logits)


def test_a_gradient_is_written_over_the_logits_where_their_dtype_is_wanted() -> None:
    example = Example()
    logits = example.logits.clone()
    arguments = (example.targets, example.block, example.rows)
    found = launch.block_gradient(logits, *arguments, torch.float32)
    assert found.data_ptr() == logits.data_ptr()
    other = launch.block_gradient(logits, *arguments, torch.bfloat16)
    assert other.data_ptr() != logits.data_ptr()


@pytest.mark.parametrize("device", DEVICES)
def test_a_tanh_is_exact_where_the_logits_are_small_and_where_they_are_large(device: str) -> None:
    example = Example(softcap=1.0, device=device)
    for size in (1e-6, 1e-3, 0.099, 0.101, 1.0, 9.0, 200.0):
        example.logits = torch.full_like(example.logits, size)
        example.logits[:, ::2] *= -1
        _, _, target = example.sums_after(launch.reduce_block)
        true = torch.tanh(example.logits.double())
        for row, column in ((1, 0), (2, 36)):
            error = (target[row].double() - true[row, column]) / true[row, column]
            assert abs(error.item()) < FLOAT32_ERROR


def test_no_rows_are_no_work() -> None:
    nothing = torch.empty(0, 7)
    targets = torch.empty(0, dtype=torch.long)
    block = Block(start=0, stop=7, bias=None, inside=None, softcap=None)
    sums = RowSums.empty(0, False, nothing.device, nothing.dtype)
    rows = RowGradients(torch.empty(0), torch.empty(1, 0), torch.empty(1, 0))
    for module in (block_math, launch):
        if module is launch:
            module.reduce_block(nothing, targets, block, sums)
        assert module.block_gradient(nothing, targets, block, rows, torch.float32).shape == (0, 7)
