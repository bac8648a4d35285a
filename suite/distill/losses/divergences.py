"""Binarised divergences (arXiv 2503.20083): two models compared on yes/no events.

A group of chunks is one event, "this text comes next", with log-probability a under the teacher and
b under the student. P = e^a and Q = e^b are often within rounding of 1, so nothing here subtracts
two probabilities.

All functions are elementwise, for a and b strictly below 0; natural logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from suite.errors import near_names

DEFAULT_BINARIZATION_TEMPERATURE = 100.0
DEFAULT_EPSILON = 1e-6
# Closer to 0 a log-probability of float32 leaves too little of 1 - P.
MIN_EPSILON = 1e-7

# Below it the closed form loses nothing, above it log1p keeps what nearly cancels.
_NEAR = 0.5


@dataclass(frozen=True)
class Divergence:
    """A divergence between two log-probabilities.

    Attributes:
        function: Of the teacher's and the student's log-probabilities, divided by the temperature
            if there is one and shifted below 0; elementwise, >= 0, and 0 where they are equal.
        has_temperature: Whether the binarization temperature applies.
    """

    function: Callable[[Tensor, Tensor], Tensor]
    has_temperature: bool = True


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - e^x) for x < 0, exact to rounding at both ends."""
    limit = -math.log(2)
    near = torch.log(-torch.expm1(x))
    # Not taken close to 0, but an infinite slope there would still make the gradient NaN.
    far = torch.log1p(-torch.exp(x.clamp(max=limit)))
    return torch.where(x > limit, near, far)


def kl(a: Tensor, b: Tensor) -> Tensor:
    """KL(teacher || student), P (a - b) + (1-P) (log(1-P) - log(1-Q)); the default."""
    value: Tensor = _BinaryKl.apply(a, b)  # type: ignore[no-untyped-call]
    return value


def reverse_kl(a: Tensor, b: Tensor) -> Tensor:
    """KL(student || teacher), Q (b - a) + (1-Q) (log(1-Q) - log(1-P))."""
    return kl(b, a)


def total_variation(a: Tensor, b: Tensor) -> Tensor:
    """|P - Q|; its gradient by the rarer side is 0 where that is below float32's last bit of 1."""
    return torch.exp(torch.maximum(a, b)) * -torch.expm1(-(a - b).abs())


def log_ratio(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|; it has no temperature."""
    return (a - b).abs()


def kl_limit(a: Tensor, b: Tensor) -> Tensor:
    """(a - b) + a (log(-b) - log(-a)): what tau * kl tends to for large tau; no temperature."""
    change = (b - a) / a
    # Near equality the two terms nearly cancel, and what is left is -a (u - log(1 + u)).
    near_change = change.clamp(min=-_NEAR)
    near = -a * (near_change - torch.log1p(near_change))
    far = (a - b) + a * (torch.log(-b) - torch.log(-a))
    return torch.where(change > -_NEAR, near, far)


def squared_log_ratio(a: Tensor, b: Tensor) -> Tensor:
    """(a - b)^2 / 2."""
    return (a - b).square() / 2


DIVERGENCES: dict[str, Divergence] = {
    "kl": Divergence(kl),
    "reverse_kl": Divergence(reverse_kl),
    "total_variation": Divergence(total_variation),
    "log_ratio": Divergence(log_ratio, has_temperature=False),
    "kl_limit": Divergence(kl_limit, has_temperature=False),
    "squared_log_ratio": Divergence(squared_log_ratio),
}


def settings_problem(
    divergence: str, binarization_temperature: float | None, epsilon: float
) -> str | None:
    """A sentence if there is no such divergence, or if a number does not go with it."""
    if divergence not in DIVERGENCES:
        return f"divergence '{divergence}' is unknown; {near_names(divergence, DIVERGENCES)}"
    if not MIN_EPSILON <= epsilon < math.inf:
        return f"epsilon is {epsilon}; it is a finite number of at least {MIN_EPSILON}"
    if binarization_temperature is None:
        return None
    found = f"binarization_temperature is {binarization_temperature}"
    if not DIVERGENCES[divergence].has_temperature:
        return f"{found}, but divergence '{divergence}' has no temperature; leave it out"
    if not 0 < binarization_temperature < math.inf:
        return f"{found}; it is a finite number above 0"
    return None


class _BinaryKl(torch.autograd.Function):
    """KL of two yes/no events from the logs x and y of their probabilities p and q.

    The derivatives are written out: dKL/dy = (q - p) / (1 - q), which is exactly 0 at equality,
    where the sum that autograd would make of it leaves rounding.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        p, other_p, other_q = torch.exp(x), -torch.expm1(x), -torch.expm1(y)
        gap = _difference_of_exp(x, y)
        change = gap / other_p
        # log((1 - q) / (1 - p)); near equality log1p keeps what is left of it.
        log_others = torch.where(
            change.abs() < _NEAR, torch.log1p(change), log1mexp(y) - log1mexp(x)
        )
        ctx.save_for_backward(p * (x - y + log_others), -gap / other_q)
        # Rounding may leave a little less than 0 where both terms cancel.
        return (p * (x - y) - other_p * log_others).clamp(min=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        slope_x, slope_y = ctx.saved_tensors
        return gradients[0] * slope_x, gradients[0] * slope_y


def _difference_of_exp(x: Tensor, y: Tensor) -> Tensor:
    """e^x - e^y without cancellation; neither factor can overflow."""
    return torch.exp(torch.maximum(x, y)) * -torch.expm1(-(x - y).abs()) * torch.sign(x - y)
