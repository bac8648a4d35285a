"""Approximate likelihood matching (ALM), arXiv 2503.20083.

Teacher and student share no vocabulary, but both give a probability to every group of chunks.

Legend: B rows, N groups (at most as many as chunks).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator, model_validator
from torch import Tensor

from suite.align.boundaries import DEFAULT_GAMMA
from suite.align.collate import DistillBatch
from suite.distill.losses.contract import LossConfig, LossContext, LossModule, Needs
from suite.distill.losses.divergences import (
    DEFAULT_BINARIZATION_TEMPERATURE,
    DEFAULT_EPSILON,
    DIVERGENCES,
    settings_problem,
)
from suite.distill.losses.groups import (
    ChunkLogProbs,
    SideChunks,
    count_groups,
    group_chunks,
    log_weights,
    side_chunks,
    weights_problem,
)
from suite.distill.signals import LossInputs, LossTerm, TeacherSignal
from suite.errors import ConfigError
from suite.shapes import check_shapes


def alm_loss(
    student_log_probs: Tensor,
    teacher_log_probs: Tensor,
    mask: Tensor,
    *,
    divergence: str = "kl",
    binarization_temperature: float | None = None,
    epsilon: float = DEFAULT_EPSILON,
) -> Tensor:
    """Sum over groups of a binarised divergence between teacher and student.

    The sum is returned, not the mean: the training step divides once, by the groups of the whole
    accumulated batch. The gradient shrinks with the binarization temperature: at 100 it is some 300
    times smaller than a cross-entropy's, so multiply by the temperature or balance when another
    loss is added. The default is a KL, 0 at equality; the authors' code uses the cross-entropy,
    which differs by a constant and has the same gradient.

    Args:
        student_log_probs: [B, N], natural logs, of groups already merged and appended; <= 0 but
            for rounding.
        teacher_log_probs: [B, N], <= 0.
        mask: bool [B, N]. Where it is False both sides may hold anything, NaN too: that adds
            exactly 0 and gets a gradient of exactly 0.
        divergence: A key of `DIVERGENCES`.
        binarization_temperature: Divides the log-probabilities; 100 if not given. `log_ratio` and
            `kl_limit` have none.
        epsilon: Subtracted from the divided log-probabilities, so that 1 - P stays above 0.

    Returns:
        Scalar >= 0, float32 (float64 for float64 inputs); 0 exactly where the models agree.

    Raises:
        ShapeError: The tensors have not one shape.
        ConfigError: There is no such divergence, or a number does not go with it.
    """
    check_shapes(
        "alm_loss",
        dict.fromkeys(("student_log_probs", "teacher_log_probs", "mask"), ("B", "N")),
        student_log_probs=student_log_probs,
        teacher_log_probs=teacher_log_probs,
        mask=mask,
    )
    problem = settings_problem(divergence, binarization_temperature, epsilon)
    if problem is not None:
        raise ConfigError(f"alm_loss: {problem}")
    chosen = DIVERGENCES[divergence]
    default = DEFAULT_BINARIZATION_TEMPERATURE if chosen.has_temperature else 1.0
    temperature = binarization_temperature or default
    dtype = torch.promote_types(student_log_probs.dtype, teacher_log_probs.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    # Where nothing counts, both sides get one value before anything is computed from it.
    # A log-probability that rounding left above 0 would have a 1 - P below 0.
    teacher, student = (
        log_probs.to(dtype).masked_fill(~mask, -1.0).clamp(max=0) / temperature - epsilon
        for log_probs in (teacher_log_probs, student_log_probs)
    )
    return chosen.function(teacher, student).sum()


class AlmConfig(LossConfig):
    """Settings of the ALM loss.

    Attributes:
        name: `alm`.
        divergence: A key of `DIVERGENCES`.
        binarization_temperature: Divides the log-probabilities of groups; 100 if not given, and
            not to be given for `log_ratio` and `kl_limit`. The paper's runs use 100, its own
            ablation prefers 5.
        epsilon: Keeps log-probabilities below 0.
        merge: Merge chunks until the teacher expects a new pre-token.
        append: Add each side's boundary log-probability; matters most for generation.
        gamma: The boundary probability above which a chunk closes a group; 0.1 if not given, and
            not to be given without merge.
        teacher_weights: One for each of several teachers, summing to 1; equal if not given.
    """

    name: Literal["alm"] = "alm"
    divergence: str = "kl"
    binarization_temperature: float | None = Field(default=None, validate_default=True)
    epsilon: float = DEFAULT_EPSILON
    merge: bool = True
    append: bool = True
    gamma: Annotated[float, Field(ge=0, le=1)] | None = Field(default=None, validate_default=True)
    teacher_weights: tuple[float, ...] | None = None

    # Defaults that depend on other settings are filled in, so that a written config shows them.
    @field_validator("binarization_temperature")
    @classmethod
    def _resolved_temperature(cls, given: float | None, info: ValidationInfo) -> float | None:
        chosen = DIVERGENCES.get(info.data.get("divergence", ""))
        if given is None and chosen is not None and chosen.has_temperature:
            return DEFAULT_BINARIZATION_TEMPERATURE
        return given

    @field_validator("gamma")
    @classmethod
    def _resolved_gamma(cls, given: float | None, info: ValidationInfo) -> float | None:
        return DEFAULT_GAMMA if given is None and info.data.get("merge") else given

    @model_validator(mode="after")
    def _fits_together(self) -> AlmConfig:
        problem = settings_problem(self.divergence, self.binarization_temperature, self.epsilon)
        if self.gamma is not None and not self.merge:
            problem = f"gamma is {self.gamma}, but merge is false; leave one of the two out"
        if self.teacher_weights is not None:
            problem = problem or weights_problem(self.teacher_weights)
        if problem is not None:
            raise ValueError(problem)
        return self

    @property
    def needs(self) -> Needs:
        """A teacher's log-probabilities; a stored one suffices."""
        return Needs(teacher=True)

    @property
    def gradient_scale(self) -> float:
        """The binarization temperature, which the gradient shrinks with."""
        return self.binarization_temperature or 1.0

    @property
    def closing_gamma(self) -> float:
        """The boundary probability above which a chunk closes a group."""
        return DEFAULT_GAMMA if self.gamma is None else self.gamma

    def build(self, context: LossContext) -> AlmLoss:
        """The module.

        Raises:
            ConfigError: There is not one weight for each teacher.
        """
        log_weights(self.teacher_weights, context.num_teachers)
        return AlmLoss(self)


