"""Calls of `token_log_probs` that are hard to get right, and how exact their answers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from suite.likelihood.log_probs import token_log_probs
from suite.likelihood.options import LogProbOptions, TokenLogProbs

Answer = dict[str, Tensor]

IMPLEMENTATIONS = ("plain", "blockwise", "triton")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@dataclass(frozen=True)
class Tolerance:
    """How large an error may be beside that of `plain` and beside the largest true number."""

    times_plain: float
    epsilons: float
    accumulated_in: torch.dtype

    def bound(self, plain_error: float, largest: float) -> float:
        epsilon = torch.finfo(self.accumulated_in).eps
        return self.times_plain * plain_error + self.epsilons * epsilon * largest


# By the dtype of hidden states and head.
TOLERANCES = {
    torch.float32: Tolerance(1.5, 4, torch.float32),
    torch.bfloat16: Tolerance(1.5, 4, torch.float32),
    torch.float16: Tolerance(1.5, 4, torch.float32),
}

# Of answers in float64 to the oracle's largest number.
FLOAT64_ERROR = 1e-13

# Of one computation in float32 to another one's largest number: the kernels and their twins.
FLOAT32_ERROR = 2e-6


@dataclass(frozen=True, eq=False)
class Case:
    """A call, and the gradients of both its outputs."""

    hidden: Tensor
    weight: Tensor
    targets: Tensor
    token_gradient: Tensor
    boundary_gradient: Tensor
    boundary_mask: Tensor | None = None
    bias: Tensor | None = None
    softcap: float | None = None
    vocab_size: int | None = None

    @property
    def num_entries(self) -> int:
        return len(self.weight) if self.vocab_size is None else self.vocab_size

    def to(self, dtype: torch.dtype, device: str = "cpu") -> Case:
        """What a model holds, rounded to its dtype; the outputs' gradients have their own."""
        outputs = torch.promote_types(dtype, torch.float32)
        dtypes = {"hidden": dtype, "weight": dtype, "bias": dtype}
        dtypes |= {"token_gradient": outputs, "boundary_gradient": outputs}
        tensors = {name: item for name, item in vars(self).items() if isinstance(item, Tensor)}
        moved = {
            name: item.to(device=device, dtype=dtypes.get(name, item.dtype))
            for name, item in tensors.items()
        }
        return replace(self, **moved)

    def log_probs(self, implementation: Any, block_size: int | None = 16) -> TokenLogProbs:
        return token_log_probs(
            self.hidden,
            self.weight,
            self.targets,
            boundary_mask=self.boundary_mask,
            options=LogProbOptions(
                vocab_size=self.vocab_size,
                softcap=self.softcap,
                bias=self.bias,
                block_size=block_size,
                implementation=implementation,
            ),
        )

    def answer(self, implementation: str, block_size: int | None = 16) -> Answer:
        """Outputs, and gradients by the inputs' names; float64."""
        names = ["hidden", "weight", *([] if self.bias is None else ["bias"])]
        inputs = {name: getattr(self, name).detach().requires_grad_() for name in names}
        found = replace(self, **inputs).log_probs(implementation, block_size)
        outputs, gradients = {"token": found.token}, [self.token_gradient]
        if found.boundary is not None:
            outputs["boundary"] = found.boundary
            gradients.append(self.boundary_gradient)
        backward = torch.autograd.grad(
            list(outputs.values()), list(inputs.values()), gradients, retain_graph=True
        )
        outputs |= {f"d_{name}": item for name, item in zip(names, backward, strict=True)}
        return {name: value.detach().cpu().double() for name, value in outputs.items()}


def random_case(
    num_tokens: int = 4,
    num_entries: int = 41,
    width: int = 8,
    *,
    seed: int = 0,
    has_mask: bool = False,
    has_bias: bool = False,
    **settings: Any,
) -> Case:
    """Normal states and rows, so that logits have a standard deviation of 2; float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).double()

    mask = torch.rand(num_entries, generator=generator) < 0.3
    mask[0] = True
    targets = torch.randint(
        settings.get("vocab_size") or num_entries, (num_tokens,), generator=generator
    )
    return Case(
        hidden=normal(num_tokens, width),
        weight=normal(num_entries, width) * 2 / width**0.5,
        targets=targets,
        token_gradient=normal(num_tokens),
        boundary_gradient=normal(num_tokens),
        boundary_mask=mask if has_mask else None,
        bias=normal(num_entries) if has_bias else None,
        **settings,
    )


def small_case(**settings: Any) -> Case:
    return random_case(**{"has_mask": True} | settings).to(torch.float32)


def pushed(case: Case, entries: Tensor, amounts: Sequence[float]) -> Case:
    """The logits of some entries are moved, by these amounts in turn from row to row."""
    turn = torch.arange(len(case.hidden)) % len(amounts)
    column = torch.tensor(amounts, dtype=torch.float64)[turn]
    return replace(
        case,
        hidden=torch.cat([case.hidden, column[:, None]], dim=1),
        weight=torch.cat([case.weight, entries.double()[:, None]], dim=1),
    )


def with_mass(case: Case, amounts: Sequence[float]) -> Case:
    """The logits of the boundary set are moved."""
    assert case.boundary_mask is not None
    return pushed(case, case.boundary_mask, amounts)


def with_target(case: Case, amounts: Sequence[float]) -> Case:
    """All rows have one target, entry 3, whose logit is moved."""
    entries = torch.arange(len(case.weight)) == 3
    return pushed(replace(case, targets=torch.full_like(case.targets, 3)), entries, amounts)


def with_one_token_chunks(case: Case) -> Case:
    """Each chunk is a token; the row that ends it by its boundary mass begins the next one."""
    chunks = case.token_gradient
    return replace(case, boundary_gradient=chunks.roll(1).index_fill(0, torch.tensor([0]), 0))


def build_cases(seed: int) -> dict[str, Case]:
    """What can go wrong, by name."""
    bare, masked = random_case(seed=seed), random_case(has_mask=True, seed=seed)
    all_settings = {"softcap": 3.0, "has_bias": True, "has_mask": True, "vocab_size": 37}
    return {
        "no boundary set": bare,
        "boundary set": masked,
        "soft-cap": random_case(softcap=3.0, has_mask=True, seed=seed),
        "bias": random_case(has_bias=True, has_mask=True, seed=seed),
        "padding rows": random_case(vocab_size=37, has_mask=True, seed=seed),
        "all settings": random_case(seed=seed, **all_settings),
        "one-token chunks": with_one_token_chunks(masked),
        "all logits far from 0": pushed(masked, torch.ones_like(masked.boundary_mask), [-100, 100]),
        "one row": random_case(1, has_mask=True, seed=seed),
        "boundary mass near 0": with_mass(masked, [-60, -200, -21]),
        "boundary mass near 1": with_mass(masked, [40, 21, 200]),
        "probability near 0": with_target(masked, [-90, -21, -40]),
        "probability near 1": with_target(bare, [24, 17]),
        "probability near 1, boundary mass near 0": with_target(masked, [24, 17]),
        "probability near 0 and 1": with_target(masked, [24, -90, 40, 0]),
    }


CASE_NAMES = tuple(build_cases(0))


def assert_same(found: Answer, expected: Answer) -> None:
    """Up to rounding of float32."""
    assert found.keys() == expected.keys()
    for output, value in expected.items():
        bound = FLOAT32_ERROR * max(1.0, value.abs().max().item()) if value.numel() else 0
        torch.testing.assert_close(found[output], value, rtol=0, atol=bound, msg=output)
