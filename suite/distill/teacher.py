"""A teacher that runs beside the student.

Legend: B rows, Tt teacher tokens, V vocabulary, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from suite.align.boundaries import boundary_start_mask
from suite.align.collate import BatchSide
from suite.distill.signals import TeacherSignal
from suite.likelihood.heads import OutputHead, head_of, num_entries
from suite.likelihood.log_probs import DEFAULT_OPTIONS
from suite.likelihood.options import LogProbOptions, TokenLogProbs
from suite.likelihood.sequences import sequence_log_probs
from suite.models.trunk import check_isolation, hidden_states, trunk_of
from suite.text.tokenizers import OpenedTokenizer


@dataclass(frozen=True, eq=False)
class LiveTeacher:
    """A model that computes its signal when asked; a `Teacher`.

    Attributes:
        trunk: The model without its head, in evaluation mode.
        head: Its head.
        boundary_mask: bool [V], entries that start a new pre-token, where the model is.
        wants_hidden: Signals carry the final hidden states, too.
    """

    trunk: Any
    head: OutputHead
    boundary_mask: Tensor
    wants_hidden: bool = False

    @torch.no_grad()
    def signal(self, side: BatchSide, row_numbers: Sequence[int]) -> TeacherSignal:
        """The signal for rows, which may be any: their numbers are of no concern here.

        It is computed where the model is, and comes back to where the rows are.
        """
        here, there = self.boundary_mask.device, side.ids.device
        ids = side.ids.to(here)
        hidden = hidden_states(self.trunk, ids, side.position_ids.to(here))
        found = sequence_log_probs(
            hidden, ids, side.token_mask.to(here), self.head, boundary_mask=self.boundary_mask
        )
        assert found.boundary is not None
        return TeacherSignal(
            TokenLogProbs(
                token=round_to_stored(found.token).to(there),
                boundary=round_to_stored(found.boundary).to(there),
            ),
            hidden=hidden.to(there) if self.wants_hidden else None,
        )


def live_teacher(
    model: Any,
    tokenizer: OpenedTokenizer,
    *,
    name: str,
    packing: Literal["isolated", "concatenated", "none"],
    wants_hidden: bool = False,
    options: LogProbOptions = DEFAULT_OPTIONS,
) -> LiveTeacher:
    """Make a teacher of a model, after checks that its signal will be right.

    The model is set to evaluation mode and otherwise left as it is.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.
        name: What messages call it.
        packing: How rows are packed.
        wants_hidden: Signals carry the final hidden states, too.
        options: For its implementation and block size.

    Raises:
        ModelError: The tokenizer is not the model's, its logits are made in an unknown way, or it
            does not keep the documents of isolated rows apart.
    """
    model.eval()
    vocab_size = num_entries(tokenizer.vocabulary, model, name=name)
    head = head_of(model, vocab_size, name=name, options=options)
    if packing == "isolated":
        check_isolation(model, name)
    mask = boundary_start_mask(tokenizer.vocabulary)[:vocab_size].to(head.weight.device)
    return LiveTeacher(trunk_of(model), head, mask, wants_hidden)


def round_to_stored(log_probs: Tensor) -> Tensor:
    """Round as a stored teacher does: to float16, held as float32.

    Live and stored signals pass through here, so that losses read the same numbers from both.
    Below float16's range the least number stands in: minus infinity would make a loss no number.
    """
    least = torch.finfo(torch.float16).min
    return log_probs.clamp(min=least).to(torch.float16).float()
