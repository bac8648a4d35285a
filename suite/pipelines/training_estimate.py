"""What a training run will cost, told from a few steps of it."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable
from itertools import islice

import torch
from torch import nn

from suite.align.rows import RowCounts
from suite.distill.state import DataPlace, TrainingState
from suite.distill.teacher import LiveTeacher
from suite.distill.train import TrainingRun, take_step
from suite.pipelines.training_session import Session

Facts = tuple[tuple[str, str], ...]

_TIMED_STEPS = 3
# Each weight is multiplied with every token: forward, and twice backward; 2 operations each time.
_TRAINED, _FORWARD = 6, 2
_BYTES_PER_NUMBER = 4


def measure_steps(session: Session, run: TrainingRun) -> Facts:
    """Time a few steps; the student is changed by them and of no use afterwards.

    Args:
        session: Opened, at its first step.
        run: Of the session.

    Returns:
        Labels and values: parameters, tokens, operations, memory, time, disk.
    """
    config = run.config
    steps = list(islice(run.rows.steps(DataPlace(), config.rows_per_step), _TIMED_STEPS + 1))
    seconds = []
    for rows in steps:
        begin = time.monotonic()
        take_step(run, TrainingState(), rows)
        seconds.append(time.monotonic() - begin)
    # The first step also makes the optimiser's moments.
    timed = sorted(seconds[1:] or seconds)
    median = timed[len(timed) // 2]
    share = run.num_steps / len(steps)
    counts = sum((row.counts for rows in steps for row in rows.rows), RowCounts())
    teacher_tokens, tokens = counts.num_teacher_tokens * share, counts.num_student_tokens * share
    operations = _TRAINED * _num_weights(session.student) * tokens
    for teacher in session.teachers:
        if isinstance(teacher, LiveTeacher):
            shares = not isinstance(teacher.trunk, nn.Module)
            trunk = session.student.trunk if shares else teacher.trunk
            weights = _num_weights(trunk) + teacher.head.weight.numel()
            operations += _FORWARD * weights * teacher_tokens
    trained = _count(p for p in session.student.parameters() if p.requires_grad)
    every = session.inputs.recipe.checkpoints
    return (
        ("trained parameters", f"{trained:,} of {_count(session.student.parameters()):,}"),
        ("steps", f"{run.num_steps:,}"),
        ("text", f"about {counts.num_bytes * share:,.0f} bytes"),
        ("tokens", f"about {teacher_tokens:,.0f} teacher, {tokens:,.0f} student"),
        ("floating-point operations", f"about {operations:.1e}"),
        ("memory", f"{_size(_peak_bytes(run.device))} at the peak of these steps"),
        ("a step", f"{median:.2f} s, median of {len(timed)}"),
        (
            "training",
            f"about {_duration(median * run.num_steps)}, without measuring and saving",
        ),
        (
            "disk",
            f"about {_size(_checkpoint_bytes(session, trained))} a checkpoint,"
            f" {every.keep_last + every.keep_best} kept",
        ),
    )


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _num_weights(module: nn.Module) -> int:
    """Numbers in the matrices that tokens are multiplied with: embeddings are only looked up."""
    return _count(
        parameter
        for part in module.modules()
        if not isinstance(part, nn.Embedding)
        for parameter in part.parameters(recurse=False)
    )


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _peak_bytes(device: torch.device) -> int:
    """Of the device's memory; on a processor, of the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _checkpoint_bytes(session: Session, trained: int) -> int:
    """The model or its trained part, and two moments of what is trained."""
    is_full = session.inputs.recipe.train == "full"
    stored = _count(session.student.model.parameters()) if is_full else trained
    return _BYTES_PER_NUMBER * (stored + 2 * trained)
