"""The student in training: its trunk, its head and the losses as one module.

Only this module is wrapped by what distributes training, and its forward returns losses, so no
logits ever cross a process or a wrapper.

Legend: B rows, Ts student tokens, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from suite.align.boundaries import boundary_start_mask
from suite.align.collate import BatchSide, DistillBatch
from suite.distill.losses.contract import LossConfig, LossContext, LossModule
from suite.distill.signals import LossInputs, LossTerm, StudentOutput, TeacherSignal
from suite.likelihood.heads import OutputHead, head_of, num_entries
from suite.likelihood.sequences import sequence_log_probs
from suite.models.trunk import check_isolation, hidden_states, trunk_of
from suite.text.tokenizers import OpenedTokenizer

Packing = Literal["isolated", "concatenated", "none"]


class Student(nn.Module):
    """A causal language model and the losses it learns from.

    Attributes:
        model: Plain, wrapped by peft, or with n-gram embeddings.
        losses: By name, in the order of the recipe.
    """

    boundary_mask: Tensor

    def __init__(
        self,
        model: Any,
        head: OutputHead,
        boundary_mask: Tensor,
        losses: dict[str, LossModule],
        *,
        autocast: torch.dtype | None,
    ) -> None:
        """For `open_student`, which checks first.

        Args:
            model: The model.
            head: What its logits are made of; the weight is read anew at each pass, because it
                is another tensor while it is gathered from several processes.
            boundary_mask: bool [V], entries that start a new pre-token.
            losses: By name.
            autocast: Dtype of products; None for that of the weights.
        """
        super().__init__()
        self.model = model
        self.losses = nn.ModuleDict(losses)
        self.register_buffer("boundary_mask", boundary_mask, persistent=False)
        # A tensor that is a parameter must not be held twice: wrappers replace parameters.
        self._scale, self._options = head.scale, replace(head.options, bias=None)
        self._autocast = autocast

    @property
    def trunk(self) -> Any:
        """The model without its head."""
        return trunk_of(self.model)

    def read(self, side: BatchSide) -> StudentOutput:
        """What the student says about its side of a batch.

        Args:
            side: On the student's device.
        """
        # A name of its own, because what gathers a student's parts wraps both `read` and `forward`.
        return self._read(side)

    def forward(
        self, batch: DistillBatch, teachers: Sequence[TeacherSignal]
    ) -> dict[str, LossTerm]:
        """The losses of a batch, each a sum and its count."""
        inputs = LossInputs(batch, self._read(batch.student), tuple(teachers))
        return {name: loss(inputs) for name, loss in self.losses.items()}

    @torch.no_grad()
    def counts(self, batch: DistillBatch, teachers: Sequence[TeacherSignal]) -> dict[str, Tensor]:
        """The count of each loss, int64 scalars, without a pass of the student."""
        found = {}
        for name, loss in self.losses.items():
            assert isinstance(loss, LossModule)
            found[name] = loss.count(batch, teachers)
        return found

    def _read(self, side: BatchSide) -> StudentOutput:
        device = side.ids.device.type
        with self._casting(device):
            hidden = hidden_states(self.trunk, side.ids, side.position_ids)
            log_probs = sequence_log_probs(
                hidden, side.ids, side.token_mask, self._head(), boundary_mask=self.boundary_mask
            )
        return StudentOutput(log_probs, hidden)

    def _head(self) -> OutputHead:
        module = self.model.get_output_embeddings()
        options = replace(self._options, bias=getattr(module, "bias", None))
        return OutputHead(module.weight, self._scale, options)

    def _casting(self, device: str) -> contextlib.AbstractContextManager[Any]:
        if self._autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(device, self._autocast)


def open_student(
    model: Any,
    tokenizer: OpenedTokenizer,
    losses: Sequence[LossConfig],
    context: LossContext,
    *,
    name: str,
    packing: Packing,
    autocast: torch.dtype | None,
) -> Student:
    """Make a student of a model, after checks that its numbers will be right.

    Args:
        model: On its device; what is trained is in float32 and requires gradients.
        tokenizer: Its tokenizer.
        losses: What it learns from.
        context: What the losses are built with.
        name: What messages call it.
        packing: How rows are packed.
        autocast: Dtype of products; None for that of the weights.

    Raises:
        ModelError: The tokenizer is not the model's, its logits are made in an unknown way, or it
            does not keep the documents of isolated rows apart.
        ConfigError: A loss does not fit the models.
    """
    vocab_size = num_entries(tokenizer.vocabulary, model, name=name)
    head = head_of(model, vocab_size, name=name)
    if packing == "isolated":
        check_isolation(model, name)
    if not any(loss.needs.student_log_probs for loss in losses):
        _freeze_head(model)
    mask = boundary_start_mask(tokenizer.vocabulary)[:vocab_size].to(head.weight.device)
    built = {loss.name: loss.build(context).to(head.weight.device) for loss in losses}
    return Student(model, head, mask, built, autocast=autocast)


def _freeze_head(model: Any) -> None:
    """Leave a head of its own as it is: no loss reaches it, which DDP does not allow."""
    head = model.get_output_embeddings()
    if head.weight is not model.get_input_embeddings().weight:
        head.requires_grad_(False)
