"""Pre-token boundaries, and the groups of chunks that end at one (arXiv 2503.20083, debiasing).

A chunk that ends inside a word means different things under different tokenizers. So chunks are
merged into groups until the teacher expects a new pre-token to begin.

Legend: B rows, N chunks, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from suite.errors import ConfigError
from suite.text.encoding import Role
from suite.text.vocabulary import Vocabulary

# What a pre-token begins with. A tokenizer that puts these bytes elsewhere violates the premise.
BOUNDARY_BYTES = b" \t\n"

DEFAULT_GAMMA = 0.1
_NUM_EXAMPLES = 5


def boundary_start_mask(vocabulary: Vocabulary) -> Tensor:
    """The entries that start a new pre-token: first byte space, tab or newline, or special.

    Returns:
        bool [V]; dead entries are False. Rows that a model has beyond V belong to no entry.
    """
    starts = [entry[:1] in (b" ", b"\t", b"\n") for entry in vocabulary.token_bytes]
    return torch.from_numpy(np.array(starts, np.bool_) | (vocabulary.roles != Role.REGULAR))


@dataclass(frozen=True)
class BoundaryViolations:
    """Entries with a boundary byte behind their first byte: a boundary that no mask can see.

    Attributes:
        num_runs: Entries of boundary bytes alone, such as a run of spaces.
        num_inside: Entries with other bytes too, such as a full stop and a newline.
        num_entries: Regular entries looked at.
        examples: A few of the second kind.
    """

    num_runs: int
    num_inside: int
    num_entries: int
    examples: tuple[bytes, ...]


def boundary_violations(vocabulary: Vocabulary) -> BoundaryViolations:
    """Count the entries in which a boundary byte stands behind the first byte."""
    entries = [entry for entry in vocabulary.token_bytes if entry]
    violating = [entry for entry in entries if any(byte in BOUNDARY_BYTES for byte in entry[1:])]
    inside = [entry for entry in violating if entry.strip(BOUNDARY_BYTES)]
    return BoundaryViolations(
        num_runs=len(violating) - len(inside),
        num_inside=len(inside),
        num_entries=len(entries),
        examples=tuple(inside[:_NUM_EXAMPLES]),
    )


def merge_groups(
    teacher_boundary_log_probs: Tensor,
    chunk_mask: Tensor,
    always_closes: Tensor,
    *,
    gamma: float = DEFAULT_GAMMA,
) -> Tensor:
    """The group of every chunk: how many chunks of its row closed a group before it.

    A chunk closes its group when the teacher's boundary probability behind it exceeds gamma, when
    `always_closes` says so, or when the next chunk is masked. What follows the last closing chunk
    is a group too. Groups of a row are numbered from 0 without gaps.

    Args:
        teacher_boundary_log_probs: [B, N], log of the boundary mass behind each chunk's last token;
            round it to float16 first if the teacher may be stored.
        chunk_mask: bool [B, N], False at padding and at chunks that belong to no group.
        always_closes: bool [B, N], True at the last chunk of a document and before a gap.
        gamma: 0 closes behind each chunk that has any boundary mass; 1 never.

    Returns:
        int64 [B, N]; -1 where `chunk_mask` is False.

    Raises:
        ConfigError: gamma is no probability.
    """
    if not 0 <= gamma <= 1:
        raise ConfigError(f"gamma is {gamma}; it is a probability, from 0 to 1")
    # Compared as logs: exp would round a stored value once more.
    threshold = math.log(gamma) if gamma > 0 else -math.inf
    is_gap = torch.nn.functional.pad(~chunk_mask[:, 1:], (0, 1), value=True)
    closes = (teacher_boundary_log_probs > threshold) | always_closes | is_gap
    closes = (closes & chunk_mask).long()
    return (closes.cumsum(dim=1) - closes).masked_fill(~chunk_mask, -1)
