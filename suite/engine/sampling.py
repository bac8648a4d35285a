"""Chooses one outcome for each row: the most probable, or one that is drawn.

Legend: n rows, O outcomes.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Candidates looked at first; few distributions need more to fill a nucleus.
_FIRST_CANDIDATES = 256


def warp(scores: Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Change a distribution before an outcome is drawn: temperature, then top-k, then top-p.

    Of several members it is their combination that is changed: a mixture at a temperature is not
    the mixture of members at that temperature.

    Args:
        scores: Log-probabilities up to a constant, [n, O].
        temperature: Above 0; the scores are divided by it.
        top_k: Only so many of the most probable outcomes stay; 0 for all.
        top_p: Only the fewest most probable outcomes stay that together have this probability
            (nucleus sampling, Holtzman et al., arXiv 1904.09751); 1 for all.

    Returns:
        [n, O], -inf where an outcome is left out. Of equally probable outcomes the first stay.
    """
    if temperature != 1:
        scores = scores / temperature
    if 0 < top_k < scores.shape[-1]:
        lowest = scores.topk(top_k).values[:, -1:]
        scores = _keep_largest(scores, torch.full_like(lowest, top_k), lowest)
    if top_p < 1:
        scores = _nucleus(scores, top_p)
    return scores


def draw(scores: Tensor, uniform: Tensor) -> Tensor:
    """Draw one outcome for each row by inverting its cumulative distribution.

    Args:
        scores: Log-probabilities up to a constant, [n, O], at least one finite in each row.
        uniform: float64 [n], random numbers in [0, 1).

    Returns:
        int64 [n]. An outcome of probability 0 is never drawn.
    """
    cumulative = scores.double().softmax(-1).cumsum(-1)
    # Division makes the last entry 1, so every random number is below it.
    cumulative = cumulative / cumulative[:, -1:]
    return torch.searchsorted(cumulative, uniform[:, None], right=True)[:, 0]


def _nucleus(scores: Tensor, top_p: float) -> Tensor:
    total = scores.logsumexp(-1, keepdim=True)
    size = min(_FIRST_CANDIDATES, scores.shape[-1])
    while True:
        values = scores.topk(size).values
        mass = (values - total).exp().cumsum(-1)
        if size == scores.shape[-1] or bool((mass[:, -1] >= top_p).all()):
            break
        size = min(8 * size, scores.shape[-1])
    # An outcome stays as long as those before it have less; the first always does.
    counts = 1 + (mass[:, :-1] < top_p).sum(-1, keepdim=True)
    return _keep_largest(scores, counts, values.gather(-1, counts - 1))


def _keep_largest(scores: Tensor, counts: Tensor, lowest: Tensor) -> Tensor:
    """Keep the `counts` [n, 1] largest of each row, down to `lowest` [n, 1] of them."""
    is_above, is_equal = scores > lowest, scores == lowest
    room = counts - is_above.sum(-1, keepdim=True)
    stays = is_above | (is_equal & (is_equal.cumsum(-1) <= room))
    return scores.masked_fill(~stays, -torch.inf)
