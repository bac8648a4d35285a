"""Log-probabilities of padded rows, laid out by token.

Legend: B rows, T tokens, V vocabulary, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from suite.likelihood.heads import OutputHead
from suite.likelihood.log_probs import token_log_probs
from suite.likelihood.options import TokenLogProbs
from suite.shapes import check_shapes

_SHAPES = {"hidden": ("B", "T", "D"), "ids": ("B", "T"), "token_mask": ("B", "T")}


def sequence_log_probs(
    hidden: Tensor,
    ids: Tensor,
    token_mask: Tensor,
    head: OutputHead,
    *,
    boundary_mask: Tensor | None = None,
) -> TokenLogProbs:
    """Log-probabilities of each token, and of a new pre-token behind it.

    Both are read from the states a token is predicted from: `token[:, i]` from `hidden[:, i - 1]`,
    `boundary[:, i]` from `hidden[:, i]`. Padding takes no part. Differentiable in `hidden` and the
    head's parameters.

    Args:
        hidden: [B, T, D], states after the final norm.
        ids: int64 [B, T].
        token_mask: bool [B, T], False at padding.
        head: The model's.
        boundary_mask: bool [V], entries that start a new pre-token; it may be shorter than the
            head's rows. None if their mass is not wanted.

    Returns:
        Each [B, T]; 0 at padding, `token` also at a row's first place.

    Raises:
        ShapeError: Tensors that do not belong together, or an id that is no entry.
    """
    check_shapes("sequence_log_probs", _SHAPES, hidden=hidden, ids=ids, token_mask=token_mask)
    has_next = token_mask[:, :-1] & token_mask[:, 1:]
    # A row's last token predicts nothing known: any entry stands in, and its value is dropped.
    targets = torch.zeros_like(ids)
    targets[:, :-1] = ids[:, 1:].where(has_next, 0)
    states = hidden[token_mask]
    found = token_log_probs(
        states if head.scale == 1 else states * head.scale,
        head.weight,
        targets[token_mask],
        boundary_mask=boundary_mask,
        options=head.options,
    )
    token = _scatter(found.token, token_mask)[:, :-1].where(has_next, 0)
    return TokenLogProbs(
        token=torch.nn.functional.pad(token, (1, 0)),
        boundary=None if found.boundary is None else _scatter(found.boundary, token_mask),
    )


def _scatter(values: Tensor, mask: Tensor) -> Tensor:
    """Values at the places of a mask, 0 elsewhere; [B, T]."""
    return values.new_zeros(mask.shape).masked_scatter(mask, values)
