from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from log_prob_cases import (
    Case,
    random_case,
    small_case,
)

from suite.errors import ConfigError, ShapeError
from suite.likelihood.kernels import launch
from suite.likelihood.log_probs import token_log_probs
from suite.likelihood.options import LogProbOptions


def refused(case: Case, error: type[Exception], **options: Any) -> str:
    with pytest.raises(error) as caught:
        token_log_probs(
            case.hidden,
            case.weight,
            case.targets,
            boundary_mask=case.boundary_mask,
            options=LogProbOptions(**options),
        )
    return str(caught.value)


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    case = random_case(num_tokens=4, num_entries=9, width=8)
    narrow = replace(case, weight=case.weight[:, :7])
    assert refused(narrow, ShapeError) == (
        "token_log_probs: expected hidden [T, D], head_weight [V, D], targets [T];"
        " got hidden [4, 8], head_weight [9, 7], targets [4]"
    )
    long_mask = replace(case, boundary_mask=torch.ones(10, dtype=torch.bool))
    assert refused(long_mask, ShapeError, bias=torch.zeros(9)) == (
        "token_log_probs: expected hidden [T, D], head_weight [V, D], targets [T],"
        " boundary_mask [V], bias [V]; got hidden [4, 8], head_weight [9, 8], targets [4],"
        " boundary_mask [10], bias [9]"
    )
    batched = replace(case, hidden=case.hidden[None])
    assert refused(batched, ShapeError).endswith(
        "got hidden [1, 4, 8], head_weight [9, 8], targets [4]"
    )


@pytest.mark.parametrize("vocab_size", [-1, 0, 10])
def test_a_vocabulary_size_that_the_head_does_not_have_is_refused(vocab_size: int) -> None:
    case = random_case(num_entries=9)
    message = f"token_log_probs: vocab_size is {vocab_size}, head_weight has 9 rows"
    assert refused(case, ShapeError, vocab_size=vocab_size) == message


def test_mixed_dtypes_are_refused() -> None:
    case = random_case(num_entries=9)
    mixed = replace(case, hidden=case.hidden.bfloat16())
    assert refused(mixed, ShapeError) == (
        "token_log_probs: hidden is bfloat16 and head_weight float64;"
        " cast one of them, or call it under torch.autocast"
    )


def test_tensors_on_another_device_are_refused() -> None:
    case = random_case(num_entries=9)
    away = replace(case, weight=case.weight.to("meta"))
    message = "token_log_probs: hidden is on cpu, other tensors on meta"
    assert refused(away, ShapeError) == message


@pytest.mark.parametrize(("target", "options"), [(-1, {}), (9, {}), (8, {"vocab_size": 8})])
def test_a_target_that_is_no_entry_is_refused(target: int, options: dict[str, int]) -> None:
    case = random_case(num_entries=9)
    targets = torch.tensor([0, target, 1, 99])
    message = f"token_log_probs: target {target} is no entry of {options.get('vocab_size', 9)}"
    assert refused(replace(case, targets=targets), ShapeError, **options) == message


@pytest.mark.parametrize("vocab_size", [None, 8])
def test_an_empty_boundary_set_is_refused(vocab_size: int | None) -> None:
    mask = torch.arange(9) == (9 if vocab_size is None else 8)
    case = replace(random_case(num_entries=9, vocab_size=8), boundary_mask=mask)
    assert refused(case, ShapeError, vocab_size=vocab_size) == (
        "token_log_probs: boundary_mask holds no entry; pass None for no boundary mass"
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_a_boundary_mask_that_is_not_bool_is_refused(dtype: torch.dtype) -> None:
    case = replace(random_case(num_entries=9), boundary_mask=torch.ones(9, dtype=dtype))
    name = str(dtype).removeprefix("torch.")
    assert refused(case, ShapeError) == f"token_log_probs: boundary_mask is {name}; give bool"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"softcap": 0.0}, "softcap is 0.0, must be above 0; None for no cap"),
        ({"softcap": -30.0}, "softcap is -30.0, must be above 0; None for no cap"),
        ({"block_size": 0}, "block_size is 0, must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LogProbOptions(**options)
    assert str(caught.value) == message


def test_an_unknown_implementation_is_refused_with_the_nearest_name() -> None:
    case = random_case(num_entries=9)
    assert refused(case, ConfigError, implementation="blockwize") == (
        "implementation is 'blockwize', which does not exist; did you mean 'blockwise'?"
    )
    assert refused(case, ConfigError, implementation="x") == (
        "implementation is 'x', which does not exist; known: auto, blockwise, plain, triton"
    )


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32])
def test_targets_are_int64(dtype: torch.dtype) -> None:
    hidden, weight = torch.zeros(2, 3), torch.zeros(4, 3)
    with pytest.raises(ShapeError) as error:
        token_log_probs(hidden, weight, torch.zeros(2, dtype=dtype))
    name = str(dtype).removeprefix("torch.")
    assert str(error.value) == f"token_log_probs: targets are {name}; give int64"


def test_kernels_refuse_float64_which_auto_gives_to_blockwise() -> None:
    case = random_case(num_entries=9)
    message = "implementation triton has no float64; use blockwise"
    assert refused(case, ConfigError, implementation="triton") == message
    assert case.log_probs("auto").token.dtype == torch.float64


def test_kernels_refuse_what_they_cannot_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    case = small_case(num_entries=9)
    monkeypatch.setattr(launch, "is_interpreted", lambda: False)
    assert refused(case, ConfigError, implementation="triton") == (
        "implementation triton needs a CUDA device, hidden is on cpu; use blockwise"
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert refused(case, ConfigError, implementation="triton") == (
        "implementation triton needs the package triton; use blockwise"
    )
