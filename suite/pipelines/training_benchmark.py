"""A short benchmark of a checkpoint, in the run's own folder."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from suite.config import parse_config
from suite.errors import ConfigError, SuiteError
from suite.harness.tasks import TaskCatalog
from suite.pipelines.recipe import Recipe
from suite.pipelines.run_benchmark import RunOptions, run_benchmark
from suite.pipelines.training_inputs import AnyRecipe

BENCHMARK = "benchmark"
_KEY = "evaluation.benchmark"

Facts = tuple[tuple[str, str], ...]


def check_short_benchmark(recipe: AnyRecipe) -> None:
    """Check the tasks of a recipe's benchmark, if it has one, before anything is trained.

    Args:
        recipe: For the tasks.

    Raises:
        ConfigError: No such task, or it cannot be scored.
    """
    scored = _recipe_of(recipe, Path("student"))
    if scored is None:
        return
    catalog = TaskCatalog(scored.task_folders)
    for entry in scored.tasks:
        try:
            catalog.plan(entry)
        except SuiteError as error:
            raise ConfigError(f"{_KEY}: {error}") from error


def run_short_benchmark(
    recipe: AnyRecipe, checkpoint: Path, run: Path, console: Console
) -> tuple[Facts, tuple[str, ...]]:
    """Score a checkpoint on the recipe's tasks, if it names any; finished pairs are kept.

    Args:
        recipe: For the tasks.
        checkpoint: What is scored.
        run: The run's folder; reports lie in `benchmark/` of it, one folder a checkpoint.
        console: For progress.

    Returns:
        Where the report lies, and a sentence for each thing that could not be scored: what was
        trained is good without it.
    """
    scored = _recipe_of(recipe, checkpoint)
    if scored is None:
        return (), ()
    folder = run / BENCHMARK / checkpoint.name
    try:
        result = run_benchmark(scored, RunOptions(folder), console=console)
    except SuiteError as error:
        return (), (f"the benchmark of {checkpoint.name} failed: {error}",)
    failures = (f"the benchmark failed on {one.label}: {one.reason}" for one in result.failures)
    return (("benchmark", str(folder)),), tuple(failures)


def _recipe_of(recipe: AnyRecipe, checkpoint: Path) -> Recipe | None:
    benchmark = recipe.evaluation.benchmark
    if benchmark is None:
        return None
    data = {
        "title": f"{recipe.title}, {checkpoint.name}",
        "models": [{"name": checkpoint.name, "source": {"path": checkpoint}}],
        "tasks": list(benchmark.tasks),
        "limit": benchmark.limit,
    }
    return parse_config(Recipe, data, _KEY)
