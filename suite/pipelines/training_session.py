"""A training run put together: from inputs and models to what the loop works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch

from suite.align.documents import DocumentReader
from suite.distill.balance import fixed_weights
from suite.distill.checkpoint import load_checkpoint, save_checkpoint
from suite.distill.distribute import Distributed, distribute
from suite.distill.losses.contract import LossContext
from suite.distill.optimiser import make_optimiser
from suite.distill.settings import TrainConfig
from suite.distill.signals import Teacher
from suite.distill.snapshot import restore_tensors, take_tensors, whole_state
from suite.distill.state import DataPlace, TrainingState
from suite.distill.step import Stepper
from suite.distill.student import Student, open_student
from suite.distill.train import Evaluate, TrainingRun
from suite.models.checkpoint_folder import MODEL
from suite.models.loading import release_memory
from suite.pipelines.training_inputs import TrainingInputs
from suite.pipelines.training_models import (
    MOMENT_ROWS,
    RememberedTeacher,
    load_student,
    mean_squares,
    open_stored_teacher,
    open_teachers,
    prepare_student,
    shared_teacher,
    write_student,
)

_AUTOCAST = {"bfloat16": torch.bfloat16, "none": None}


@dataclass(frozen=True, eq=False)
class Files:
    """Where a run's files are.

    Attributes:
        run: The run's folder.
        start: The student before training.
        saved: The checkpoint to go on from; None for a new run.
    """

    run: Path
    start: Path
    saved: Path | None


@dataclass(eq=False)
class Session:
    """A run in memory.

    Attributes:
        inputs: Tokenizers and text.
        files: Where its files are.
        accelerator: The processes.
        device: Where the student is.
        student: The student.
        distributed: How the processes share it.
        teachers: Who is asked at every step; empty where no loss needs one.
        held_out_teachers: Their signals for the held-out rows.
        optimiser: AdamW.
        reader: Counts what is read.
        state: Where the run is.
    """

    inputs: TrainingInputs
    files: Files
    accelerator: Any
    device: torch.device
    student: Student
    distributed: Distributed
    teachers: tuple[Teacher, ...]
    held_out_teachers: tuple[Teacher, ...]
    optimiser: torch.optim.Optimizer
    reader: DocumentReader
    state: TrainingState = field(default_factory=TrainingState)

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return bool(self.accelerator.is_main_process)

    def stepper(self) -> Stepper:
        """What takes a step."""
        recipe = self.inputs.recipe
        training = recipe.training
        fixed = fixed_weights(recipe.losses, scale_by_temperature=training.scale_by_temperature)
        return Stepper(
            self.student,
            self.distributed.wrapped,
            self.teachers,
            self.optimiser,
            fixed if training.balance == "fixed" else None,
            training.optimiser.clipping,
            self.distributed.is_sharded,
        )

    def training_run(
        self,
        num_steps: int,
        evaluate: Evaluate | None,
        should_stop: Callable[[], bool],
        facts: Callable[[TrainingState], Mapping[str, Any]],
    ) -> TrainingRun:
        """What the loop works on.

        Args:
            num_steps: Of the whole run.
            evaluate: Held-out figures at a step.
            should_stop: Whether this process was asked to save and stop.
            facts: What a checkpoint's manifest says of it.
        """
        recipe = self.inputs.recipe
        return TrainingRun(
            stepper=self.stepper(),
            rows=self.inputs.training_rows(self.reader, is_stored=recipe.teacher_cache is not None),
            config=recipe.training,
            num_steps=num_steps,
            device=self.device,
            save=lambda state: self.save(state, facts),
            save_every=recipe.checkpoints.every,
            saves_best=recipe.checkpoints.keep_best,
            evaluate=evaluate,
            evaluate_every=recipe.evaluation.every,
            should_stop=should_stop,
        )

    def save(
        self, state: TrainingState, facts: Callable[[TrainingState], Mapping[str, Any]]
    ) -> None:
        """Write a checkpoint; every process calls it, the first one writes."""
        recipe, model = self.inputs.recipe, self.student.model
        is_sharded = self.distributed.is_sharded
        if is_sharded:
            # A pass without gradient leaves the outer parameters gathered.
            cast(Any, self.distributed.wrapped).reshard()
        if self.is_first or is_sharded:
            tensors = take_tensors(self.student, self.optimiser)
            whole = whole_state(model) if is_sharded else None
        if self.is_first:
            save_checkpoint(
                self.files.run,
                state,
                tensors,
                lambda folder: write_student(recipe, model, self.inputs.student, folder, whole),
                facts=facts(state),
                config=recipe.checkpoints,
            )
        self.accelerator.wait_for_everyone()


def open_session(
    inputs: TrainingInputs, files: Files, accelerator: Any, device: torch.device
) -> Session:
    """Load models and put everything in its place.

    Args:
        inputs: Tokenizers and text.
        files: Where the run's files are.
        accelerator: The processes.
        device: Where the student goes.

    Raises:
        SuiteError: A model cannot be loaded, a checkpoint is damaged, parts do not fit; one
            sentence.
    """
    recipe = inputs.recipe
    # Read first: a damaged checkpoint is told before minutes of loading.
    state, tensors = (TrainingState(), None)
    if files.saved is not None:
        state, tensors = load_checkpoint(files.saved)
    goes_on = files.saved is not None and recipe.train == "full"
    folder = files.saved / MODEL if files.saved is not None and goes_on else files.start
    given = inputs.teachers[0] if recipe.kind == "transfer" else recipe.student
    attention = given.attn_implementation
    model = load_student(folder, device, attn_implementation=attention)
    model = prepare_student(recipe, model, files.saved)
    size = rows_per_pass(recipe.training, accelerator.num_processes)
    teachers, held_out = _teachers(inputs, model, device, size)
    context = _context(inputs, model, teachers, size)
    student = open_student(
        model,
        inputs.student,
        recipe.losses,
        context,
        name="the student",
        packing=recipe.pack.packing,
        autocast=_AUTOCAST[recipe.training.autocast],
    )
    student.train()
    distributed = distribute(accelerator, student, recipe.training.sharding)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimiser = make_optimiser(trained, recipe.training.optimiser)
    if tensors is not None:
        restore_tensors(student, optimiser, tensors)
    return Session(
        inputs,
        files,
        accelerator,
        device,
        student,
        distributed,
        teachers,
        held_out,
        optimiser,
        inputs.document_reader(),
        state,
    )


def _teachers(
    inputs: TrainingInputs, model: Any, device: torch.device, size: int
) -> tuple[tuple[Teacher, ...], tuple[Teacher, ...]]:
    """Those that are asked at every step, and those that remember the held-out rows.

    A model that no step needs is dropped as soon as it has read the held-out rows.
    """
    recipe = inputs.recipe
    needs = any(loss.needs.teacher for loss in recipe.losses)
    rows = inputs.held_out_rows() if inputs.teachers else ()
    is_live = needs and recipe.teacher_cache is None
    live: tuple[Teacher, ...] = ()
    if inputs.teachers and (is_live or rows):
        shares = recipe.kind == "transfer" and recipe.train == "lora"
        live = (shared_teacher(inputs, model),) if shares else open_teachers(inputs, device)
    remembered = tuple(
        RememberedTeacher(teacher, number, rows, size) for number, teacher in enumerate(live)
    )
    if is_live:
        return live, remembered
    del live
    release_memory()
    return (open_stored_teacher(inputs),) if needs else (), remembered


def rows_per_pass(training: TrainConfig, num_processes: int) -> int:
    """Rows of a forward pass of one process."""
    return training.rows_per_pass or -(-training.rows_per_step // num_processes)


def _context(
    inputs: TrainingInputs, model: Any, teachers: tuple[Teacher, ...], size: int
) -> LossContext:
    """What the losses are built with."""
    channels = int(model.config.get_text_config().hidden_size)
    num_teachers = max(1, len(teachers))
    if not any(loss.needs.teacher_hidden for loss in inputs.recipe.losses):
        return LossContext(student_size=channels, num_teachers=num_teachers)
    rows = inputs.training_rows(inputs.document_reader(), is_stored=False)
    first = islice(rows.epoch_rows(DataPlace()), MOMENT_ROWS)
    mean_square = mean_squares(teachers[0], list(first), size)
    return LossContext(
        student_size=channels,
        teacher_size=len(mean_square),
        teacher_mean_square=mean_square,
        num_teachers=num_teachers,
    )
