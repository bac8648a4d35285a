"""Next-token cross-entropy on the text itself (supervised fine-tuning).

Legend: B rows, Ts student tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from suite.align.collate import DistillBatch
from suite.distill.losses.contract import LossConfig, LossContext, LossModule, Needs
from suite.distill.signals import LossInputs, LossTerm, TeacherSignal
from suite.shapes import check_shapes


def sft_loss(token_log_probs: Tensor, mask: Tensor) -> Tensor:
    """Sum of -log p over tokens, in nats.

    Args:
        token_log_probs: [B, Ts].
        mask: bool [B, Ts]; where it is False the others may hold anything, NaN too.

    Returns:
        Scalar, float32 (float64 for float64 inputs).

    Raises:
        ShapeError: The tensors have not one shape.
    """
    check_shapes(
        "sft_loss",
        dict.fromkeys(("token_log_probs", "mask"), ("B", "Ts")),
        token_log_probs=token_log_probs,
        mask=mask,
    )
    dtype = torch.promote_types(token_log_probs.dtype, torch.float32)
    return -token_log_probs.to(dtype).masked_fill(~mask, 0).sum()


class SftConfig(LossConfig):
    """Settings of the cross-entropy: none but its name and weight."""

    name: Literal["sft"] = "sft"

    @property
    def needs(self) -> Needs:
        """Nothing beyond the student's log-probabilities."""
        return Needs()

    def build(self, context: LossContext) -> SftLoss:
        """The module."""
        return SftLoss()


class SftLoss(LossModule):
    """The cross-entropy of a batch; its count is the tokens that losses count."""

    def forward(self, inputs: LossInputs) -> LossTerm:
        """The sum over the student's tokens."""
        mask = inputs.batch.student.loss_mask
        loss = sft_loss(inputs.student.log_probs.token, mask)
        return LossTerm(loss, self.count(inputs.batch, inputs.teachers))

    def count(self, batch: DistillBatch, teachers: Sequence[TeacherSignal]) -> Tensor:
        """The student's tokens that losses count."""
        return batch.student.loss_mask.sum()
