"""Outcome-chunk debiasing: merge and append (arXiv 2503.20083).

A chunk that ends inside a word means different things under different tokenizers. So chunks are
merged into groups until the teacher expects a new pre-token (merge), and each side's probability
that a new pre-token comes next is multiplied in: "this text comes next, and ends here" (append).

Legend: B rows, T tokens of one side, N chunks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from suite.align.boundaries import DEFAULT_GAMMA, merge_groups
from suite.align.collate import BatchSide, DistillBatch
from suite.errors import ConfigError
from suite.likelihood.chunk_log_probs import chunk_log_probs
from suite.likelihood.options import TokenLogProbs
from suite.shapes import check_shapes

_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class SideChunks:
    """What one side says about the chunks of a batch.

    Attributes:
        log_probs: [B, N], natural logs, of each chunk's text.
        boundary: [B, N], of a new pre-token behind each chunk; None if not asked for.
    """

    log_probs: Tensor
    boundary: Tensor | None


@dataclass(frozen=True, eq=False)
class ChunkLogProbs:
    """What both sides say about the groups of a batch; group n of row b stands at [b, n].

    Attributes:
        student: [B, N], natural logs, <= 0, with gradient.
        teacher: [B, N], <= 0.
        mask: bool [B, N], True at the groups that count; the other places mean nothing.
    """

    student: Tensor
    teacher: Tensor
    mask: Tensor


def side_chunks(log_probs: TokenLogProbs, side: BatchSide) -> SideChunks:
    """From a side's tokens to its chunks.

    Args:
        log_probs: Each [B, T]: `token[:, i]` of token i, `boundary[:, i]` of what is behind it.
        side: The tokens they belong to.

    Raises:
        ShapeError: They do not belong together.
    """
    check_shapes(
        "side_chunks",
        {"token": ("B", "T"), "boundary": ("B", "T"), "ids": ("B", "T")},
        token=log_probs.token,
        boundary=log_probs.boundary,
        ids=side.ids,
    )
    boundary = log_probs.boundary
    return SideChunks(
        chunk_log_probs(log_probs.token, side.chunk_index, side.chunk_last.shape[1]),
        None if boundary is None else boundary.gather(1, side.chunk_last),
    )


def group_chunks(
    student: SideChunks,
    teachers: Sequence[SideChunks],
    batch: DistillBatch,
    *,
    merge: bool = True,
    append: bool = True,
    gamma: float = DEFAULT_GAMMA,
    teacher_weights: Sequence[float] | None = None,
) -> ChunkLogProbs:
    """The groups of a batch, with each side's log-probability.

    Groups that hold a chunk outside the completions are dropped, those that straddle the end of a
    prompt too (a deviation from the paper, whose texts have no prompts). Several teachers are one
    that draws among them: log sum_m w_m e^(t_m), for groups and for the boundaries that close them.

    Args:
        student: Its chunks.
        teachers: Their chunks, one or more, rounded to float16 beforehand if one may be stored.
        batch: For its masks.
        merge: Merge chunks; without it each chunk is a group.
        append: Add each side's boundary log-probability behind the group's last token.
        gamma: The teacher's boundary probability above which a chunk closes a group.
        teacher_weights: Above 0, summing to 1; equal if not given.

    Raises:
        ShapeError: The tensors do not belong together.
        ConfigError: Boundary log-probabilities are missing, gamma is no probability, or the weights
            do not fit.
    """
    _check_sides((student, *teachers), batch)
    logs = log_weights(teacher_weights, len(teachers))
    groups = _group_index(teachers, batch, merge, gamma, logs)
    return ChunkLogProbs(
        student=_grouped(student, groups, append),
        teacher=_mixture([_grouped(teacher, groups, append) for teacher in teachers], logs),
        mask=_counted_groups(groups, batch.in_completion),
    )


def count_groups(
    teachers: Sequence[SideChunks],
    batch: DistillBatch,
    *,
    merge: bool = True,
    gamma: float = DEFAULT_GAMMA,
    teacher_weights: Sequence[float] | None = None,
) -> Tensor:
    """How many groups `group_chunks` counts, which no student is needed for; int64 scalar.

    Args:
        teachers: Their chunks, one or more.
        batch: For its masks.
        merge: As in `group_chunks`, like what follows.
        gamma: The boundary probability that closes a group.
        teacher_weights: Above 0, summing to 1.

    Raises:
        ShapeError: The tensors do not belong together.
        ConfigError: As in `group_chunks`.
    """
    _check_sides(teachers, batch)
    logs = log_weights(teacher_weights, len(teachers))
    groups = _group_index(teachers, batch, merge, gamma, logs)
    return _counted_groups(groups, batch.in_completion).sum()


def _group_index(
    teachers: Sequence[SideChunks],
    batch: DistillBatch,
    merge: bool,
    gamma: float,
    logs: Sequence[float],
) -> Tensor:
    """The group of each chunk, int64 [B, N]; -1 for none."""
    if merge:
        closing = _mixture([_boundary(teacher, "merge") for teacher in teachers], logs)
        return merge_groups(closing, batch.chunk_mask, batch.always_closes, gamma=gamma)
    own = torch.arange(batch.chunk_mask.shape[1], device=batch.chunk_mask.device)
    return torch.where(batch.chunk_mask, own, -1)


def log_weights(teacher_weights: Sequence[float] | None, num_teachers: int) -> tuple[float, ...]:
    """Logs of the teachers' weights; equal weights if none are given.

    Raises:
        ConfigError: They are not one for each teacher, above 0 and summing to 1.
    """
    if teacher_weights is None:
        return (-math.log(num_teachers),) * num_teachers
    problem = weights_problem(teacher_weights)
    if len(teacher_weights) != num_teachers:
        teachers = "1 teacher" if num_teachers == 1 else f"{num_teachers} teachers"
        problem = f"teacher_weights has {len(teacher_weights)} for {teachers}; give one for each"
    if problem is not None:
        raise ConfigError(problem)
    return tuple(math.log(weight) for weight in teacher_weights)


def weights_problem(teacher_weights: Sequence[float]) -> str | None:
    """A sentence if weights are not above 0 or do not sum to 1."""
    listed = ", ".join(map(str, teacher_weights))
    # Written so that NaN is a problem, too.
    if not all(weight > 0 for weight in teacher_weights):
        return f"teacher_weights are {listed}; each must be above 0"
    total = math.fsum(teacher_weights)
    if not abs(total - 1) <= _SUM_TOLERANCE:
        return f"teacher_weights are {listed}, which sum to {total:.6g}; they must sum to 1"
    return None


def _check_sides(sides: Sequence[SideChunks], batch: DistillBatch) -> None:
    for side in sides:
        check_shapes(
            "group_chunks",
            {"log_probs": ("B", "N"), "boundary": ("B", "N"), "chunk_mask": ("B", "N")},
            log_probs=side.log_probs,
            boundary=side.boundary,
            chunk_mask=batch.chunk_mask,
        )


def _boundary(side: SideChunks, step: str) -> Tensor:
    if side.boundary is None:
        raise ConfigError(
            f"group_chunks: {step} needs boundary log-probabilities; give token_log_probs a"
            f" boundary_mask, or set {step} to false"
        )
    return side.boundary


def _grouped(side: SideChunks, groups: Tensor, append: bool) -> Tensor:
    """A side's log-probability of each group, [B, N]."""
    num_groups = groups.shape[1]
    log_probs = chunk_log_probs(side.log_probs, groups, num_groups)
    if append:
        # The chunks of a group are neighbours, so its last one is where the number changes.
        behind = torch.nn.functional.pad(groups[:, 1:], (0, 1), value=-1)
        ends = torch.where(groups != behind, groups, -1)
        log_probs = log_probs + chunk_log_probs(_boundary(side, "append"), ends, num_groups)
    # A log-sum-exp can round to just below one of its terms.
    return log_probs.clamp(max=0)


def _counted_groups(groups: Tensor, in_completion: Tensor) -> Tensor:
    """Groups that exist and lie in completions as a whole, bool [B, N]."""
    num_groups = groups.shape[1]
    sizes = chunk_log_probs((groups >= 0).float(), groups, num_groups)
    inside = chunk_log_probs(in_completion.float(), groups, num_groups)
    return (sizes > 0) & (inside == sizes)


def _mixture(log_probs: Sequence[Tensor], logs: Sequence[float]) -> Tensor:
    """The log of sum_m w_m e^(x_m), elementwise."""
    weighted = [values + log for values, log in zip(log_probs, logs, strict=True)]
    # Weights may sum to a little more than 1.
    return torch.logsumexp(torch.stack(weighted), dim=0).clamp(max=0)
