"""Byte-level models with n-gram embeddings, whose input depends on the bytes before it.

Legend: B rows, T new tokens, D hidden size, h tokens of history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from suite.engine.caches import KeyValuePast
from suite.engine.members import HfMember
from suite.models.ngram_embeddings import NgramCausalLM
from suite.models.ngram_lookup import NOTHING


@dataclass(frozen=True, eq=False)
class NgramPast:
    """Keys and values of each row, and its last tokens.

    Attributes:
        key_values: What the layers remember.
        history: int64 [B, h] on the CPU, the last tokens of each row, `NOTHING` before its first.
    """

    key_values: KeyValuePast
    history: Tensor

    @property
    def lengths(self) -> Tensor:
        """int64 [B] on the CPU, how many tokens each row has read."""
        return self.key_values.lengths

    def select(self, rows: Sequence[int]) -> NgramPast:
        """Copies of some rows, in this order; one may be named several times."""
        return NgramPast(self.key_values.select(rows), self.history[list(rows)])

    def join(self, others: Sequence[NgramPast]) -> NgramPast:
        """The rows of several pasts behind each other."""
        return NgramPast(
            self.key_values.join([past.key_values for past in others]),
            torch.cat([self.history, *(past.history for past in others)]),
        )


class NgramMember(HfMember):
    """A model with n-gram embeddings; each row of its past knows the row's last tokens."""

    model: NgramCausalLM

    def read(self, ids: Tensor, mask: Tensor, past: NgramPast | None) -> tuple[Tensor, NgramPast]:
        """As `Member.read`."""
        size = self.model.ngram.table.history_length
        if past is None:
            past_keys, history = None, torch.full((len(ids), size), NOTHING)
        else:
            past_keys, history = past.key_values, past.history
        states, key_values = self._read_keys(ids, mask, past_keys, ngram_history=history)
        # The last tokens before the padding that stands behind each row.
        places = mask.sum(dim=1)[:, None] + torch.arange(size)
        last = torch.cat([history, ids], dim=1).gather(1, places)
        return states, NgramPast(key_values, last)


def open_member(model: Any, **options: Any) -> HfMember:
    """The member for a model, whatever kind of input it has.

    Args:
        model: A causal language model.
        options: Of `HfMember`.

    Raises:
        ModelError: No known head makes its logits, or its cache cannot be carried.
    """
    kind = NgramMember if isinstance(model, NgramCausalLM) else HfMember
    return kind(model, **options)
