"""What is kept of a member's distribution once its entries have become an ensemble's outcomes.

Legend: n rows, V entries of the member, N shared tokens, O outcomes, k targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from suite.ensemble.kept import keep


class OutcomeReading(Protocol):
    """How a member's entries become outcomes: by a vocabulary that is shared, or mined."""

    @property
    def id_of(self) -> Tensor:
        """int64 [N], the member's entry for each shared token."""

    def to_outcomes(self, log_probs: Tensor) -> Tensor:
        """[n, V] -> [n, O]."""

    def ending_too(self, ids: Sequence[int]) -> OutcomeReading:
        """The same, where these special entries end a text as well."""


@dataclass(frozen=True, eq=False)
class KeptReader:
    """Reads what `KeptEntries` holds; targets are outcomes."""

    outcomes: OutcomeReading

    def __call__(self, log_probs: Tensor, rows: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """As `Reader`."""
        outcomes = self.outcomes.to_outcomes(log_probs)
        kept = keep(outcomes, torch.zeros(len(outcomes), dtype=torch.int64, device=rows.device))
        return {
            "token": outcomes[rows, targets],
            "other": kept.other[rows],
            "top_log_probs": kept.top_log_probs[rows],
            "top_outcomes": kept.top_outcomes[rows],
        }


@dataclass(frozen=True, eq=False)
class OutcomeReader:
    """Reads the log-probability of an outcome, and of all that are shared together."""

    outcomes: OutcomeReading

    def __call__(self, log_probs: Tensor, rows: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """As `Reader`."""
        outcomes = self.outcomes.to_outcomes(log_probs)
        shared = outcomes[:, :-1].logsumexp(dim=1)
        return {"token": outcomes[rows, targets], "shared": shared[rows]}


@dataclass(frozen=True, eq=False)
class RowReader:
    """Reads whole distributions over the outcomes."""

    outcomes: OutcomeReading

    def __call__(self, log_probs: Tensor, rows: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """As `Reader`; `rows` [k, O]."""
        outcomes = self.outcomes.to_outcomes(log_probs)[rows]
        return {"token": outcomes.gather(1, targets[:, None])[:, 0], "rows": outcomes}
