"""`suite bench learning`: whether ALM teaches what its controls do not, on the tiny recipes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from suite.distill.losses.alm import AlmConfig
from suite.distill.losses.contract import LossConfig
from suite.distill.losses.permuted import AlmPermutedConfig
from suite.distill.losses.sft import SftConfig
from suite.distill.training_log import read_log
from suite.errors import ConfigError, SuiteError
from suite.files import write_atomically
from suite.models.entry import ModelConfig
from suite.models.sources import Source
from suite.pipelines.bench.learning_table import (
    ALM,
    PERMUTED,
    SFT,
    LearningRow,
    ratios,
    render_learning,
)
from suite.pipelines.bench.record import open_folder, write_record
from suite.pipelines.hardware import describe_hardware
from suite.pipelines.plan import versions
from suite.pipelines.training import TrainedRun, TrainingOptions, train_recipe
from suite.pipelines.training_inputs import AnyRecipe
from suite.pipelines.training_recipe import TransferRecipe, load_training_recipe

RECIPES = ("bytes-tiny", "subword-tiny")
SEEDS = (0, 1, 2)


@dataclass(frozen=True, kw_only=True)
class LearningBench:
    """What is trained.

    Attributes:
        recipes: Transfers with ALM and held-out text; files, or packaged recipes by name.
        seeds: Of the runs, at least one.
    """

    recipes: tuple[str, ...] = RECIPES
    seeds: tuple[int, ...] = SEEDS

    @property
    def command(self) -> str:
        """The call that repeats it."""
        recipes = () if self.recipes == RECIPES else self.recipes
        seeds = () if self.seeds == SEEDS else self.seeds
        options = (f"--seed {seed}" for seed in seeds)
        return " ".join(["suite bench learning", *recipes, *options])


@dataclass(frozen=True)
class LearningRecord:
    """The tables in Markdown, and the files with the rows and with the tables."""

    markdown: str
    files: tuple[Path, Path]


def record_learning(
    bench: LearningBench, output: Path, say: Callable[[str], None]
) -> LearningRecord:
    """Train, and write `learning.json` and `learning.md` in a folder.

    Args:
        bench: What is trained.
        output: The folder.
        say: Called with a line at each run.

    Raises:
        SuiteError: A recipe is wrong or has nothing to compare, training failed or was stopped, or
            the folder cannot be written.
    """
    folder = open_folder(output)
    recipes = {name: _open(name) for name in bench.recipes}
    rows: list[LearningRow] = []
    for name, recipe in recipes.items():
        with tempfile.TemporaryDirectory() as work:
            rows += _measure(name, recipe, bench.seeds, _Trainer(Path(work), say))
    compared = ratios(rows)
    rows_file = write_record(folder / "learning.json", [*compared, *rows])
    provenance = {
        "Hardware": describe_hardware("cpu"),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "Repeat with": bench.command,
    }
    markdown = render_learning(rows, compared, provenance)
    write_atomically(folder / "learning.md", markdown)
    return LearningRecord(markdown, (rows_file, folder / "learning.md"))


def _open(name: str) -> TransferRecipe:
    """A recipe that can be compared.

    Raises:
        ConfigError: It cannot be read, has no ALM, or nothing held out.
    """
    recipe, _ = load_training_recipe(name, "transfer")
    assert isinstance(recipe, TransferRecipe)
    if not any(loss.name == ALM for loss in recipe.losses):
        raise ConfigError(f"recipe {name}: has no loss alm; give one that has it")
    if recipe.evaluation.data is None:
        raise ConfigError(f"recipe {name}: has no evaluation.data; give held-out text there")
    return recipe


@dataclass
class _Trainer:
    """Trains in folders below one, and says so.

    Attributes:
        work: The folder.
        say: Called with a line at each run.
    """

    work: Path
    say: Callable[[str], None]
    _console: Console = field(default_factory=lambda: Console(quiet=True))

    def train(self, recipe: AnyRecipe, name: str) -> TrainedRun:
        """Train a recipe.

        Raises:
            SuiteError: It failed or was stopped.
        """
        self.say(name)
        options = TrainingOptions(recipe, name, self.work / name.replace(" ", "-"))
        run = train_recipe(options, console=self._console)
        if run.was_interrupted:
            raise SuiteError(f"{name}: was stopped at step {run.state.step}; begin again")
        return run


def _measure(
    name: str, recipe: TransferRecipe, seeds: Sequence[int], trainer: _Trainer
) -> list[LearningRow]:
    """Every seed with every loss, from one model."""
    if recipe.first_stage is not None:
        stage = trainer.train(recipe.first_stage, f"{name}, first stage")
        source = Source(path=stage.checkpoint)
        model = ModelConfig(name="first stage", source=source, device=recipe.training.device)
        recipe = recipe.model_copy(update={"first_stage": None, "model": model})
    rows = []
    for seed in seeds:
        for arm, losses in arms(recipe.losses).items():
            run = trainer.train(_changed(recipe, losses, seed), f"{name}, seed {seed}, {arm}")
            held_out = [line for line in read_log(run.folder) if line["kind"] == "held_out"]
            rows += [_row(name, seed, arm, line) for line in held_out]
    return rows


def arms(losses: Sequence[LossConfig]) -> dict[str, tuple[LossConfig, ...]]:
    """The losses of each run: the recipe's, SFT alone, and the recipe's with permuted values.

    Args:
        losses: With ALM among them.
    """
    permuted = tuple(
        AlmPermutedConfig.model_validate(_settings(loss)) if isinstance(loss, AlmConfig) else loss
        for loss in losses
    )
    return {ALM: tuple(losses), SFT: (SftConfig(),), PERMUTED: permuted}


def _settings(loss: LossConfig) -> dict[str, Any]:
    return {name: getattr(loss, name) for name in loss.model_fields_set - {"name"}}


def _changed(recipe: TransferRecipe, losses: tuple[LossConfig, ...], seed: int) -> TransferRecipe:
    """The recipe with other losses and another seed; the text comes in that seed's order."""
    assert recipe.data is not None
    return recipe.model_copy(
        update={
            "losses": losses,
            "training": recipe.training.model_copy(update={"seed": seed}),
            "data": recipe.data.model_copy(update={"seed": seed}),
        }
    )


def _row(recipe: str, seed: int, arm: str, line: dict[str, Any]) -> LearningRow:
    names = (
        "step",
        "num_groups",
        "mean_distance",
        "rank_correlation",
        "student_bits_per_byte",
        "teacher_bits_per_byte",
    )
    return LearningRow(recipe=recipe, seed=seed, arm=arm, **{name: line[name] for name in names})