class AlmLoss(LossModule):
    """The ALM loss of a batch; its count is the groups."""

    def __init__(self, config: AlmConfig) -> None:
        """Without parameters of its own."""
        super().__init__()
        self.config = config

    def groups(self, inputs: LossInputs) -> ChunkLogProbs:
        """What the student and the teachers say about each group."""
        config, batch = self.config, inputs.batch
        return group_chunks(
            side_chunks(inputs.student.log_probs, batch.student),
            teacher_chunks(inputs.teachers, batch),
            batch,
            merge=config.merge,
            append=config.append,
            gamma=config.closing_gamma,
            teacher_weights=config.teacher_weights,
        )

    def forward(self, inputs: LossInputs) -> LossTerm:
        """The sum over the batch's groups."""
        config, groups = self.config, self.groups(inputs)
        loss = alm_loss(
            groups.student,
            groups.teacher,
            groups.mask,
            divergence=config.divergence,
            binarization_temperature=config.binarization_temperature,
            epsilon=config.epsilon,
        )
        return LossTerm(loss, groups.mask.sum())

    def count(self, batch: DistillBatch, teachers: Sequence[TeacherSignal]) -> Tensor:
        """The batch's groups: where they end is the teachers' choice alone."""
        return count_groups(
            teacher_chunks(teachers, batch),
            batch,
            merge=self.config.merge,
            gamma=self.config.closing_gamma,
            teacher_weights=self.config.teacher_weights,
        )


def teacher_chunks(teachers: Sequence[TeacherSignal], batch: DistillBatch) -> list[SideChunks]:
    """What each teacher says about the chunks of a batch."""
    pairs = zip(teachers, batch.teachers, strict=True)
    return [side_chunks(signal.log_probs, side) for signal, side in pairs]
