"""One optimiser step: teachers first, then the student pass by pass, each loss divided once.

A loss is a sum over all passes and processes, divided by its count over all of them: so a step is
the same however it is cut into passes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from suite.distill.balance import GradientSums, gradmag_weights, last_block_parameters
from suite.distill.passes import Pass, rows_of
from suite.distill.signals import LossTerm, Teacher, TeacherSignal
from suite.distill.student import Student
from suite.errors import SuiteError


class NotFiniteError(SuiteError):
    """A loss or its gradient is not a number."""


@dataclass(frozen=True)
class StepFigures:
    """What a step saw.

    Attributes:
        losses: Mean of each loss over its count, before weighting; None where the count is 0.
        counts: Of each loss, over all passes and processes.
        weights: What each mean was multiplied with.
        gradient_norm: Of the whole gradient, before clipping.
        learning_rate: Of this step.
        gradient_norms: Of each loss at the last block, under `gradmag`.
    """

    losses: Mapping[str, float | None]
    counts: Mapping[str, int]
    weights: Mapping[str, float]
    gradient_norm: float
    learning_rate: float
    gradient_norms: Mapping[str, float] = field(default_factory=dict)


class Processes:
    """The processes that share a step; alone, nothing is added up."""

    def __init__(self) -> None:
        """Those of torch.distributed, if it was started."""
        is_started = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.count = torch.distributed.get_world_size() if is_started else 1
        self.rank = torch.distributed.get_rank() if is_started else 0

    def sum(self, values: Tensor) -> Tensor:
        """Added up over all processes."""
        if self.count > 1:
            values = values.clone()
            torch.distributed.all_reduce(values)
        return values


@dataclass(eq=False)
class Stepper:
    """Everything that takes part in a step.

    Attributes:
        student: The module that losses are read from.
        wrapped: The same, or what distributes it; gradients are averaged over processes there.
        teachers: One for each signal that losses read; none if none does.
        optimiser: Over the trained parameters.
        fixed: Weights of the losses under `fixed`; None under `gradmag`.
        clipping: Largest norm of the gradient; None for any.
        is_sharded: `wrapped` cuts parameters over the processes instead of copying them.
        processes: Those that share the step.
    """

    student: Student
    wrapped: nn.Module
    teachers: Sequence[Teacher]
    optimiser: torch.optim.Optimizer
    fixed: Mapping[str, float] | None
    clipping: float | None
    is_sharded: bool = False
    processes: Processes = field(default_factory=Processes)

    def step(
        self,
        passes: Sequence[Pass],
        learning_rate: float,
        *,
        norms: Mapping[str, float] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> StepFigures:
        """Train on the passes of this process; the others do the same with theirs.

        Args:
            passes: As many on every process.
            learning_rate: Of this step.
            norms: Under `gradmag`, those of the step before; None or empty at the first step.
            weights: Under `gradmag`, those of the step before.

        Raises:
            NotFiniteError: A loss or the gradient is not a number; nothing was changed.
        """
        self.optimiser.zero_grad(set_to_none=True)
        signals = [self._signals(one) for one in passes]
        counts = self._counts(passes, signals)
        used = self.fixed or gradmag_weights(norms or {}, counts, weights or {})
        sums = None if self.fixed else GradientSums(last_block_parameters(self.student.trunk))
        found: list[Tensor] = []
        for number, (one, own) in enumerate(zip(passes, signals, strict=True)):
            with self._averaging(is_last=number + 1 == len(passes)):
                terms: dict[str, LossTerm] = self.wrapped(one.batch, own)
                means = {name: term.sum / max(1, counts[name]) for name, term in terms.items()}
                if sums is not None:
                    for name, mean in means.items():
                        sums.add(name, mean)
                # What averages gradients over the processes divides by their number.
                total = torch.stack([used[name] * mean for name, mean in means.items()]).sum()
                (total * self.processes.count).backward()  # type: ignore[no-untyped-call]
            found.append(torch.stack([mean.detach() for mean in means.values()]))
        losses = dict(zip(counts, self._added(torch.stack(found)), strict=True))
        gradient_norm = self._clip()
        if not all(map(math.isfinite, (*losses.values(), gradient_norm))):
            raise NotFiniteError(self._culprit(losses, passes, signals, found))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.step()
        return StepFigures(
            losses={name: losses[name] if counts[name] else None for name in counts},
            counts=counts,
            weights=dict(used),
            gradient_norm=gradient_norm,
            learning_rate=learning_rate,
            gradient_norms=sums.norms(counts, self.processes.sum) if sums is not None else {},
        )

    def _signals(self, one: Pass) -> tuple[TeacherSignal, ...]:
        # Without a loss that needs one there is no teacher, but the rows still have its side.
        pairs = zip(self.teachers, one.batch.teachers, strict=False)
        return tuple(teacher.signal(side, one.row_numbers) for teacher, side in pairs)

    def _counts(
        self, passes: Sequence[Pass], signals: Sequence[tuple[TeacherSignal, ...]]
    ) -> dict[str, int]:
        """Of each loss, over all passes and processes."""
        pairs = zip(passes, signals, strict=True)
        own = [self.student.counts(one.batch, signal) for one, signal in pairs]
        names = list(own[0])
        sums = torch.stack([torch.stack([counts[name] for name in names]) for counts in own]).sum(0)
        return dict(zip(names, self.processes.sum(sums).tolist(), strict=True))

    def _added(self, found: Tensor) -> list[float]:
        """[passes, losses] -> the sum of each loss over passes and processes."""
        # Apple's GPUs have no float64.
        dtype = torch.float32 if found.device.type == "mps" else torch.float64
        values: list[float] = self.processes.sum(found.to(dtype).sum(0)).tolist()
        return values

    def _averaging(self, *, is_last: bool) -> contextlib.AbstractContextManager[Any]:
        """Gradients are averaged over the processes in a step's last pass only."""
        if self.is_sharded:
            cast(Any, self.wrapped).set_requires_gradient_sync(is_last)
        elif self.wrapped is not self.student and not is_last:
            found: contextlib.AbstractContextManager[Any] = cast(Any, self.wrapped).no_sync()
            return found
        return contextlib.nullcontext()

    def _clip(self) -> float:
        """Clip the gradient; its norm before that."""
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        limit = math.inf if self.clipping is None else self.clipping
        norm: Any = nn.utils.clip_grad_norm_(trained, limit)
        return float(norm.full_tensor() if self.is_sharded else norm)

    def _culprit(
        self,
        losses: Mapping[str, float],
        passes: Sequence[Pass],
        signals: Sequence[tuple[TeacherSignal, ...]],
        found: Sequence[Tensor],
    ) -> str:
        """What is not a number, and in which rows, as far as this process can tell."""
        wrong = [name for name, value in losses.items() if not math.isfinite(value)]
        if not wrong:
            numbers = [number for one in passes for number in one.row_numbers]
            documents = [number for one in passes for own in one.documents for number in own]
            return f"the gradient is not a finite number, of {_places(numbers, documents)}"
        what = f"loss {wrong[0]} is not a finite number"
        for one, own, values in zip(passes, signals, found, strict=True):
            if bool(values.isfinite().all()):
                continue
            rows = range(len(one.row_numbers))
            # Gathering the parts of a student for one row would need all processes.
            failing = [] if self.is_sharded else [row for row in rows if self._fails(one, own, row)]
            rows = range(failing[0], failing[0] + 1) if failing else rows
            numbers = [one.row_numbers[row] for row in rows]
            documents = [number for row in rows for number in one.documents[row]]
            return f"{what}, in {_places(numbers, documents)}"
        return f"{what}, in rows of another process"

    @torch.no_grad()
    def _fails(self, one: Pass, signals: tuple[TeacherSignal, ...], row: int) -> bool:
        """Whether a row by itself gives a loss that is not a finite number."""
        single = slice(row, row + 1)
        terms = self.student(rows_of(one.batch, single), [rows_of(own, single) for own in signals])
        return not all(bool(term.sum.isfinite()) for term in terms.values())


def _places(rows: Sequence[int], documents: Sequence[int]) -> str:
    """Where rows are: `row 7 of this epoch (document 3 of the data)`."""
    listed = [", ".join(map(str, sorted(set(numbers)))) for numbers in (rows, documents)]
    of_rows = "row" if len(set(rows)) == 1 else "rows"
    of_documents = "document" if len(set(documents)) == 1 else "documents"
    return f"{of_rows} {listed[0]} of this epoch ({of_documents} {listed[1]} of the data)"
