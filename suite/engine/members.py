"""A model that reads texts piece by piece and says what may come next.

Legend: B rows, T new tokens, n states, V entries, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from suite.engine.caches import KeyValuePast, close_cache, open_cache
from suite.errors import ModelError
from suite.likelihood.heads import OutputHead, head_of
from suite.likelihood.rows import log_prob_rows
from suite.models.trunk import probe_ids, relative_difference, rounding, trunk_of

_DEFAULT_MAX_LENGTH = 2048
_CHECKED_TOKENS = 8
# In units of `rounding`: shapes differ, and with them the order of sums, which moved bfloat16
# models by 2 %; a past that was not carried moves states by half.
_CARRIED = 32


class Past(Protocol):
    """What a member remembers of B texts: a cache, and whatever else it keeps for each of them."""

    @property
    def lengths(self) -> Tensor:
        """int64 [B] on the CPU, how many tokens each row has read."""

    def select(self, rows: Sequence[int]) -> Past:
        """Copies of some rows, in this order and without padding; one may be named twice."""

    def join(self, others: Sequence[Any]) -> Past:
        """The rows of several pasts of one member, each from `select`, behind each other."""


class Member(Protocol):
    """A language model as the engine sees it; `max_length` is what it can read of one text."""

    name: str
    device: torch.device
    num_entries: int
    max_length: int

    def read(self, ids: Tensor, mask: Tensor, past: Any) -> tuple[Tensor, Any]:
        """Read on.

        Args:
            ids: int64 [B, T] on the CPU, the next tokens, padded on the right.
            mask: bool [B, T] on the CPU; every row has at least one token.
            past: What `read` returned before, after `select`; None at the start of texts. It can
                be used again.

        Returns:
            States [B, T, D], and the past that includes the new tokens.
        """

    def log_probs(self, states: Tensor) -> Tensor:
        """[n, D] -> [n, V], natural logs, float32 (float64 for float64 states); dead: -inf."""


class HfMember:
    """A causal language model of transformers.

    Attributes:
        name: What messages call it.
        model: The model; it is put into evaluation mode.
        device: Where it runs.
        num_entries: Entries of its tokenizer; rows of the head beyond them are masked.
        max_length: Tokens of one text that it can read.
    """

    def __init__(
        self,
        model: Any,
        *,
        name: str,
        num_entries: int | None = None,
        dead: Tensor | None = None,
        max_length: int | None = None,
    ) -> None:
        """Take a loaded model.

        Args:
            model: A causal language model, plain or wrapped by peft.
            name: What messages call it.
            num_entries: Entries of its tokenizer; None for all rows of the head.
            dead: bool [V], entries that no text has; they get no probability.
            max_length: Tokens of one text that it reads; None for what its configuration says.

        Raises:
            ModelError: No known head makes its logits, or its cache cannot be carried.
        """
        self.name = name
        self.model = model.eval()
        self.device = torch.device(model.device)
        self.max_length = max_length or _max_length(model)
        self._trunk = trunk_of(model)
        self._head: OutputHead = head_of(model, num_entries, name=name)
        self._dead = None if dead is None or not bool(dead.any()) else dead.to(self.device)
        self.num_entries = num_entries or len(self._head.weight)
        _check_carries(self)

    def read(self, ids: Tensor, mask: Tensor, past: Any) -> tuple[Tensor, Any]:
        """As `Member.read`."""
        return self._read_keys(ids, mask, past)

    def _read_keys(
        self, ids: Tensor, mask: Tensor, past: KeyValuePast | None, **more: Any
    ) -> tuple[Tensor, KeyValuePast]:
        """Read on behind keys and values; `more` is for the trunk."""
        if past is not None and not past.is_compact:
            past = past.select(range(len(past.lengths)))
        num_new = mask.sum(dim=1)
        before = torch.zeros_like(num_new) if past is None else past.lengths
        # Padding repeats the last position: none beyond what the model knows.
        steps = torch.arange(ids.shape[1]).minimum(num_new[:, None] - 1)
        cache = open_cache(past)
        with torch.no_grad():
            output = self._trunk(
                input_ids=ids.to(self.device),
                position_ids=(before[:, None] + steps).to(self.device),
                attention_mask=self._attention_mask(mask, past),
                past_key_values=cache,
                use_cache=True,
                **more,
            )
        return output.last_hidden_state, close_cache(cache, past, num_new)

    def log_probs(self, states: Tensor) -> Tensor:
        """As `Member.log_probs`."""
        with torch.no_grad():
            return log_prob_rows(states, self._head, self._dead)

    def _attention_mask(self, mask: Tensor, past: KeyValuePast | None) -> Tensor | None:
        """Only padding before a row's tokens needs one: what stands behind them is never seen."""
        before = None if past is None else past.mask()
        if before is None:
            return None
        return torch.cat([before, torch.ones_like(mask)], dim=1).to(self.device)


def _max_length(model: Any) -> int:
    """The longest text by the model's configuration, as lm-eval reads it."""
    config = model.config.get_text_config()
    keys = ("n_positions", "max_position_embeddings", "n_ctx")
    return next((int(v) for key in keys if (v := getattr(config, key, None))), _DEFAULT_MAX_LENGTH)


def _check_carries(member: HfMember) -> None:
    """Read a text in two pieces, behind padding, and compare with reading it whole.

    It is tried out, because no configuration tells: recurrent layers keep what cannot be selected.

    Raises:
        ModelError: The second piece does not see the first as it should.
    """
    size = _CHECKED_TOKENS
    ids = probe_ids(member.model, 2 * size).cpu()
    short = torch.ones(2, size, dtype=torch.bool)
    short[1, 1:] = False
    try:
        whole, _ = member.read(ids, torch.ones_like(ids, dtype=torch.bool), None)
        _, past = member.read(ids[:, :size].repeat(2, 1), short, None)
        rest = ids[:, size:].repeat(2, 1)
        found, _ = member.read(rest, torch.ones_like(rest, dtype=torch.bool), past.select([1, 0]))
        change = relative_difference(found[1], whole[0, size:])
    # Caches of another kind fail in their own ways.
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _cannot_carry(member, first_line) from error
    if not change <= _CARRIED * rounding(found.dtype):
        raise _cannot_carry(member, f"final states change by {change:.0%}")


def _cannot_carry(member: HfMember, reason: str) -> ModelError:
    return ModelError(
        f"{member.name}: {type(member.model).__name__} cannot go on from the cache of a prompt"
        f" that several answers share ({reason}); choose backend: hf"
    )
