"""Reads prompts before generation: what they begin with is read once, the rest row by row.

Legend: B rows, T tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from suite.engine.batching import TokenBudget
from suite.engine.members import Member, Past


@dataclass(frozen=True, eq=False)
class SharedStart:
    """What a member has read of the beginning of several prompts.

    Attributes:
        num_tokens: Tokens of the beginning.
        past: One row; None where nothing was read.
    """

    num_tokens: int = 0
    past: Past | None = None


@dataclass(frozen=True, eq=False)
class Reading:
    """A member after the last tokens of its rows.

    Attributes:
        states: [B, D], from which the next token is predicted.
        past: Ready to be read on.
    """

    states: Tensor
    past: Past


NOTHING_READ = SharedStart()


def read_start(
    member: Member,
    prompts: Sequence[tuple[int, ...]],
    budget: TokenBudget,
    start: SharedStart = NOTHING_READ,
) -> SharedStart:
    """Read what all prompts begin with, where that saves more than it costs.

    Args:
        member: The model.
        prompts: Its ids of each.
        budget: For one forward pass.
        start: What of it has been read before.
    """
    size = _num_shared(prompts)
    if (size - start.num_tokens) * (len(prompts) - 1) < budget.pass_cost:
        return start
    rest = prompts[0][start.num_tokens : size]
    return SharedStart(size, _read_rows(member, [rest], start.past, budget).past)


def read_prompts(
    member: Member, prompts: Sequence[tuple[int, ...]], budget: TokenBudget, start: SharedStart
) -> Reading:
    """Read the prompts of a batch behind their common beginning."""
    past = None if start.past is None else start.past.select([0] * len(prompts))
    return _read_rows(member, [prompt[start.num_tokens :] for prompt in prompts], past, budget)


def _num_shared(prompts: Sequence[tuple[int, ...]]) -> int:
    """Tokens that all prompts begin with, so that at least one of each is left."""
    # What the first and the last in the order of lists share, all between them share.
    first, last = min(prompts), max(prompts)
    shortest = min(map(len, prompts))
    pairs = zip(first[: shortest - 1], last, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), shortest - 1)


def _read_rows(
    member: Member, rows: Sequence[tuple[int, ...]], past: Past | None, budget: TokenBudget
) -> Reading:
    """Read rows of unequal length, in as many passes as the budget asks for.

    Every pass reads a like share of every row, because none can wait: at least one token. So there
    are no more passes than the shortest row has tokens.
    """
    lengths = torch.tensor([len(row) for row in rows])
    width = max(1, budget.num_read // len(rows))
    num_passes = min(-(-int(lengths.max()) // width), int(lengths.min()))
    ends = torch.zeros_like(lengths)
    for number in range(1, num_passes + 1):
        starts, ends = ends, lengths * number // num_passes
        sizes = ends - starts
        ids = torch.zeros(len(rows), int(sizes.max()), dtype=torch.int64)
        places = zip(starts.tolist(), ends.tolist(), strict=True)
        for row, (first, end) in enumerate(places):
            ids[row, : end - first] = torch.tensor(rows[row][first:end])
        mask = torch.arange(ids.shape[1]) < sizes[:, None]
        states, past = member.read(ids, mask, past)
        if not bool(mask.all()):
            past = past.select(range(len(rows)))
    assert past is not None
    last = (sizes - 1).to(states.device)
    return Reading(states[torch.arange(len(rows), device=states.device), last], past)
