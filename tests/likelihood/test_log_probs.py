from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from log_prob_cases import (
    DEVICES,
    IMPLEMENTATIONS,
    Case,
    assert_same,
    random_case,
    small_case,
)

from suite.likelihood.blocked import choose_block_size
from suite.likelihood.kernels import launch


@st.composite
def cases(draw: st.DrawFn) -> Case:
    num_entries = draw(st.integers(1, 20))
    return small_case(
        num_tokens=draw(st.integers(0, 5)),
        num_entries=num_entries,
        width=draw(st.integers(1, 5)),
        seed=draw(st.integers(0, 99)),
        has_mask=draw(st.booleans()),
        has_bias=draw(st.booleans()),
        softcap=draw(st.sampled_from([None, 2.0])),
        vocab_size=draw(st.sampled_from([None, max(1, num_entries - 3)])),
    )


@settings(max_examples=50)
@given(cases(), st.integers(1, 25))
def test_the_block_size_changes_nothing(case: Case, block_size: int) -> None:
    assert_same(case.answer("blockwise", block_size), case.answer("plain"))


@settings(max_examples=8)
@given(cases(), st.integers(6, 25))
def test_the_block_size_changes_nothing_for_kernels(case: Case, block_size: int) -> None:
    assert_same(case.answer("triton", block_size), case.answer("plain"))


@settings(max_examples=30)
@given(cases(), st.randoms(use_true_random=False))
def test_permuted_rows_give_permuted_numbers(case: Case, random: Any) -> None:
    order = torch.tensor(random.sample(range(len(case.hidden)), len(case.hidden)), dtype=torch.long)
    by_row = ("hidden", "targets", "token_gradient", "boundary_gradient")
    permuted = replace(case, **{name: getattr(case, name)[order] for name in by_row})
    expected = case.answer("blockwise", 7)
    expected |= {
        name: expected[name][order]
        for name in ("token", "boundary", "d_hidden")
        if name in expected
    }
    assert_same(permuted.answer("blockwise", 7), expected)


