"""Members that are tables: their distributions can be looked up, their texts enumerated.

What they remember is like a transformer's: the tokens read stand in a padded cache. Beside it they
keep a number for each text that depends on all its tokens in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

NUM_TABLES = 64


@dataclass(frozen=True, eq=False)
class ToyPast:
    """A cache, and the number kept for each text beside it.

    Attributes:
        tokens: int64 [B, S], padded on the right; what a transformer's keys and values are.
        lengths: int64 [B].
        number: int64 [B], follows from all tokens in their order.
        is_ragged: Rows of unequal length were read, and `select` was not called since.
    """

    tokens: Tensor
    lengths: Tensor
    number: Tensor
    is_ragged: bool = False

    def select(self, rows: Sequence[int]) -> ToyPast:
        wanted = torch.tensor(rows)
        lengths = self.lengths[wanted]
        return ToyPast(self.tokens[wanted, : int(lengths.max())], lengths, self.number[wanted])

    def join(self, others: Sequence[ToyPast]) -> ToyPast:
        pasts = (self, *others)
        assert not any(past.is_ragged for past in pasts)
        rows = [row for past in pasts for row in past.tokens]
        return ToyPast(
            torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1),
            torch.cat([past.lengths for past in pasts]),
            torch.cat([past.number for past in pasts]),
        )


@dataclass(eq=False)
class ToyMember:
    """A `Member`: the distribution after a text is a row of a random table.

    Which row depends on the number of the text and on how often token 0 is in its cache.

    Attributes:
        end_ids: Ids that end a text.
        horizon: From so many tokens on, prompt included, all probability is that of the ends.
        broken_after: A text whose log-probabilities are not numbers.
        fails_above: Rows of a read above which memory does not suffice.
        fails_at_read: Number of a read for which memory does not suffice, counted from 1.
        rows_read: Rows of each read.
        num_tokens_read: Tokens of all reads, without padding.
    """

    name: str = "toy"
    num_entries: int = 4
    seed: int = 0
    end_ids: tuple[int, ...] = (3,)
    horizon: int | None = None
    dtype: torch.dtype = torch.float64
    dead: tuple[int, ...] = ()
    concentration: float = 1.0
    max_length: int = 1000
    broken_after: tuple[int, ...] | None = None
    fails_above: int = 10**9
    fails_at_read: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rows_read: list[int] = field(default_factory=list)
    num_tokens_read: int = 0

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        alive = [entry for entry in range(self.num_entries) if entry not in self.dead]
        tables = np.zeros((NUM_TABLES + 2, self.num_entries))
        alphas = [self.concentration] * len(alive)
        tables[:NUM_TABLES, alive] = random.dirichlet(alphas, NUM_TABLES)
        tables[NUM_TABLES, list(self.end_ids)] = 1 / len(self.end_ids)
        tables[NUM_TABLES + 1] = np.nan
        self.tables = torch.from_numpy(tables)

    def probs(self, text: Sequence[int]) -> Tensor:
        """p(next | text) [V], straight from the text, without reading or states."""
        number = 0
        for token in text:
            number = _next_number(number, token)
        if self.horizon is not None and len(text) >= self.horizon:
            return self.tables[NUM_TABLES]
        return self.tables[(number + 7 * list(text).count(0)) % NUM_TABLES]

    def read(self, ids: Tensor, mask: Tensor, past: ToyPast | None) -> tuple[Tensor, ToyPast]:
        num_rows, width = ids.shape
        self.rows_read.append(num_rows)
        if num_rows > self.fails_above or len(self.rows_read) == self.fails_at_read:
            raise RuntimeError("the toy is out of memory")
        self.num_tokens_read += int(mask.sum())
        none = torch.zeros(num_rows, 0, dtype=torch.int64)
        past = past or ToyPast(none, none.sum(1), none.sum(1))
        assert not past.is_ragged
        assert past.tokens.shape[0] == num_rows
        assert bool(mask[:, 0].all())
        padding = torch.full((num_rows, width), -1)
        tokens = torch.cat([past.tokens, padding], dim=1)
        number, lengths, tables = past.number, past.lengths, []
        for new, is_read in zip(ids.T, mask.T, strict=True):
            row = is_read.nonzero().flatten()
            tokens[row, lengths[row]] = new[row]
            number = torch.where(is_read, _next_number(number, new), number)
            lengths = lengths + is_read
            tables.append(self._tables_after(tokens, lengths, number))
        states = torch.stack(tables, dim=1)[:, :, None].to(self.dtype)
        return states, ToyPast(tokens, lengths, number, is_ragged=not bool(mask.all()))

    def log_probs(self, states: Tensor) -> Tensor:
        return self.tables[states[:, 0].long()].log().to(self.dtype)

    def _tables_after(self, tokens: Tensor, lengths: Tensor, number: Tensor) -> Tensor:
        found = (number + 7 * (tokens == 0).sum(1)) % NUM_TABLES
        if self.horizon is not None:
            found[lengths >= self.horizon] = NUM_TABLES
        if self.broken_after is not None:
            for row, length in enumerate(lengths.tolist()):
                if tuple(tokens[row, :length].tolist()) == self.broken_after:
                    found[row] = NUM_TABLES + 1
        return found


def _next_number(number: Any, token: Any) -> Any:
    return (31 * number + token + 1) % 1_000_003
