"""How far a student is from its teacher on rows that nobody trains on.

Legend: B rows, T tokens of one side, N chunks or groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from suite.align.collate import DistillBatch, collate
from suite.align.rows import Row
from suite.distill.losses.alm import AlmConfig, alm_loss, teacher_chunks
from suite.distill.losses.groups import group_chunks, side_chunks
from suite.distill.passes import each_tensor
from suite.distill.signals import Teacher
from suite.distill.student import Student
from suite.models.trunk import evaluating

_LEAST_GROUPS = 3


@dataclass(frozen=True)
class HeldOutFigures:
    """What was measured on held-out rows; None where there is nothing to measure.

    A group is made as the ALM loss makes it; t and s are the teacher's and the student's natural
    log-probability of it, the teacher's rounded as a stored one's. Bits per byte are
    -sum log p / (ln 2 x bytes) over chunks that hold text, inside completions as a whole; both
    sides cover the same bytes. Left out are chunks that cross a cut or hold a document's first
    token.

    Attributes:
        num_groups: Groups that count.
        mean_distance: Mean of |t - s|, nats a group.
        rank_correlation: Spearman's, of s with t over all groups; None also for fewer than 3 groups
            or where one side's are all equal.
        loss: Mean of the loss's divergence, a group.
        student_bits_per_byte: Of the text.
        teacher_bits_per_byte: Of the same text; of several teachers, of the one that draws among
            them.
    """

    num_groups: int
    mean_distance: float | None
    rank_correlation: float | None
    loss: float | None
    student_bits_per_byte: float | None
    teacher_bits_per_byte: float | None


def measure_held_out(
    student: Student,
    teachers: Sequence[Teacher],
    rows: Sequence[Row],
    config: AlmConfig,
    *,
    rows_per_pass: int,
) -> HeldOutFigures:
    """Measure a student on fixed rows, without gradient and without dropout.

    Every module gets its mode back, and no random number is drawn.

    Args:
        student: The student.
        teachers: What it is compared with; none for bits per byte alone.
        rows: The same at every call, so that figures of a run can be compared.
        config: How groups are made, and the divergence.
        rows_per_pass: Rows that are read at a time.
    """
    passes = []
    device = student.boundary_mask.device
    with evaluating(student), torch.no_grad():
        for first in range(0, len(rows), rows_per_pass):
            numbers = range(first, min(first + rows_per_pass, len(rows)))
            batch = collate([rows[number] for number in numbers])
            batch = each_tensor(batch, lambda tensor: tensor.to(device))
            passes.append(_read(student, teachers, batch, numbers, config))
    return _figures(passes, config, has_teacher=bool(teachers))


@dataclass(frozen=True, eq=False)
class _Pass:
    """Of some rows: t and s of each group, bytes of text, and nats that both sides gave it."""

    teacher: Tensor
    student: Tensor
    num_bytes: int
    student_nats: float
    teacher_nats: float


def _read(
    student: Student,
    teachers: Sequence[Teacher],
    batch: DistillBatch,
    numbers: Sequence[int],
    config: AlmConfig,
) -> _Pass:
    own = side_chunks(student.read(batch.student).log_probs, batch.student)
    is_text = batch.chunk_mask & batch.in_completion & (batch.chunk_bytes > 0)
    num_bytes = int(batch.chunk_bytes[is_text].sum())
    student_nats = -float(own.log_probs[is_text].cpu().double().sum())
    nothing = torch.empty(0, dtype=torch.float64)
    if not teachers:
        return _Pass(nothing, nothing, num_bytes, student_nats, 0.0)
    pairs = zip(teachers, batch.teachers, strict=True)
    others = teacher_chunks([teacher.signal(side, numbers) for teacher, side in pairs], batch)
    weights = config.teacher_weights
    chunks = group_chunks(own, others, batch, merge=False, append=False, teacher_weights=weights)
    groups = group_chunks(
        own,
        others,
        batch,
        merge=config.merge,
        append=config.append,
        gamma=config.closing_gamma,
        teacher_weights=weights,
    )
    return _Pass(
        teacher=groups.teacher[groups.mask].cpu().double(),
        student=groups.student[groups.mask].cpu().double(),
        num_bytes=num_bytes,
        student_nats=student_nats,
        teacher_nats=-float(chunks.teacher[is_text].cpu().double().sum()),
    )


def _figures(passes: Sequence[_Pass], config: AlmConfig, *, has_teacher: bool) -> HeldOutFigures:
    nothing = torch.empty(0, dtype=torch.float64)
    teacher = torch.cat([nothing, *(one.teacher for one in passes)])
    student = torch.cat([nothing, *(one.student for one in passes)])
    num_bytes = sum(one.num_bytes for one in passes)
    bits = [
        math.fsum(nats) / (math.log(2) * num_bytes) if num_bytes else None
        for nats in zip(*((one.student_nats, one.teacher_nats) for one in passes), strict=True)
    ] or [None, None]
    count = len(teacher)
    loss = alm_loss(
        student[None],
        teacher[None],
        torch.ones(1, count, dtype=torch.bool),
        divergence=config.divergence,
        binarization_temperature=config.binarization_temperature,
        epsilon=config.epsilon,
    )
    return HeldOutFigures(
        num_groups=count,
        mean_distance=float((teacher - student).abs().mean()) if count else None,
        rank_correlation=_rank_correlation(teacher.numpy(), student.numpy()),
        loss=float(loss) / count if count else None,
        student_bits_per_byte=bits[0],
        teacher_bits_per_byte=bits[1] if has_teacher else None,
    )


def _rank_correlation(teacher: NDArray[np.float64], student: NDArray[np.float64]) -> float | None:
    """Spearman's; None where it is not defined or would say nothing."""
    if len(teacher) < _LEAST_GROUPS or min(np.ptp(teacher), np.ptp(student)) == 0:
        return None
    return float(spearmanr(teacher, student).statistic)
