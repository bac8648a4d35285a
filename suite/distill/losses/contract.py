"""What a loss is: settings that say what it needs, and a module that returns a sum and a count.

Legend: D teacher's hidden size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from suite.align.collate import DistillBatch
from suite.config import Config
from suite.distill.signals import LossInputs, LossTerm, TeacherSignal


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a loss reads.

    Attributes:
        teacher: A teacher's log-probabilities.
        teacher_hidden: A teacher's hidden states.
        student_log_probs: The student's log-probabilities; without them its head is not trained.
        student_hidden: The student's hidden states.
        teacher_head: A teacher's output embedding.
        same_vocabulary: Teacher and student with the same tokenizer.
    """

    teacher: bool = False
    teacher_hidden: bool = False
    student_log_probs: bool = True
    student_hidden: bool = False
    teacher_head: bool = False
    same_vocabulary: bool = False

    @property
    def stored_teacher_suffices(self) -> bool:
        """Whether the two numbers a token that a teacher cache holds are enough."""
        return not (self.teacher_hidden or self.teacher_head)


@dataclass(frozen=True, kw_only=True, eq=False)
class LossContext:
    """What is known when losses are built.

    Attributes:
        student_size: Channels of the student's hidden states.
        teacher_size: Channels of the first teacher's hidden states; None if they are not to be had.
        teacher_mean_square: [D], the first teacher's mean square of each channel, from
            `ChannelMoments`; None if no loss needs hidden states.
        num_teachers: Signals in `LossInputs.teachers`.
    """

    student_size: int
    teacher_size: int | None = None
    teacher_mean_square: Tensor | None = None
    num_teachers: int = 1


class LossConfig(Config, ABC):
    """Settings of one loss.

    Attributes:
        name: Its key in `LOSSES`.
        weight: Factor under fixed balance, 1 if not given.
    """

    name: str
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What the loss reads."""

    @property
    def gradient_scale(self) -> float:
        """What makes its gradient as large as a cross-entropy's, or nearly so."""
        return 1.0

    @abstractmethod
    def build(self, context: LossContext) -> LossModule:
        """The module; its state goes into the checkpoint.

        Raises:
            ConfigError: The settings do not fit the models.
        """


class LossModule(nn.Module, ABC):
    """A loss of a batch: a sum and what it is over."""

    @abstractmethod
    def forward(self, inputs: LossInputs) -> LossTerm:
        """The sum, with gradient, and the count."""

    @abstractmethod
    def count(self, batch: DistillBatch, teachers: Sequence[TeacherSignal]) -> Tensor:
        """The count alone, int64 scalar: a step knows all counts before its first student pass."""
