"""What flows into losses and out of them.

Legend: B rows, T tokens of one side, N chunks, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from suite.align.collate import BatchSide, DistillBatch
from suite.likelihood.options import TokenLogProbs


@dataclass(frozen=True, eq=False)
class TeacherSignal:
    """What a teacher says about its side of a batch, live or stored; it carries no gradient.

    Attributes:
        log_probs: Each [B, Tt], rounded to float16 and held as float32. `token[:, i]` is the
            log-probability of token i given those before it, `boundary[:, i]` that of a new
            pre-token behind token i. Padding, and `token` at a row's first place, are 0.
        hidden: [B, Tt, D], states after the final norm; None if stored or not asked for.
    """

    log_probs: TokenLogProbs
    hidden: Tensor | None = None


class Teacher(Protocol):
    """Where signals come from."""

    def signal(self, side: BatchSide, row_numbers: Sequence[int]) -> TeacherSignal:
        """The signal for the teacher's side of a batch.

        Args:
            side: The teacher's tokens.
            row_numbers: Place of each row in the order of reading, from 0.
        """
        ...


@dataclass(frozen=True, eq=False)
class StudentOutput:
    """What a student says about its side of a batch, with gradient.

    Attributes:
        log_probs: Each [B, Ts], laid out as in `TeacherSignal`, not rounded.
        hidden: [B, Ts, D], states after the final norm.
    """

    log_probs: TokenLogProbs
    hidden: Tensor


@dataclass(frozen=True, eq=False)
class LossInputs:
    """What a loss reads.

    Attributes:
        batch: The tokens and chunks.
        student: The student's output.
        teachers: One signal for each of `batch.teachers`.
    """

    batch: DistillBatch
    student: StudentOutput
    teachers: tuple[TeacherSignal, ...]


@dataclass(frozen=True, eq=False)
class LossTerm:
    """A loss before it is divided: the training step divides once, by the count over all of it.

    Attributes:
        sum: Scalar with gradient.
        count: int64 scalar, what the sum is over.
    """

    sum: Tensor
    count: Tensor
