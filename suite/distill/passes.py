"""A step's rows cut into forward passes, the same number of them on every process.

Legend: B rows of a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from suite.align.collate import DistillBatch, collate
from suite.align.rows import Row
from suite.distill.training_rows import StepRows


@dataclass(frozen=True, eq=False)
class Pass:
    """One forward pass of one process.

    Attributes:
        batch: On the student's device.
        row_numbers: Places of its rows in their epoch, [B].
        documents: Of each row, the numbers of its documents in the data.
    """

    batch: DistillBatch
    row_numbers: tuple[int, ...]
    documents: tuple[tuple[int, ...], ...]


def make_passes(
    step: StepRows,
    rows_per_pass: int,
    device: torch.device,
    *,
    rank: int = 0,
    num_processes: int = 1,
) -> list[Pass]:
    """The passes of one process.

    Passes are dealt out to the processes in turn. Where an epoch ends, a process may have no row
    left for its last pass; it then reads one of the others' without counting it, because all must
    take as many passes.

    Args:
        step: All rows of the step.
        rows_per_pass: Most rows of a pass.
        device: Where the batches go.
        rank: This process.
        num_processes: All of them.
    """
    starts = range(0, len(step.rows), rows_per_pass)
    num_rounds = -(-len(starts) // num_processes)
    passes = []
    for number in range(rank, num_rounds * num_processes, num_processes):
        is_own = number < len(starts)
        start = starts[number] if is_own else 0
        stop = start + (rows_per_pass if is_own else 1)
        one = _pass(step.rows[start:stop], step.numbers[start:stop], device)
        passes.append(one if is_own else replace(one, batch=without_losses(one.batch)))
    return passes


def _pass(rows: Sequence[Row], numbers: Sequence[int], device: torch.device) -> Pass:
    batch = each_tensor(collate(rows), lambda tensor: tensor.to(device))
    return Pass(batch, tuple(numbers), tuple(row.documents for row in rows))


def without_losses(batch: DistillBatch) -> DistillBatch:
    """The batch with nothing in it that losses count."""
    student = replace(batch.student, loss_mask=torch.zeros_like(batch.student.loss_mask))
    nothing = torch.zeros_like(batch.chunk_mask)
    return replace(
        batch, student=student, chunk_mask=nothing, hidden_mask=nothing, in_completion=nothing
    )


def rows_of(value: Any, rows: slice) -> Any:
    """A batch or a signal with some of its rows."""
    return each_tensor(value, lambda tensor: tensor[rows])


def each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A dataclass of tensors, of such dataclasses and of tuples of them, with each one changed."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(each_tensor(item, change) for item in value)
    found = {part.name: each_tensor(getattr(value, part.name), change) for part in fields(value)}
    return replace(value, **found)
