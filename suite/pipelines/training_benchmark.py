"""A short benchmark of a checkpoint, in the run's own folder."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from suite.config import parse_config
from suite.pipelines.recipe import Recipe
from suite.pipelines.run_benchmark import RunOptions, run_benchmark
from suite.pipelines.training_inputs import AnyRecipe

BENCHMARK = "benchmark"


def run_short_benchmark(recipe: AnyRecipe, checkpoint: Path, run: Path, console: Console) -> None:
    """Score a checkpoint on the recipe's tasks, if it names any; finished pairs are kept.

    Args:
        recipe: For the tasks.
        checkpoint: What is scored.
        run: The run's folder; reports lie in `benchmark/` of it, one folder a checkpoint.
        console: For progress.

    Raises:
        SuiteError: No such task, or a model that cannot be scored.
    """
    benchmark = recipe.evaluation.benchmark
    if benchmark is None:
        return
    data = {
        "title": f"{recipe.title}, {checkpoint.name}",
        "models": [{"name": checkpoint.name, "source": {"path": checkpoint}}],
        "tasks": list(benchmark.tasks),
        "limit": benchmark.limit,
    }
    scored = parse_config(Recipe, data, "evaluation.benchmark")
    run_benchmark(scored, RunOptions(run / BENCHMARK / checkpoint.name), console=console)
