"""`suite transfer` and `suite distill`: from a recipe to a trained student."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from suite.distill.checkpoint import list_checkpoints, load_state
from suite.distill.distribute import open_accelerator
from suite.distill.state import TrainingState
from suite.distill.train import train
from suite.distill.training_log import TrainingLog
from suite.errors import CheckpointError, ConfigError, SuiteError, is_out_of_memory
from suite.files import write_atomically
from suite.models.checkpoint_folder import CHECKPOINTS, step_folder
from suite.models.checkpoint_folder import checkpoint_facts as checkpoint_facts_of
from suite.models.disk_errors import disk_reason
from suite.models.entry import ModelConfig
from suite.models.loading import pick_device, release_memory
from suite.models.sources import Source
from suite.pipelines.cache_inputs import only_run_in
from suite.pipelines.recipe_changes import changed_keys, describe_change, resolved
from suite.pipelines.stop_request import StopRequest
from suite.pipelines.training_benchmark import run_short_benchmark
from suite.pipelines.training_estimate import measure_steps
from suite.pipelines.training_evaluation import HeldOut
from suite.pipelines.training_facts import (
    checkpoint_facts,
    describe_run,
    reading_notes,
    run_facts,
)
from suite.pipelines.training_inputs import AnyRecipe, TrainingInputs, open_training
from suite.pipelines.training_recipe import TransferRecipe
from suite.pipelines.training_session import Files, Session, open_session, rows_per_pass
from suite.pipelines.training_start import START, keep_start, make_start
from suite.pipelines.training_text import training_text

RECIPE_NAME = "recipe.json"
FIRST_STAGE = "first_stage"

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TrainingOptions:
    """What to train, and where.

    Attributes:
        recipe: What to train.
        name: The recipe's short name.
        output: The run's folder.
        resume: Go on from the newest checkpoint in it.
        checkpoint: Go on from this one instead.
    """

    recipe: AnyRecipe
    name: str
    output: Path
    resume: bool = False
    checkpoint: Path | None = None


@dataclass(frozen=True)
class TrainedRun:
    """A run that ended, or was asked to stop.

    Attributes:
        folder: The run's.
        checkpoint: Its newest checkpoint.
        state: Where it is.
        facts: Labels and values.
        notes: What a user should know; a sentence each.
        was_interrupted: It has not reached its last step.
    """

    folder: Path
    checkpoint: Path
    state: TrainingState
    facts: Facts = ()
    notes: tuple[str, ...] = ()
    was_interrupted: bool = False


def train_recipe(options: TrainingOptions, *, console: Console | None = None) -> TrainedRun:
    """Train a recipe's student; what is saved is kept whatever happens.

    Args:
        options: What to train, and where.
        console: For progress; None for standard error.

    Raises:
        SuiteError: One sentence.
        KeyboardInterrupt: It was told to stop where there was nothing to save.
    """
    with StopRequest() as stop:
        return _train_stages(options, stop, console or Console(stderr=True))


def _train_stages(options: TrainingOptions, stop: StopRequest, console: Console) -> TrainedRun:
    """Train a recipe behind its first stage, if it has one."""
    recipe, run = options.recipe, options.output.absolute()
    trackers = recipe.training.trackers
    accelerator = open_accelerator(pick_device(recipe.training.device), trackers, run)
    is_first = bool(accelerator.is_main_process)
    console = console if is_first else Console(quiet=True)
    saved = _starting_point(options, run)
    with _holding(run, is_first):
        if is_first:
            _begin(run, resolved(recipe), is_new=saved is None)
        stage = _first_stage(options, run, stop, console)
        if stage is not None and (stage.was_interrupted or stop.is_set):
            return replace(stage, folder=run, was_interrupted=True)
        with _memory_named(recipe, accelerator.num_processes):
            session, notes = _opened(recipe, stage, run, saved, accelerator, console)
            trained = _train(session, options, stop, console)
        return replace(trained, notes=(*notes, *trained.notes))


def estimate_training(options: TrainingOptions, *, console: Console | None = None) -> Facts:
    """Time a few steps of a recipe, and tell what all of it will cost; nothing is kept.

    A recipe with a first stage is estimated by that stage: the rest needs what it makes.

    Args:
        options: What would be trained.
        console: For progress; None for standard error.

    Raises:
        SuiteError: One sentence.
    """
    recipe = options.recipe
    console = console or Console(stderr=True)
    if recipe.first_stage is not None:
        stage = replace(options, recipe=recipe.first_stage)
        return (("of the first stage", recipe.first_stage.title), *estimate_training(stage))
    accelerator = open_accelerator(pick_device(recipe.training.device))
    with tempfile.TemporaryDirectory() as folder, _memory_named(recipe, 1):
        run = Path(folder)
        session, _ = _opened(recipe, None, run, None, accelerator, console)
        num_steps = _num_steps(session.inputs, console)
        described = session.training_run(num_steps, None, lambda: False, lambda state: {})
        return measure_steps(session, described)


def _opened(
    recipe: AnyRecipe,
    stage: TrainedRun | None,
    run: Path,
    saved: Path | None,
    accelerator: Any,
    console: Console,
) -> tuple[Session, tuple[str, ...]]:
    """A run in memory, and what a user should know of its text."""
    teachers = _teachers(recipe, stage)
    device = torch.device(pick_device(recipe.training.device))
    if accelerator.num_processes > 1:
        device = accelerator.device
    data, notes = training_text(recipe, teachers, device, accelerator, console)
    inputs = open_training(recipe, data, teachers)
    with accelerator.main_process_first():
        files = Files(run, _start(inputs, run, console), saved)
    return open_session(inputs, files, accelerator, device), notes


def _train(
    session: Session, options: TrainingOptions, stop: StopRequest, console: Console
) -> TrainedRun:
    """Train an opened session to its end."""
    recipe, run = session.inputs.recipe, session.files.run
    num_steps = _num_steps(session.inputs, console)
    held_out = HeldOut(session) if recipe.evaluation.data is not None else None

    def evaluate(step: int) -> Mapping[str, Any]:
        assert held_out is not None
        found = held_out(step)
        held_out.tell(log.console)
        return found

    described = describe_run(session.inputs, options.name) if session.is_first else {}

    def facts(state: TrainingState) -> dict[str, Any]:
        figures = held_out.figures if held_out is not None else {}
        return checkpoint_facts(described, state, figures, is_last=state.step == num_steps)

    accelerator = session.accelerator
    if recipe.training.trackers:
        accelerator.init_trackers(options.name)
    track = accelerator.log if recipe.training.trackers else None
    folder = run if session.is_first else None
    log = TrainingLog(folder, console, num_steps, from_step=session.state.step, track=track)
    training = session.training_run(
        num_steps, evaluate if held_out else None, lambda: stop.is_set, facts
    )
    with log, stop.training():
        state = train(training, session.state, log)
    for tracker in accelerator.trackers:
        tracker.finish()
    checkpoint = step_folder(run, state.step)
    was_interrupted = state.step < num_steps
    if not was_interrupted:
        run_short_benchmark(recipe, checkpoint, run, console)
    return TrainedRun(
        run,
        checkpoint,
        state,
        run_facts(session.inputs, state, num_steps),
        reading_notes(session.reader),
        was_interrupted,
    )


def _starting_point(options: TrainingOptions, run: Path) -> Path | None:
    """The checkpoint to go on from; None for a new run.

    Raises:
        ConfigError: The folder holds a run and nobody said to go on, there is nothing to go on
            from, or the recipe is another one.
    """
    found = list_checkpoints(run)
    goes_on = options.resume or options.checkpoint is not None
    before = run / RECIPE_NAME
    if before.is_file() and goes_on:
        begun = json.loads(before.read_text(encoding="utf-8"))
        changes = changed_keys(begun, resolved(options.recipe))
        if changes:
            raise ConfigError(describe_change(run, changes))
    if options.checkpoint is not None:
        wanted = options.checkpoint.absolute()
        if wanted.parent.parent != run:
            raise ConfigError(
                f"--checkpoint {options.checkpoint} is no checkpoint of {run}; give a folder of"
                f" {run / CHECKPOINTS}"
            )
        return wanted
    if found and not goes_on:
        raise ConfigError(
            f"{run} holds a run that is saved up to step {found[-1].step}; give --resume to go on,"
            " or another --output"
        )
    return found[-1].folder if found else None


def _begin(run: Path, recipe: Mapping[str, Any], *, is_new: bool) -> None:
    """Write the recipe of a run beside it; a start that was made by another one goes.

    Raises:
        CheckpointError: The folder cannot be written.
    """
    path = run / RECIPE_NAME
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else recipe
    if is_new and changed_keys(before, recipe):
        shutil.rmtree(run / START, ignore_errors=True)
    try:
        write_atomically(path, json.dumps(recipe, indent=1) + "\n")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({disk_reason(error)})") from error


def _first_stage(
    options: TrainingOptions, run: Path, stop: StopRequest, console: Console
) -> TrainedRun | None:
    """The run of the recipe's first stage, made or gone on with; None where it has none."""
    stage = options.recipe.first_stage
    if stage is None:
        return None
    folder = run / FIRST_STAGE
    wanted = TrainingOptions(stage, f"{options.name}, first stage", folder, resume=True)
    newest = _starting_point(wanted, folder)
    if newest is not None and checkpoint_facts_of(newest).get("is_last"):
        return TrainedRun(folder, newest, load_state(newest))
    console.print(f"first stage: {stage.title}", markup=False, highlight=False)
    made = _train_stages(wanted, stop, console)
    release_memory()
    return made


