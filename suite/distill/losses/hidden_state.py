"""Hidden states compared at the ends of chunks (arXiv 2503.20083), for byte-level students.

Both sides have read the same text there. The normaliser is taken once, from the first rows: a
deviation from the authors' code, which normalises by each batch's own statistics.

Legend: B rows, T tokens of one side, N chunks, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from suite.align.collate import DistillBatch
from suite.distill.losses.contract import LossConfig, LossContext, LossModule, Needs
from suite.distill.signals import LossInputs, LossTerm, TeacherSignal
from suite.errors import ConfigError
from suite.shapes import check_shapes

_NO_STATES = (
    "hidden_state: there are no hidden states of a teacher; use a live teacher, or leave the loss"
    " out"
)
# A channel that is nearly always 0 must not drown the others.
_LEAST_SHARE = 1e-3


def hidden_state_loss(
    student: Tensor, teacher: Tensor, mask: Tensor, mean_square: Tensor
) -> Tensor:
    """Sum over chunks of sum_d (h_student,d - h_teacher,d)^2 / (D m_d).

    Args:
        student: [B, N, D], states at the last token of each chunk, after the final norm.
        teacher: [B, N, D], the same of the teacher.
        mask: bool [B, N]; where it is False the states may hold anything, NaN too.
        mean_square: [D], m_d, above 0.

    Returns:
        Scalar >= 0, float32 (float64 for float64 inputs): 1 a chunk for a student that says 0.

    Raises:
        ShapeError: The tensors do not belong together.
    """
    check_shapes(
        "hidden_state_loss",
        {
            "student": ("B", "N", "D"),
            "teacher": ("B", "N", "D"),
            "mask": ("B", "N"),
            "mean_square": ("D",),
        },
        student=student,
        teacher=teacher,
        mask=mask,
        mean_square=mean_square,
    )
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    difference = (student.to(dtype) - teacher.to(dtype)).masked_fill(~mask.unsqueeze(-1), 0)
    return (difference.square() / (len(mean_square) * mean_square)).sum()


@dataclass(frozen=True, eq=False)
class ChannelMoments:
    """What the normaliser is made of; batches and ranks add up with `+`.

    Attributes:
        sum_squares: float64 [D], of the teacher's states at the ends of chunks.
        count: Chunks.
    """

    sum_squares: Tensor
    count: int

    def __add__(self, other: ChannelMoments) -> ChannelMoments:
        """The moments of both."""
        return ChannelMoments(self.sum_squares + other.sum_squares, self.count + other.count)

    def mean_square(self) -> Tensor:
        """The mean square of each channel, at least 1e-3 of the channels' mean, float32 [D].

        Raises:
            ConfigError: There was no chunk.
        """
        if self.count == 0:
            raise ConfigError(
                "hidden_state: the first rows hold no chunk to take the teacher's mean square from;"
                " look at the data with suite align"
            )
        mean_square = self.sum_squares / self.count
        return mean_square.clamp(min=_LEAST_SHARE * mean_square.mean()).float()


def channel_moments(hidden: Tensor, chunk_last: Tensor, mask: Tensor) -> ChannelMoments:
    """The moments of a batch.

    Args:
        hidden: [B, T, D], the teacher's states.
        chunk_last: int64 [B, N].
        mask: bool [B, N], `DistillBatch.hidden_mask`.

    Raises:
        ShapeError: The tensors do not belong together.
    """
    states = states_at(hidden, chunk_last)[mask].double()
    return ChannelMoments(states.square().sum(0), len(states))


def states_at(hidden: Tensor, chunk_last: Tensor) -> Tensor:
    """The states at the last token of each chunk, [B, N, D].

    Args:
        hidden: [B, T, D].
        chunk_last: int64 [B, N].

    Raises:
        ShapeError: The tensors do not belong together.
    """
    check_shapes(
        "states_at",
        {"hidden": ("B", "T", "D"), "chunk_last": ("B", "N")},
        hidden=hidden,
        chunk_last=chunk_last,
    )
    return hidden.take_along_dim(chunk_last.unsqueeze(-1), dim=1)


class HiddenStateConfig(LossConfig):
    """Settings of the hidden-state loss.

    Attributes:
        name: `hidden_state`.
        projection: Learn a map from the student's states to the teacher's; needed where their sizes
            differ.
    """

    name: Literal["hidden_state"] = "hidden_state"
    projection: bool = False

    @property
    def needs(self) -> Needs:
        """Hidden states of both sides, so the teacher must be live."""
        return Needs(
            teacher=True, teacher_hidden=True, student_log_probs=False, student_hidden=True
        )

    def build(self, context: LossContext) -> HiddenStateLoss:
        """The module.

        Raises:
            ConfigError: The context has no hidden states of a teacher, or their size is not the
                student's and there is no projection.
        """
        student_size, mean_square = context.student_size, context.teacher_mean_square
        if context.teacher_size is None or mean_square is None:
            raise ConfigError(_NO_STATES)
        if student_size != context.teacher_size and not self.projection:
            raise ConfigError(
                f"hidden_state: the student's states have {student_size} channels and the"
                f" teacher's {context.teacher_size}; set projection to true"
            )
        return HiddenStateLoss(mean_square, student_size if self.projection else None)


class HiddenStateLoss(LossModule):
    """The hidden-state loss of a batch; its count is the chunks, unmerged, begin tokens included.

    Prompts count, too: completions are read off the states behind them. The first teacher is the
    one compared with.
    """

    mean_square: Tensor

    def __init__(self, mean_square: Tensor, projected_size: int | None) -> None:
        """The normaliser, [D], and the student's hidden size if it is projected."""
        super().__init__()
        self.register_buffer("mean_square", mean_square.clone())
        self.projection: nn.Linear | None = None
        if projected_size is not None:
            self.projection = nn.Linear(projected_size, len(mean_square), bias=False)
            # Needs no random numbers, and equal states begin with a loss of 0.
            nn.init.eye_(self.projection.weight)

    def forward(self, inputs: LossInputs) -> LossTerm:
        """The sum over the batch's chunks."""
        batch, hidden = inputs.batch, inputs.teachers[0].hidden
        if hidden is None:
            raise ConfigError(_NO_STATES)
        student = states_at(inputs.student.hidden, batch.student.chunk_last)
        if self.projection is not None:
            student = self.projection(student.to(self.projection.weight.dtype))
        teacher = states_at(hidden, batch.teacher.chunk_last)
        loss = hidden_state_loss(student, teacher, batch.hidden_mask, self.mean_square)
        return LossTerm(loss, self.count(batch, inputs.teachers))

    def count(self, batch: DistillBatch, teachers: Sequence[TeacherSignal]) -> Tensor:
        """The batch's chunks."""
        return batch.hidden_mask.sum()