@settings(max_examples=30)
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_the_vocabulary_changes_nothing(case: Case, random: Any) -> None:
    padding = range(case.num_entries, len(case.weight))
    order = torch.tensor([*random.sample(range(case.num_entries), case.num_entries), *padding])
    by_entry = {
        name: getattr(case, name)[order]
        for name in ("weight", "bias", "boundary_mask")
        if getattr(case, name) is not None
    }
    permuted = replace(case, targets=order.argsort()[case.targets], **by_entry)
    expected = case.answer("blockwise", 7)
    expected |= {name: expected[name][order] for name in ("d_weight", "d_bias") if name in expected}
    assert_same(permuted.answer("blockwise", 7), expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_log_probs_are_at_most_0(implementation: str, scale: float) -> None:
    case = small_case(num_tokens=12, num_entries=200)
    hidden = case.hidden * scale
    # Sums of all probabilities are 1 up to their last bits, on either side of it.
    everything = torch.ones(200, dtype=torch.bool)
    for mask in (case.boundary_mask, everything):
        found = replace(case, hidden=hidden, boundary_mask=mask).log_probs(implementation, 64)
        assert found.boundary is not None
        assert bool((found.token <= 0).all())
        assert bool((found.boundary <= 0).all())


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_outputs_are_float32_and_gradients_have_the_dtype_of_their_inputs(
    implementation: str, dtype: torch.dtype
) -> None:
    case = random_case(2, 9, has_mask=True).to(dtype)
    hidden, weight = case.hidden.requires_grad_(), case.weight.requires_grad_()
    found = case.log_probs(implementation)
    assert found.boundary is not None
    assert found.token.dtype == found.boundary.dtype == torch.float32
    gradients = torch.autograd.grad(found.token.sum(), [hidden, weight])
    assert [value.dtype for value in gradients] == [dtype, dtype]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_autocast_rounds_the_products_operands_and_no_parameter(
    implementation: str, device: str
) -> None:
    case = random_case(num_entries=20, has_mask=True).to(torch.float32, device)
    expected = case.to(torch.bfloat16, device).answer(implementation, 8)
    hidden, weight = case.hidden.requires_grad_(), case.weight.requires_grad_()
    with torch.autocast(device, dtype=torch.bfloat16):
        found = case.log_probs(implementation, 8)
    assert found.token.dtype == torch.float32
    gradients = torch.autograd.grad(
        [found.token, found.boundary],
        [hidden, weight],
        [case.token_gradient, case.boundary_gradient],
    )
    assert [value.dtype for value in gradients] == [torch.float32, torch.float32]
    token = found.token.detach().cpu().double()
    torch.testing.assert_close(token, expected["token"], rtol=0, atol=1e-6)
    for name, value in zip(("d_hidden", "d_weight"), gradients, strict=True):
        error = (value.cpu().double() - expected[name]).abs().max()
        # The two round gradients at different places.
        assert error <= torch.finfo(torch.bfloat16).eps * expected[name].abs().max()


@pytest.mark.parametrize("implementation", ["plain", "blockwise"])
def test_autocast_leaves_float64_alone(implementation: str) -> None:
    case = random_case(num_entries=9, has_mask=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = case.answer(implementation)
    for output, value in case.answer(implementation).items():
        torch.testing.assert_close(found[output], value, rtol=0, atol=0)


def test_a_head_in_another_dtype_is_taken_under_autocast() -> None:
    case = small_case(num_entries=9)
    mixed = replace(case, hidden=case.hidden.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = mixed.log_probs("blockwise").token
    expected = case.to(torch.bfloat16).log_probs("blockwise").token
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_kernels_run_in_the_interpreter_where_there_is_no_gpu() -> None:
    assert launch.is_interpreted()


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by a name each time kernels are launched."""
    names: list[str] = []

    def counted(name: str, run: Any) -> Any:
        return lambda *given: names.append(name) or run(*given)

    for name in ("reduce_block", "block_gradient"):
        monkeypatch.setattr(launch, name, counted(name, getattr(launch, name)))
    return names


def test_triton_runs_the_kernels_once_a_block_and_direction(launched: list[str]) -> None:
    small_case(num_entries=9).answer("triton", 5)
    assert launched == ["reduce_block"] * 2 + ["block_gradient"] * 2


@pytest.mark.gpu
def test_auto_is_triton_on_a_gpu_but_for_float64(launched: list[str]) -> None:
    case = random_case(num_entries=9)
    case.to(torch.bfloat16, "cuda").answer("auto")
    assert launched == ["reduce_block", "block_gradient"]
    case.to(torch.float64, "cuda").answer("auto")
    assert launched == ["reduce_block", "block_gradient"]


@pytest.mark.parametrize("implementation", ["auto", "blockwise", "plain"])
def test_no_other_implementation_runs_kernels(launched: list[str], implementation: str) -> None:
    small_case(num_entries=9).answer(implementation)
    assert launched == []


def test_auto_is_blockwise_on_the_cpu() -> None:
    case = small_case(num_entries=9)
    hidden = case.hidden.clone().requires_grad_()
    assert (
        replace(case, hidden=hidden).log_probs("auto").token.grad_fn.name()
        == "BlockedLogProbsBackward"
    )
    expected = case.answer("blockwise", None)
    for output, value in case.answer("auto", None).items():
        torch.testing.assert_close(value, expected[output], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("num_tokens", "num_entries", "device", "expected"),
    [
        (4096, 49152, "cpu", 512),
        (8192, 128256, "cuda", 8192),
        (0, 300, "cpu", 300),
        (10, 1000, "cpu", 1000),
        (2**24, 1000, "cpu", 128),
        (3000, 49152, "cpu", 640),
        (4096, 49152, "xpu", 512),
    ],
)
def test_blocks_hold_as_many_logits_as_the_device_likes_in_multiples_of_128(
    num_tokens: int, num_entries: int, device: str, expected: int
) -> None:
    assert choose_block_size(num_tokens, num_entries, device) == expected
