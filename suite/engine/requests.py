"""What is asked of one member: a text as its token ids, and which of them are scored.

Legend: T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TokenRequest:
    """One text of a member.

    Attributes:
        ids: int32 [T], prompt and continuation; the last token is predicted, never read.
        scored: int32, rising places (at least 1) of the tokens whose log-probability is wanted.
        targets: int64, what a reader is asked about at each of them: the tokens, or their outcomes.
        num_cut: Tokens that were cut off on the left.
    """

    ids: NDArray[np.int32]
    scored: NDArray[np.int32]
    targets: NDArray[np.int64]
    num_cut: int = 0


def pair_request(
    context: Sequence[int], continuation: Sequence[int], *, max_length: int
) -> TokenRequest:
    """A continuation to be scored behind a prompt, cut on the left to what the member can read.

    Args:
        context: The prompt's tokens, at least one.
        continuation: The tokens to score.
        max_length: Tokens that the member reads of one text; one more can be predicted.
    """
    ids = np.array([*context, *continuation], np.int32)
    cut = max(0, len(ids) - max_length - 1)
    first = max(1, len(context) - cut)
    ids = ids[cut:]
    scored = np.arange(first, len(ids), dtype=np.int32)
    return TokenRequest(ids, scored, ids[scored].astype(np.int64), cut)
