"""What is kept of each member's row at a scored position, and what follows from it for a mixture.

A mixture's value needs the realised token alone. Whether the token is also the mixture's argmax
usually follows from the few largest entries of each member: an entry that a member does not keep is
at most its smallest kept one. Where the bounds do not decide, the whole rows have to be combined.

Legend: M members, K scored positions, E entries kept of a row, C candidates of a position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

NUM_KEPT = 16

# Nats. Differences below it may come from rounding, in the combination and in a forward pass of
# another batch shape, so they decide nothing.
MARGIN = 1e-4

_BLOCK_POSITIONS = 8192
_COLUMNS_PER_GROUP = 64


@dataclass(frozen=True, eq=False)
class KeptEntries:
    """One member's rows at K positions.

    Attributes:
        token: log p of the realised token. [K]
        other: log p of the `other` bin. [K]
        top_log_probs: The largest entries without `other`, largest first. [K, E]
        top_outcomes: Their outcomes. int64 [K, E]
    """

    token: Tensor
    other: Tensor
    top_log_probs: Tensor
    top_outcomes: Tensor


def keep(outcome_log_probs: Tensor, targets: Tensor) -> KeptEntries:
    """Keep the realised token, the `other` bin and the 16 largest entries of each row.

    Args:
        outcome_log_probs: [K, O], `other` last.
        targets: The realised outcome of each row, int64 [K].
    """
    top_log_probs, top_outcomes = _largest(outcome_log_probs[:, :-1], NUM_KEPT)
    return KeptEntries(
        token=outcome_log_probs.gather(1, targets[:, None])[:, 0],
        other=outcome_log_probs[:, -1].clone(),
        top_log_probs=top_log_probs,
        top_outcomes=top_outcomes,
    )


def _largest(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Values and columns of the largest entries of each row, largest first.

    Those lie in the groups of columns with the largest maxima, so only few entries are sorted.
    """
    num_groups = rows.shape[1] // _COLUMNS_PER_GROUP
    if num_groups <= count:
        values, columns = rows.topk(min(count, rows.shape[1]))
        return values, columns
    even = num_groups * _COLUMNS_PER_GROUP
    groups = rows[:, :even].reshape(len(rows), num_groups, _COLUMNS_PER_GROUP)
    best = groups.amax(2).topk(count, sorted=False).indices
    columns = best[:, :, None] * _COLUMNS_PER_GROUP
    columns = (columns + torch.arange(_COLUMNS_PER_GROUP, device=rows.device)).flatten(1)
    rest = torch.arange(even, rows.shape[1], device=rows.device).expand(len(rows), -1)
    columns = torch.cat([columns, rest], dim=1)
    values, places = rows.gather(1, columns).topk(count)
    return values, columns.gather(1, places)


def renormalised_kept(kept: KeptEntries) -> KeptEntries:
    """What would have been kept of rows without `other`, for realised tokens that are shared.

    The shared mass is 1 less that of `other`. Rounding hides it where `other` is nearly all, but it
    is at least the mass of the largest entries.
    """
    shared = torch.log1p(-kept.other.double().exp())
    shared = shared.maximum(kept.top_log_probs.double().logsumexp(1))
    return replace(
        kept,
        token=(kept.token - shared).to(kept.token.dtype),
        other=torch.full_like(kept.other, -torch.inf),
        top_log_probs=(kept.top_log_probs - shared[:, None]).to(kept.top_log_probs.dtype),
    )


def mixture_values(kept: Sequence[KeptEntries], log_weights: Tensor) -> Tensor:
    """Log sum_m w_m p_m(realised token), [K]; log-weights [M, K]."""
    return (torch.stack([member.token for member in kept]) + log_weights).logsumexp(0)


def mixture_greedy(
    kept: Sequence[KeptEntries], log_weights: Tensor, targets: Tensor, *, other: int
) -> Tensor:
    """Whether the realised outcome is the mixture's argmax over all outcomes but `other`.

    Args:
        kept: Of each of M members.
        log_weights: [M, K].
        targets: The realised outcomes, int64 [K].
        other: The `other` outcome, which is never the argmax.

    Returns:
        int8 [K]: 1 it is, 0 it is not, -1 the kept entries do not decide it; ties and differences
        within `MARGIN` are never decided.
    """
    blocks = [
        _greedy_block(kept, log_weights, targets, slice(start, start + _BLOCK_POSITIONS))
        for start in range(0, len(targets), _BLOCK_POSITIONS)
    ]
    greedy = torch.cat(blocks) if blocks else targets.new_empty(0, dtype=torch.int8)
    return greedy.masked_fill_(targets == other, 0)


def _greedy_block(
    kept: Sequence[KeptEntries], log_weights: Tensor, targets: Tensor, block: slice
) -> Tensor:
    targets = targets[block]
    candidates = torch.cat([member.top_outcomes[block] for member in kept], dim=1)
    value = torch.full_like(targets, -torch.inf, dtype=log_weights.dtype)
    lower = torch.full_like(candidates, -torch.inf, dtype=log_weights.dtype)
    upper = lower
    for member, weights in zip(kept, log_weights[:, block], strict=True):
        top = member.top_log_probs[block]
        own = _look_up(candidates, member.top_outcomes[block], top)
        floor = top[:, -1:]
        value = torch.logaddexp(value, weights + member.token[block])
        lower = torch.logaddexp(lower, weights[:, None] + own)
        upper = torch.logaddexp(upper, weights[:, None] + torch.maximum(own, floor))
    is_rival = candidates != targets[:, None]
    # No outcome that nobody keeps exceeds a candidate's upper bound.
    most = torch.where(is_rival, upper, -torch.inf).amax(1)
    least = torch.where(is_rival, lower, -torch.inf).amax(1)
    greedy = torch.full_like(targets, -1, dtype=torch.int8)
    greedy[value > most + MARGIN] = 1
    greedy[value < least - MARGIN] = 0
    return greedy


def _look_up(candidates: Tensor, outcomes: Tensor, log_probs: Tensor) -> Tensor:
    """A member's log-probabilities of candidates, [K, C]; -inf where it does not keep them."""
    is_same = candidates[:, :, None] == outcomes[:, None, :]
    return torch.where(is_same, log_probs[:, None, :], -torch.inf).amax(2)
