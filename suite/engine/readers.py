"""What is kept of a distribution once it was computed: a reader turns rows into small tensors.

Legend: n rows, V entries, k targets, each read from one of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Reader(Protocol):
    """Reads what is wanted of each token from the row that predicts it."""

    def __call__(self, log_probs: Tensor, rows: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Read.

        Args:
            log_probs: [n, V].
            rows: int64 [k], the row of each target.
            targets: int64 [k], tokens, or what else the reader's requests ask about.

        Returns:
            Tensors [k, ...] by name; `token` is each target's log-probability.
        """


def read_tokens(log_probs: Tensor, rows: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The log-probability of each token, and whether greedy decoding would choose it."""
    return {
        "token": log_probs[rows, targets],
        "is_greedy": log_probs.argmax(dim=-1)[rows] == targets,
    }


@dataclass(frozen=True, eq=False)
class BoundaryReader:
    """Also the mass of the entries that start a new pre-token.

    Attributes:
        starts: bool [V], those entries.
    """

    starts: Tensor

    def __call__(self, log_probs: Tensor, rows: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """As `Reader`; adds `boundary` [k], at most 0."""
        ids = self.starts.nonzero()[:, 0].to(log_probs.device)
        boundary = log_probs[:, ids].logsumexp(dim=-1).clamp(max=0)
        return read_tokens(log_probs, rows, targets) | {"boundary": boundary[rows]}
