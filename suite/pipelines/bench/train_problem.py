"""What `suite bench train` trains: one batch of a transfer, and the ways to take a step on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from suite.config import parse_config
from suite.distill.balance import fixed_weights
from suite.distill.losses.alm import AlmConfig
from suite.distill.losses.contract import LossConfig, LossContext
from suite.distill.losses.sft import SftConfig
from suite.distill.optimiser import make_optimiser
from suite.distill.passes import Pass, make_passes
from suite.distill.signals import Teacher
from suite.distill.state import DataPlace
from suite.distill.step import Stepper
from suite.distill.student import open_student
from suite.errors import ConfigError
from suite.pipelines.cache_inputs import CacheTeacherOptions
from suite.pipelines.cache_teacher import cache_teacher
from suite.pipelines.training_inputs import TrainingInputs, open_training
from suite.pipelines.training_models import load_student, open_stored_teacher, open_teachers
from suite.pipelines.training_recipe import TransferRecipe
from suite.pipelines.transplant import transplanted_folder

Way = Literal["sft", "stored", "live", "teacher"]
WAYS: tuple[Way, ...] = ("sft", "stored", "live", "teacher")

# Enough of the packaged text for a step of the usual size; storing signals of it takes seconds.
_NUM_DOCUMENTS = 4


@dataclass(frozen=True)
class TrainProblem:
    """One batch of a transfer.

    Attributes:
        model: The teacher, as a source; the student is the same with other embeddings.
        target: The model that owns the student's tokenizer.
        num_rows: Rows of the batch.
        length: Teacher tokens a row.
        device: Where models run.
    """

    model: str
    target: str
    num_rows: int
    length: int
    device: str

    def recipe(self, cache: Path) -> TransferRecipe:
        """The transfer; `cache` is the folder of stored signals.

        Raises:
            ConfigError: A source is none.
        """
        data = {
            "kind": "transfer",
            "title": "bench",
            "model": {"name": "teacher", "source": self.model, "device": self.device},
            "target_tokenizer": self.target,
            "data": {"packaged": "python-docs", "shuffle": False, "limit": _NUM_DOCUMENTS},
            "pack": {"length": self.length},
            "teacher_cache": cache,
            "losses": [{"name": "alm"}],
            "training": {"steps": 1, "rows_per_step": self.num_rows, "device": self.device},
        }
        return parse_config(TransferRecipe, data, "suite bench train")


class TrainTask:
    """The batch, and models as far as they are asked for; each is loaded once.

    Ways are: `sft`, a step on cross-entropy; `stored` and `live`, a step on ALM with a teacher's
    stored signals or with the teacher itself; `teacher`, its forward pass alone.

    Attributes:
        inputs: Tokenizers and text.
        batch: The batch.
    """

    def __init__(self, problem: TrainProblem, cache: Path) -> None:
        """Open tokenizers and make the batch; no weights are loaded.

        Args:
            problem: What is trained.
            cache: The folder of stored signals, from `store_signals`.

        Raises:
            ConfigError: The text does not suffice.
            SuiteError: A tokenizer cannot be had.
        """
        self._recipe = problem.recipe(cache)
        self._device = torch.device(problem.device)
        self.inputs: TrainingInputs = _inputs(self._recipe)
        reader = self.inputs.document_reader()
        rows = self.inputs.training_rows(reader, is_stored=True)
        step = next(rows.steps(DataPlace(), problem.num_rows))
        if len(step.rows) < problem.num_rows:
            raise ConfigError(
                f"--rows is {problem.num_rows}, but the text has {len(step.rows)} rows of"
                f" {problem.length} tokens; give less"
            )
        (self.batch,) = make_passes(step, problem.num_rows, self._device)
        self._student: tuple[Any, torch.optim.Optimizer] | None = None
        self._live: Sequence[Teacher] = ()

    def open(self, way: Way) -> Callable[[], object]:
        """Load what a way needs; returns what takes the step."""
        teachers = self.teachers(way)
        if way == "teacher":
            side, numbers = self.batch.batch.teacher, self.batch.row_numbers
            return lambda: teachers[0].signal(side, numbers)
        return self._step(SftConfig() if way == "sft" else AlmConfig(), teachers)

    def teachers(self, way: Way) -> Sequence[Teacher]:
        """Who is asked in a step."""
        if way == "sft":
            return ()
        if way == "stored":
            return (open_stored_teacher(self.inputs),)
        self._live = self._live or open_teachers(self.inputs, self._device)
        return self._live

    def student(self) -> tuple[Any, torch.optim.Optimizer]:
        """One student and one optimiser for all ways."""
        if self._student is None:
            assert self._recipe.model is not None
            source = self._recipe.transplant_source(self._recipe.model.source)
            folder = transplanted_folder(source, Console(quiet=True))
            model = load_student(folder, self._device)
            optimiser = make_optimiser(model.parameters(), self._recipe.training.optimiser)
            self._student = model, optimiser
        return self._student

    def _step(self, loss: LossConfig, teachers: Sequence[Teacher]) -> Callable[[], object]:
        model, optimiser = self.student()
        recipe = self._recipe
        student = open_student(
            model,
            self.inputs.student,
            (loss,),
            LossContext(student_size=model.config.get_text_config().hidden_size),
            name="the student",
            packing=recipe.pack.packing,
            autocast=torch.bfloat16,
        )
        student.train()
        weights = fixed_weights((loss,), scale_by_temperature=True)
        clipping = recipe.training.optimiser.clipping
        stepper = Stepper(student, student, teachers, optimiser, weights, clipping)
        passes: list[Pass] = [self.batch]
        return lambda: stepper.step(passes, recipe.training.optimiser.learning_rate)


def store_signals(problem: TrainProblem, cache: Path) -> None:
    """Store what the teacher says about the problem's text.

    Raises:
        SuiteError: It cannot be loaded, or the folder cannot be written.
    """
    recipe = problem.recipe(cache)
    assert recipe.model is not None
    assert recipe.data is not None
    options = CacheTeacherOptions(
        teacher=recipe.model,
        data=recipe.data,
        pack=recipe.pack,
        output=cache,
        student=problem.target,
    )
    cache_teacher(options, console=Console(quiet=True))


def _inputs(recipe: TransferRecipe) -> TrainingInputs:
    assert recipe.model is not None
    assert recipe.data is not None
    return open_training(recipe, recipe.data, (recipe.model,))
