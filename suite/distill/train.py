"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from suite.distill.optimiser import learning_rate
from suite.distill.passes import make_passes
from suite.distill.settings import TrainConfig
from suite.distill.snapshot import random_state, restore_random_state
from suite.distill.state import TrainingState
from suite.distill.step import NotFiniteError, StepFigures, Stepper
from suite.distill.training_log import TrainingLog
from suite.distill.training_rows import StepRows, TrainingRows

# Held-out figures of a student as it is; `objective` is the one of which less is better.
Evaluate = Callable[[int], Mapping[str, Any]]
OBJECTIVE = "objective"
_NOT_FINITE = (
    "nothing was saved over the last checkpoint; train into another --output with a lower learning"
    " rate, or leave the document out"
)


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """Everything the loop works on.

    Attributes:
        stepper: Takes a step.
        rows: The data.
        config: Steps, rows, optimiser.
        num_steps: Of the whole run.
        device: Where batches go.
        save: Writes a checkpoint; every process calls it.
        save_every: Steps between two checkpoints; None for the last alone.
        saves_best: Save a step whose held-out figures are the best so far, too.
        evaluate: Held-out figures at a step; None for none. Every process calls it.
        evaluate_every: Steps between two of them, beside the first and the last; None for these.
        should_stop: Whether this process was asked to save and stop.
    """

    stepper: Stepper
    rows: TrainingRows
    config: TrainConfig
    num_steps: int
    device: torch.device
    save: Callable[[TrainingState], None]
    save_every: int | None
    saves_best: bool
    evaluate: Evaluate | None
    evaluate_every: int | None
    should_stop: Callable[[], bool]


def train(run: TrainingRun, state: TrainingState, log: TrainingLog) -> TrainingState:
    """Train to the last step, or until the run is asked to stop.

    Args:
        run: What to train, on what.
        state: Where to begin.
        log: Told of every step.

    Returns:
        The state behind the last step taken, which is saved.

    Raises:
        SuiteError: One sentence; the checkpoints made so far are kept.
    """
    if state.random_states:
        restore_random_state(state.random_states[_rank(run) % len(state.random_states)], run.device)
    else:
        torch.manual_seed(run.config.seed)
    if state.step == 0:
        state = _evaluated(run, state, log)
    for rows in run.rows.steps(state.place, run.config.rows_per_step):
        if state.step >= run.num_steps:
            break
        begin = time.monotonic()
        state, figures = take_step(run, state, rows)
        _tell(run, log, state, figures, time.monotonic() - begin, rows)
        is_last = state.step == run.num_steps
        if is_last or _is_due(state.step, run.evaluate_every):
            state = _evaluated(run, state, log)
        stops = bool(
            run.stepper.processes.sum(torch.tensor(int(run.should_stop()), device=run.device))
        )
        is_best = run.saves_best and state.best_step == state.step
        if stops or is_last or is_best or _is_due(state.step, run.save_every):
            run.save(replace(state, random_states=_random_states(run)))
        if stops:
            break
    return state


def take_step(
    run: TrainingRun, state: TrainingState, rows: StepRows
) -> tuple[TrainingState, StepFigures]:
    """Train on the rows of one step.

    Args:
        run: What to train.
        state: Where it is.
        rows: Of the step, over all processes.

    Returns:
        The state behind the step, and what it saw.

    Raises:
        NotFiniteError: A loss or the gradient is not a number.
    """
    processes = run.stepper.processes
    passes = make_passes(
        rows,
        run.config.rows_per_pass or -(-run.config.rows_per_step // processes.count),
        run.device,
        rank=processes.rank,
        num_processes=processes.count,
    )
    rate = learning_rate(run.config.optimiser, state.step, run.num_steps)
    try:
        figures = run.stepper.step(passes, rate, norms=state.gradient_norms, weights=state.weights)
    except NotFiniteError as error:
        raise NotFiniteError(f"step {state.step + 1}: {error}; {_NOT_FINITE}") from error
    counts = [row.counts for row in rows.rows]
    return replace(
        state,
        step=state.step + 1,
        place=rows.behind,
        num_bytes=state.num_bytes + sum(own.num_bytes for own in counts),
        num_teacher_tokens=state.num_teacher_tokens + sum(own.num_teacher_tokens for own in counts),
        num_student_tokens=state.num_student_tokens + sum(own.num_student_tokens for own in counts),
        gradient_norms=figures.gradient_norms,
        weights=figures.weights,
    ), figures


def _tell(
    run: TrainingRun,
    log: TrainingLog,
    state: TrainingState,
    figures: StepFigures,
    seconds: float,
    rows: StepRows,
) -> None:
    num_tokens = sum(row.counts.num_student_tokens for row in rows.rows)
    log.advance(state.step, figures.losses, num_tokens)
    is_last = state.step == run.num_steps
    if is_last or state.step % run.config.log_every == 0:
        log.write(
            {
                "kind": "step",
                "step": state.step,
                **vars(figures),
                "num_bytes": state.num_bytes,
                "num_teacher_tokens": state.num_teacher_tokens,
                "num_student_tokens": state.num_student_tokens,
                "seconds": round(seconds, 4),
            }
        )


def _evaluated(run: TrainingRun, state: TrainingState, log: TrainingLog) -> TrainingState:
    """The state with the best step so far, after the held-out figures were taken."""
    if run.evaluate is None:
        return state
    figures = run.evaluate(state.step)
    log.write({"kind": "held_out", "step": state.step, **figures})
    value = figures.get(OBJECTIVE)
    # The start is the student before training, which is no checkpoint.
    if value is None or not math.isfinite(value) or state.step == 0:
        return state
    if state.best_value is not None and value >= state.best_value:
        return state
    return replace(state, best_step=state.step, best_value=value)


def _random_states(run: TrainingRun) -> tuple[Mapping[str, Any], ...]:
    """Of all processes."""
    own = random_state(run.device)
    if run.stepper.processes.count == 1:
        return (own,)
    found: list[Any] = [None] * run.stepper.processes.count
    torch.distributed.all_gather_object(found, own)
    return tuple(found)


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _rank(run: TrainingRun) -> int:
    return run.stepper.processes.rank
