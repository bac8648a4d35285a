"""Log-probabilities and their gradients in 60 decimal digits, by loops over tokens and entries.

With p the softmax of a row's logits, y its target, S the boundary set and P its mass, the outputs
are log p(y) and log P; with g and h the gradients of these,

    dlogits = g onehot(y) + p (h 1_S / P - (g + h))

So many digits, because float64 has no 1 - e^-40.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import torch
from log_prob_cases import Answer, Case
from torch import Tensor


def exact_answer(case: Case) -> Answer:
    """What `Case.answer` finds for the same inputs, if nothing is ever rounded."""
    with localcontext() as context:
        context.prec = 60
        return _exact_answer(case)


def _exact_answer(case: Case) -> Answer:
    hidden, weight = _decimals(case.hidden), _decimals(case.weight)
    width, entries = len(hidden[0]), range(case.num_entries)
    zero = Decimal(0)
    token, boundary, d_hidden = [], [], []
    d_weight = [[zero] * width for _ in weight]
    d_bias = [zero] * len(weight)
    for row, state in enumerate(hidden):
        log_prob, log_mass, d_logits = _row(case, row, [_dot(state, weight[v]) for v in entries])
        token.append(log_prob)
        boundary.append(log_mass)
        d_state = [zero] * width
        for v in entries:
            d_bias[v] += d_logits[v]
            for d in range(width):
                d_state[d] += d_logits[v] * weight[v][d]
                d_weight[v][d] += d_logits[v] * state[d]
        d_hidden.append(d_state)
    found: dict[str, list] = {"token": token, "d_hidden": d_hidden, "d_weight": d_weight}
    if case.boundary_mask is not None:
        found["boundary"] = boundary
    if case.bias is not None:
        found["d_bias"] = d_bias
    return {name: _float64(values) for name, values in found.items()}


def _row(case: Case, row: int, products: list[Decimal]) -> tuple[Decimal, Decimal, list[Decimal]]:
    """Both outputs of a row, and the gradient of its logits before the cap."""
    logits, slopes = [], []
    for v, logit in enumerate(products):
        slope = Decimal(1)
        if case.bias is not None:
            logit += Decimal(case.bias[v].item())
        if case.softcap is not None:
            cap = Decimal(case.softcap)
            tanh = _tanh(logit / cap)
            logit, slope = cap * tanh, 1 - tanh * tanh
        logits.append(logit)
        slopes.append(slope)
    powers = [logit.exp() for logit in logits]
    total = sum(powers)
    probs = [power / total for power in powers]

    target = int(case.targets[row])
    g, h, mass = Decimal(case.token_gradient[row].item()), Decimal(0), Decimal(1)
    inside = [False] * len(probs)
    if case.boundary_mask is not None:
        inside = case.boundary_mask.tolist()
        h = Decimal(case.boundary_gradient[row].item())
        mass = sum((prob for v, prob in enumerate(probs) if inside[v]), start=Decimal(0))
    d_logits = []
    for v, prob in enumerate(probs):
        d_logit = prob * ((h / mass if inside[v] else 0) - (g + h))
        if v == target:
            d_logit += g
        d_logits.append(d_logit * slopes[v])
    return probs[target].ln(), mass.ln(), d_logits


def _dot(left: list[Decimal], right: list[Decimal]) -> Decimal:
    return sum((x * y for x, y in zip(left, right, strict=True)), start=Decimal(0))


def _tanh(x: Decimal) -> Decimal:
    power = (2 * x).exp()
    return (power - 1) / (power + 1)


def _decimals(matrix: Tensor) -> list[list[Decimal]]:
    """Exactly the numbers of a matrix."""
    return [[Decimal(value) for value in row] for row in matrix.tolist()]


def _float64(values: list[Any]) -> Tensor:
    if isinstance(values[0], list):
        return torch.stack([_float64(part) for part in values])
    return torch.tensor([float(value) for value in values], dtype=torch.float64)
