"""Random batches with everything that real ones have, and what both sides say about them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from suite.align.collate import BatchSide, DistillBatch
from suite.distill.signals import LossInputs, StudentOutput, TeacherSignal
from suite.likelihood.options import TokenLogProbs

HIDDEN_SIZE = 5


@dataclass(frozen=True)
class PlainChunk:
    """A chunk as a person would write it down; spans of the student and of each teacher."""

    spans: tuple[tuple[int, int], ...]
    is_begin: bool = False
    closes: bool = False
    in_completion: bool = True


@dataclass(frozen=True)
class PlainRow:
    """The chunks of a row, and how many tokens each side has."""

    chunks: tuple[PlainChunk, ...]
    sizes: tuple[int, ...]


def random_row(rng: np.random.Generator, num_sides: int = 2) -> PlainRow:
    """Documents with prompts, begin tokens, and tokens that belong to no chunk."""
    chunks: list[PlainChunk] = []
    sizes = [0] * num_sides
    for _ in range(rng.integers(1, 4)):
        has_begin = rng.random() < 0.7
        start = tuple((size, size + 1) for size in sizes)
        sizes = [size + 1 for size in sizes]
        if has_begin:
            chunks.append(PlainChunk(start, is_begin=True, in_completion=False))
        num_prompt = rng.integers(0, 4)
        for number in range(rng.integers(0, 8)):
            if number and rng.random() < 0.15:
                sizes[rng.integers(num_sides)] += int(rng.integers(1, 3))
                chunks[-1] = replace(chunks[-1], closes=True)
            spans = tuple((size, size + int(rng.integers(1, 4))) for size in sizes)
            sizes = [stop for _, stop in spans]
            chunks.append(PlainChunk(spans, in_completion=bool(number >= num_prompt)))
        if chunks and not chunks[-1].is_begin:
            chunks[-1] = replace(chunks[-1], closes=True)
    return PlainRow(tuple(chunks), tuple(sizes))


def random_rows(seed: int, num_rows: int = 3, num_sides: int = 2) -> list[PlainRow]:
    rng = np.random.default_rng(seed)
    return [random_row(rng, num_sides) for _ in range(num_rows)]


def batch_of(rows: list[PlainRow], extra: int = 0) -> DistillBatch:
    """The batch, with `extra` places of padding behind the longest row."""
    num_chunks = max(1, *(len(row.chunks) for row in rows)) + extra
    student, *teachers = (_side(rows, m, num_chunks, extra) for m in range(len(rows[0].sizes)))

    def column(name: str) -> Tensor:
        return _padded([[getattr(c, name) for c in row.chunks] for row in rows], num_chunks, False)

    real = _padded([[True] * len(row.chunks) for row in rows], num_chunks, False)
    return DistillBatch(
        teacher=teachers[0],
        student=student,
        chunk_mask=real & ~column("is_begin"),
        hidden_mask=real,
        always_closes=column("closes"),
        in_completion=column("in_completion"),
        chunk_bytes=real.long(),
        more_teachers=tuple(teachers[1:]),
    )


def _side(rows: list[PlainRow], side: int, num_chunks: int, extra: int) -> BatchSide:
    width = max(1, *(row.sizes[side] for row in rows)) + extra
    index = torch.full((len(rows), width), -1)
    for b, row in enumerate(rows):
        for n, chunk in enumerate(row.chunks):
            index[b, slice(*chunk.spans[side])] = n
    lasts = [[chunk.spans[side][1] - 1 for chunk in row.chunks] for row in rows]
    tokens = _padded([[True] * row.sizes[side] for row in rows], width, False)
    loss_mask = tokens & (torch.arange(width) > 0)
    ids = torch.arange(width).expand(len(rows), width)
    return BatchSide(ids, ids, tokens, loss_mask, index, _padded(lasts, num_chunks, 0))


def _padded(values: list[list], width: int, value: int) -> Tensor:
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in values])


def random_inputs(
    rows: list[PlainRow], seed: int, *, extra: int = 0, junk: float = 0.0
) -> LossInputs:
    """What both sides say, float64; padding and tokens of no chunk hold `junk`.

    The numbers of real tokens depend on rows and seed alone. The student's carry a gradient.
    """
    batch = batch_of(rows, extra)
    rng = np.random.default_rng(seed)
    outputs = [
        _said(rows, number, side, junk, rng)
        for number, side in enumerate((batch.student, *batch.teachers))
    ]
    (token, boundary, hidden), *others = outputs
    student = TokenLogProbs(token.requires_grad_(), boundary.requires_grad_())
    teachers = tuple(
        TeacherSignal(TokenLogProbs(token.half().double(), boundary.half().double()), states)
        for token, boundary, states in others
    )
    return LossInputs(batch, StudentOutput(student, hidden.requires_grad_()), teachers)


def _said(
    rows: list[PlainRow], number: int, side: BatchSide, junk: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Token and boundary log-probs [B, T] and states [B, T, D] of one side."""
    token = torch.full(side.ids.shape, junk, dtype=torch.float64)
    boundary = token.clone()
    hidden = torch.full((*side.ids.shape, HIDDEN_SIZE), junk, dtype=torch.float64)
    for b, row in enumerate(rows):
        size = row.sizes[number]
        token[b, :size] = torch.from_numpy(-np.exp(rng.normal(-1.5, 2, size)))
        boundary[b, :size] = torch.from_numpy(-np.exp(rng.normal(0.3, 1.2, size)))
        hidden[b, :size] = torch.from_numpy(rng.normal(0, 1, (size, HIDDEN_SIZE)))
        outside = side.chunk_index[b, :size] < 0
        token[b, :size][outside] = boundary[b, :size][outside] = junk
    return token, boundary, hidden


def as_float32(inputs: LossInputs) -> LossInputs:
    """The same in float32, with leaves of its own."""

    def leaf(values: Tensor) -> Tensor:
        return values.detach().float().requires_grad_()

    own = inputs.student
    student = TokenLogProbs(leaf(own.log_probs.token), leaf(own.log_probs.boundary))
    teachers = tuple(
        TeacherSignal(
            TokenLogProbs(signal.log_probs.token.float(), signal.log_probs.boundary.float()),
            signal.hidden.float(),
        )
        for signal in inputs.teachers
    )
    return LossInputs(inputs.batch, StudentOutput(student, leaf(own.hidden)), teachers)
