"""Errors against the truth, beside those of the readable reference on the same rounded inputs."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from log_prob_cases import (
    CASE_NAMES,
    DEVICES,
    FLOAT32_ERROR,
    FLOAT64_ERROR,
    TOLERANCES,
    Answer,
    build_cases,
    random_case,
    with_mass,
)
from log_prob_oracle import exact_answer
from torch import Tensor

# The interpreter takes a tenth of a second a case.
SEEDS = {"cpu": (8, 9, 10), "cuda": tuple(range(8, 16))}

# What the interpreter runs in half precision; there, only the products differ from float32.
HALF_IN_INTERPRETER = ("all settings", "boundary mass near 0", "probability near 0 and 1")


def runs() -> list:
    """Implementation, case, dtype, device."""
    found = []
    for implementation in ("blockwise", "triton"):
        for name in CASE_NAMES:
            for dtype in TOLERANCES:
                run = (implementation, name, dtype)
                label = f"{implementation}, {name}, {dtype_name(dtype)}"
                is_slow = implementation == "triton" and dtype != torch.float32
                if not is_slow or name in HALF_IN_INTERPRETER:
                    found.append(pytest.param(*run, "cpu", id=f"{label}, cpu"))
                found.append(pytest.param(*run, "cuda", id=f"{label}, cuda", marks=pytest.mark.gpu))
    return found


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@cache
def truth(name: str, dtype: torch.dtype, seed: int) -> Answer:
    return exact_answer(build_cases(seed)[name].to(dtype))


@cache
def reference(name: str, dtype: torch.dtype, seed: int, device: str) -> Answer:
    return build_cases(seed)[name].to(dtype, device).answer("plain")


def largest(values: list[Tensor]) -> float:
    return max(value.abs().max().item() for value in values)


def errors(found: list[Answer], true: list[Answer], output: str) -> list[Tensor]:
    return [own[output] - exact[output] for own, exact in zip(found, true, strict=True)]


@pytest.mark.parametrize(("implementation", "name", "dtype", "device"), runs())
def test_errors_stay_within_those_of_plain(
    implementation: str, name: str, dtype: torch.dtype, device: str
) -> None:
    seeds = SEEDS[device]
    cases = [build_cases(seed)[name].to(dtype, device) for seed in seeds]
    true = [truth(name, dtype, seed) for seed in seeds]
    plain = [reference(name, dtype, seed, device) for seed in seeds]
    found = [case.answer(implementation) for case in cases]
    for output in true[0]:
        bound = TOLERANCES[dtype].bound(
            largest(errors(plain, true, output)), largest([exact[output] for exact in true])
        )
        # This way round, NaN is an error.
        assert largest(errors(found, true, output)) <= bound, output


@pytest.mark.parametrize("name", CASE_NAMES)
def test_plain_and_blockwise_are_exact_in_float64(name: str) -> None:
    case, true = build_cases(0)[name].to(torch.float64), truth(name, torch.float64, 0)
    # `plain` subtracts a probability near 1 from 1; the logits that made it so are up to 40.
    plain_error = 1e-14 if "near 1" in name else 0
    for implementation, least in (("plain", plain_error), ("blockwise", 0)):
        found = case.answer(implementation)
        for output, exact in true.items():
            error = largest([found[output] - exact])
            assert error <= FLOAT64_ERROR * largest([exact]) + least, (implementation, output)


@pytest.mark.parametrize("implementation", ["plain", "blockwise", "triton"])
def test_all_implementations_give_the_oracles_numbers_in_float32(implementation: str) -> None:
    case = build_cases(0)["all settings"].to(torch.float32)
    found = case.answer(implementation)
    for output, exact in truth("all settings", torch.float32, 0).items():
        torch.testing.assert_close(found[output], exact, rtol=0, atol=1e-5)


def test_likely_and_unlikely_sets_are_as_likely_as_they_were_made() -> None:
    near_0 = truth("boundary mass near 0", torch.float64, 0)["boundary"]
    near_1 = truth("boundary mass near 1", torch.float64, 0)["boundary"]
    assert near_0.min() < -190
    assert -1e-15 < near_1.max() < 0
    assert truth("probability near 0", torch.float64, 0)["token"].min() < -80
    likely = truth("probability near 1", torch.float64, 0)["token"]
    assert -1e-8 < likely.max() < 0
    assert likely.min() < -1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=dtype_name)
@pytest.mark.parametrize(("num_tokens", "num_entries", "width"), [(1, 5, 3), (7, 64, 100)])
def test_a_product_in_half_precision_is_that_of_cast_operands_rounded(
    dtype: torch.dtype, num_tokens: int, num_entries: int, width: int
) -> None:
    case = random_case(num_tokens, num_entries, width).to(dtype)
    cast = case.hidden.float() @ case.weight.float().T
    rounding = torch.finfo(dtype).eps / 2 * cast.abs() + 1e-6 * cast.abs().max()
    assert bool(((case.hidden @ case.weight.T).float() - cast).abs().le(rounding).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=dtype_name)
@pytest.mark.parametrize("name", ["boundary set", "all settings"])
def test_half_precision_on_the_cpu_rounds_inputs_and_returned_gradients_and_nothing_else(
    dtype: torch.dtype, name: str
) -> None:
    case = build_cases(0)[name].to(dtype)
    found, cast = case.answer("blockwise"), case.to(torch.float32).answer("blockwise")
    for output, value in cast.items():
        rounded = value.to(dtype).double() if output.startswith("d_") else value
        torch.testing.assert_close(found[output], rounded, rtol=0, atol=0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=dtype_name)
def test_a_block_of_several_tiles_is_as_exact(dtype: torch.dtype, device: str) -> None:
    num_tokens, width = (2, 8) if device == "cpu" else (300, 96)
    case = with_mass(random_case(num_tokens, 9001, width, has_mask=True, softcap=5.0), [0, -30])
    rounded = case.to(dtype, device)
    true = rounded.to(torch.float64, device).answer("plain")
    plain, found = rounded.answer("plain"), rounded.answer("triton", 9000)
    for output, exact in true.items():
        bound = TOLERANCES[dtype].bound(largest([plain[output] - exact]), largest([exact]))
        assert largest([found[output] - exact]) <= bound, output


def test_no_last_bits_are_lost_between_blocks() -> None:
    case = build_cases(0)["all settings"].to(torch.float32)
    one_block = case.answer("blockwise", 64)
    for block_size in (1, 3, 16):
        found = case.answer("blockwise", block_size)
        for output, value in one_block.items():
            error = largest([found[output] - value])
            assert error <= FLOAT32_ERROR * largest([value])
