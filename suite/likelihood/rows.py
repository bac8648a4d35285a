"""Whole distributions for a few states: log-softmax of the logits, dead entries left out.

Legend: n states, V entries, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from suite.likelihood.heads import OutputHead


def log_prob_rows(states: Tensor, head: OutputHead, dead: Tensor | None = None) -> Tensor:
    """Log-probabilities of all entries. It holds [n, V]: give it few states at a time.

    Products are taken in the head's dtype, as the model itself does; what follows is float32.

    Args:
        states: [n, D], states after the final norm.
        head: The model's.
        dead: bool [V], entries that get no probability.

    Returns:
        [n, V], natural logs; float32, or float64 for float64 states.
    """
    options = head.options
    bias = None if options.bias is None else options.bias[: options.vocab_size]
    scaled = states if head.scale == 1 else states * head.scale
    logits = torch.nn.functional.linear(scaled, head.weight[: options.vocab_size], bias)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if options.softcap is not None:
        logits = options.softcap * torch.tanh(logits / options.softcap)
    if dead is not None:
        logits = logits.masked_fill(dead, -torch.inf)
    return logits.log_softmax(dim=-1)