def _teachers(recipe: AnyRecipe, stage: TrainedRun | None) -> tuple[ModelConfig, ...]:
    """Who teaches: of a transfer the model itself."""
    if stage is not None:
        source = Source(path=stage.checkpoint)
        return (ModelConfig(name="first stage", source=source, device=recipe.training.device),)
    if isinstance(recipe, TransferRecipe):
        assert recipe.model is not None
        return (recipe.model,)
    return recipe.teachers


def _start(inputs: TrainingInputs, run: Path, console: Console) -> Path:
    """The folder with the student before training."""
    recipe = inputs.recipe
    if isinstance(recipe, TransferRecipe):
        return make_start(recipe, inputs.teachers[0], run, console)
    return keep_start(inputs, run)


def _num_steps(inputs: TrainingInputs, console: Console) -> int:
    """Steps of the whole run; epochs are counted by reading them."""
    training = inputs.recipe.training
    if training.steps is not None:
        return training.steps
    assert training.epochs is not None
    console.print("counting the rows of the text", markup=False, highlight=False)
    rows = inputs.training_rows(
        inputs.document_reader(), is_stored=inputs.recipe.teacher_cache is not None
    )
    return rows.num_steps(training.epochs, training.rows_per_step)


@contextmanager
def _holding(run: Path, is_first: bool) -> Iterator[None]:
    """The run's folder locked by its first process."""
    if not is_first:
        yield
        return
    with only_run_in(run):
        yield


@contextmanager
def _memory_named(recipe: AnyRecipe, num_processes: int) -> Iterator[None]:
    """Says what to change where memory does not suffice.

    Raises:
        SuiteError: In place of what PyTorch raises.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        size = rows_per_pass(recipe.training, num_processes)
        raise SuiteError(
            f"out of memory with {size} rows of {recipe.pack.length} tokens in a pass; set"
            " training.rows_per_pass lower, or training.gradient_checkpointing: true"
        ) from error
