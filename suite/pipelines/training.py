"""`suite transfer` and `suite distill`: from a recipe to a trained student."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from suite.distill.checkpoint import load_checkpoint, load_state
from suite.distill.distribute import open_accelerator
from suite.distill.state import TrainingState
from suite.distill.train import train
from suite.distill.training_log import TrainingLog
from suite.errors import SuiteError, is_out_of_memory
from suite.models.checkpoint_folder import list_checkpoints, step_folder
from suite.models.entry import ModelConfig
from suite.models.loading import pick_device, release_memory
from suite.models.sources import Source
from suite.pipelines.ranks import Ranks
from suite.pipelines.recipe_changes import resolved
from suite.pipelines.stop_request import StopRequest
from suite.pipelines.training_benchmark import run_short_benchmark
from suite.pipelines.training_checks import check_before_training
from suite.pipelines.training_estimate import measure_steps
from suite.pipelines.training_evaluation import HeldOut
from suite.pipelines.training_facts import (
    checkpoint_facts,
    describe_run,
    reading_notes,
    run_facts,
)
from suite.pipelines.training_folder import (
    FIRST_STAGE,
    begin,
    check_text,
    holding,
    is_finished,
    starting_point,
)
from suite.pipelines.training_inputs import AnyRecipe, TrainingInputs, open_training
from suite.pipelines.training_recipe import TransferRecipe
from suite.pipelines.training_session import Files, Session, open_session, rows_per_pass
from suite.pipelines.training_start import keep_start, make_start
from suite.pipelines.training_text import training_text

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
    console = console or Console(stderr=True, quiet=not Ranks.of_environment().is_first)
    with StopRequest() as stop:
        check_before_training(options.recipe)
        if options.resume and options.checkpoint is None and not list_checkpoints(options.output):
            _say(console, f"no checkpoint in {options.output} yet: starting at step 0")
        return _train_stages(options, stop, console)


def _train_stages(options: TrainingOptions, stop: StopRequest, console: Console) -> TrainedRun:
    """Train a recipe behind its first stage, if it has one."""
    recipe, run = options.recipe, options.output.absolute()
    trackers = recipe.training.trackers
    accelerator = open_accelerator(pick_device(recipe.training.device), trackers, run)
    is_first = bool(accelerator.is_main_process)
    console = console if is_first else Console(quiet=True)
    saved = starting_point(recipe, run, resume=options.resume, checkpoint=options.checkpoint)
    with holding(run, is_first):
        if is_first:
            begin(run, resolved(recipe), is_new=saved is None)
        if saved is not None and is_finished(saved):
            return _finished(recipe, run, saved, console)
        stage = _first_stage(options, run, stop, console)
        if stage is not None and (stage.was_interrupted or stop.is_set):
            return replace(stage, folder=run, was_interrupted=True)
        with _memory_named(recipe, accelerator.num_processes):
            session, notes = _opened(recipe, stage, run, saved, accelerator, console)
            trained = _train(session, options, stop, console)
            if not trained.was_interrupted:
                trained = _scored(trained, recipe, console)
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
        title = f"{recipe.first_stage.title}; the second stage is not counted"
        return (("of the first stage", title), *estimate_training(stage, console=console))
    check_before_training(recipe)
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
    if saved is not None:
        check_text(inputs.corpus, saved)
    with accelerator.main_process_first():
        files = Files(run, _start(inputs, run, console), saved)
    _say(console, "loading the models")
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

    def save(state: TrainingState) -> None:
        if stop.is_set:
            _say(log.console, f"stopping: saving step {state.step}")
        session.save(state, facts)

    training = replace(training, save=save)
    with log, stop.training():
        state = train(training, session.state, log)
    for tracker in accelerator.trackers:
        tracker.finish()
    was_interrupted = state.step < num_steps
    return TrainedRun(
        run,
        step_folder(run, state.step),
        state,
        run_facts(session.inputs, state, num_steps),
        reading_notes(session.reader),
        was_interrupted,
    )


def _finished(recipe: AnyRecipe, run: Path, checkpoint: Path, console: Console) -> TrainedRun:
    """A run whose last step was taken before; of a benchmark, what is left is scored."""
    # Damage is told all the same.
    state, _ = load_checkpoint(checkpoint)
    facts = (("recipe", recipe.title), ("steps", f"already finished at step {state.step:,}"))
    return _scored(TrainedRun(run, checkpoint, state, facts), recipe, console)


def _scored(trained: TrainedRun, recipe: AnyRecipe, console: Console) -> TrainedRun:
    """The run with its short benchmark, whose failure leaves the run as it is."""
    facts, notes = run_short_benchmark(recipe, trained.checkpoint, trained.folder, console)
    return replace(trained, facts=(*trained.facts, *facts), notes=(*trained.notes, *notes))


def _first_stage(
    options: TrainingOptions, run: Path, stop: StopRequest, console: Console
) -> TrainedRun | None:
    """The run of the recipe's first stage, made or gone on with; None where it has none."""
    stage = options.recipe.first_stage
    if stage is None:
        return None
    folder = run / FIRST_STAGE
    newest = starting_point(stage, folder, resume=True)
    if newest is not None and is_finished(newest):
        return TrainedRun(folder, newest, load_state(newest))
    _say(console, f"first stage: {stage.title}")
    wanted = TrainingOptions(stage, f"{options.name}, first stage", folder, resume=True)
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
    _say(console, "counting the rows of the text")
    rows = inputs.training_rows(
        inputs.document_reader(), is_stored=inputs.recipe.teacher_cache is not None
    )
    return rows.num_steps(training.epochs, training.rows_per_step)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


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
