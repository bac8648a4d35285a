"""The problem that implementations of token log-probabilities are given, and its bare products.

Legend: T tokens, V vocabulary, D hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# As of a trained model: a softmax that is neither flat nor one-hot, and a target that is likely.
# Libraries that skip small probabilities would otherwise skip everything, or nothing.
LOGIT_DEVIATION = 3.0
TARGET_LOG_PROB = -2.0


@dataclass(frozen=True)
class Case:
    """Sizes of a problem and where it runs."""

    device: str
    dtype: str
    num_tokens: int
    hidden_size: int
    vocab_size: int

    @property
    def name(self) -> str:
        """One line for people."""
        sizes = f"T={self.num_tokens:,} D={self.hidden_size:,} V={self.vocab_size:,}"
        return f"{self.device}, {self.dtype}, {sizes}"


@dataclass(frozen=True, eq=False)
class Inputs:
    """Tensors of a problem.

    Attributes:
        hidden: [T, D], asks for a gradient.
        head_weight: [V, D], asks for a gradient.
        targets: int64 [T].
        boundary_mask: bool [V], every second entry.
        upstream: float32 [2, T], gradients of the target's log-probability and of the boundary's.
    """

    hidden: Tensor
    head_weight: Tensor
    targets: Tensor
    boundary_mask: Tensor
    upstream: Tensor

    @classmethod
    def of(cls, case: Case) -> Inputs:
        """Random ones, the same for the same case."""
        generator = torch.Generator(case.device).manual_seed(0)
        num_tokens, hidden_size, vocab_size = case.num_tokens, case.hidden_size, case.vocab_size

        def normal(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.randn(*shape, dtype=dtype, device=case.device, generator=generator)

        dtype: torch.dtype = getattr(torch, case.dtype)
        targets = torch.randint(vocab_size, (num_tokens,), device=case.device, generator=generator)
        head_weight = normal(vocab_size, hidden_size, dtype=dtype)
        head_weight *= LOGIT_DEVIATION / math.sqrt(hidden_size)
        hidden = normal(num_tokens, hidden_size, dtype=dtype)
        variance = LOGIT_DEVIATION**2
        log_normaliser = math.log(vocab_size) + variance / 2
        hidden += head_weight[targets] * ((log_normaliser + TARGET_LOG_PROB) / variance)
        return cls(
            hidden=hidden.requires_grad_(),
            head_weight=head_weight.requires_grad_(),
            targets=targets,
            boundary_mask=torch.arange(vocab_size, device=case.device) % 2 == 0,
            upstream=normal(2, num_tokens, dtype=torch.float32),
        )


def four_products(inputs: Inputs) -> Callable[[], None]:
    """Logits, logits again, gradients of hidden states and head, into memory taken beforehand."""
    hidden, head_weight = inputs.hidden.detach(), inputs.head_weight.detach()
    logits = hidden.new_empty(len(hidden), len(head_weight))
    d_hidden, d_head = torch.empty_like(hidden), torch.empty_like(head_weight)

    def multiply() -> None:
        torch.mm(hidden, head_weight.T, out=logits)
        torch.mm(hidden, head_weight.T, out=logits)
        torch.mm(logits, head_weight, out=d_hidden)
        torch.mm(logits.T, hidden, out=d_head)

    return multiply
