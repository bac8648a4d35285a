"""Rows of unequal length -> one batch of padded tensors.

Right padding needs no attention mask: tokens do not see what follows them. In isolated rows the
padding is one more document.

Legend: B rows, Tt/Ts teacher/student tokens, N chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suite.align.rows import Row, RowSide


@dataclass(frozen=True, eq=False)
class BatchSide:
    """One side of a batch.

    Attributes:
        ids: int64 [B, T].
        position_ids: int64 [B, T].
        token_mask: bool [B, T], False at padding.
        loss_mask: bool [B, T], True where the token's log-probability counts.
        chunk_index: int64 [B, T], the chunk each token is in; -1 for none.
        chunk_last: int64 [B, N], the last token of each chunk, 0 at padding; the logits there are
            those of what follows the chunk.
    """

    ids: Tensor
    position_ids: Tensor
    token_mask: Tensor
    loss_mask: Tensor
    chunk_index: Tensor
    chunk_last: Tensor


@dataclass(frozen=True, eq=False)
class DistillBatch:
    """What one training step reads.

    Attributes:
        teacher: The teacher's tokens.
        student: The student's tokens.
        chunk_mask: bool [B, N], chunks that may form groups: not padding, not begin tokens.
        hidden_mask: bool [B, N], chunks whose last states may be compared: not padding.
        always_closes: bool [B, N], a group ends at this chunk whatever the teacher says.
        in_completion: bool [B, N], all of its text is in a completion.
        chunk_bytes: int64 [B, N], 0 at padding.
        more_teachers: The tokens of further teachers, with chunks that all sides share.
    """

    teacher: BatchSide
    student: BatchSide
    chunk_mask: Tensor
    hidden_mask: Tensor
    always_closes: Tensor
    in_completion: Tensor
    chunk_bytes: Tensor
    more_teachers: tuple[BatchSide, ...] = ()

    @property
    def teachers(self) -> tuple[BatchSide, ...]:
        """The sides of all teachers."""
        return (self.teacher, *self.more_teachers)


def collate(
    rows: Sequence[Row], *, teacher_pad_id: int = 0, student_pad_id: int = 0, multiple_of: int = 1
) -> DistillBatch:
    """Pad rows to the longest of them.

    Args:
        rows: At least one.
        teacher_pad_id: Any id the teacher's embedding has; nothing depends on it.
        student_pad_id: The same for the student. Further teachers are padded with 0.
        multiple_of: Widths are rounded up to a multiple, for compiled code.
    """
    num_chunks = _width([len(row.chunks.is_begin) for row in rows], multiple_of)
    is_real = _pad([np.ones(len(row.chunks.is_begin), np.bool_) for row in rows], num_chunks)
    is_begin = _pad([row.chunks.is_begin for row in rows], num_chunks)
    return DistillBatch(
        teacher=_side(
            [row.teacher for row in rows],
            [row.chunks.teacher_spans for row in rows],
            (teacher_pad_id, multiple_of, num_chunks),
        ),
        student=_side(
            [row.student for row in rows],
            [row.chunks.student_spans for row in rows],
            (student_pad_id, multiple_of, num_chunks),
        ),
        chunk_mask=is_real & ~is_begin,
        hidden_mask=is_real,
        always_closes=_pad([row.chunks.closes for row in rows], num_chunks),
        in_completion=_pad([row.chunks.in_completion for row in rows], num_chunks),
        chunk_bytes=_pad([row.chunks.num_bytes for row in rows], num_chunks).long(),
        more_teachers=tuple(
            _side(sides, spans, (0, multiple_of, num_chunks))
            for sides, spans in zip(
                zip(*(row.more_teachers for row in rows), strict=True),
                zip(*(row.chunks.more_teacher_spans for row in rows), strict=True),
                strict=True,
            )
        ),
    )


def _side(
    sides: Sequence[RowSide],
    spans: Sequence[NDArray[np.int32]],
    sizes: tuple[int, int, int],
) -> BatchSide:
    pad_id, multiple_of, num_chunks = sizes
    width = _width([len(side.ids) for side in sides], multiple_of)
    return BatchSide(
        ids=_pad([side.ids for side in sides], width, pad_id).long(),
        position_ids=torch.stack([_pad_positions(side.position_ids, width) for side in sides]),
        token_mask=_pad([np.ones(len(side.ids), np.bool_) for side in sides], width),
        loss_mask=_pad([side.loss_mask for side in sides], width),
        chunk_index=_pad(
            [_chunk_index(own, len(side.ids)) for own, side in zip(spans, sides, strict=True)],
            width,
            -1,
        ).long(),
        chunk_last=_pad([own[:, 1] - 1 for own in spans], num_chunks).long(),
    )


def _chunk_index(spans: NDArray[np.int32], num_tokens: int) -> NDArray[np.int64]:
    """The chunk of each token, [T]; -1 for none."""
    index = np.full(num_tokens, -1, np.int64)
    lengths = spans[:, 1] - spans[:, 0]
    before = np.cumsum(lengths) - lengths
    place = np.arange(lengths.sum()) + np.repeat(spans[:, 0] - before, lengths)
    index[place] = np.repeat(np.arange(len(spans)), lengths)
    return index


def _pad_positions(position_ids: NDArray[np.int32], width: int) -> Tensor:
    """Positions with the padding as one more document, counted from 0."""
    padding = np.arange(width - len(position_ids))
    return torch.from_numpy(np.concatenate([position_ids, padding]).astype(np.int64))


def _pad(arrays: Sequence[NDArray[np.generic]], width: int, value: int = 0) -> Tensor:
    padded = np.full((len(arrays), width), value, arrays[0].dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(padded)


def _width(lengths: Sequence[int], multiple_of: int) -> int:
    # A student that can read none of a batch still gets a token: models refuse empty rows.
    return -(-max(1, *lengths) // multiple_of) * multiple_of
