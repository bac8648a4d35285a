"""What a run would do (`--dry-run`) and how long it would take (`--estimate`)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as ConsoleTable

from suite.config import content_hash
from suite.ensemble.config import EnsembleEntry
from suite.harness.identity import leaf_tasks
from suite.harness.tasks import TaskCatalog, TaskPlan
from suite.models.entry import ModelConfig
from suite.pipelines.backend import evaluation_settings, new_store, open_unit, set_batch_size
from suite.pipelines.members import weights_text
from suite.pipelines.plan import batch_size, check_recipe, plan_model
from suite.pipelines.ranks import Ranks
from suite.pipelines.recipe import Recipe
from suite.pipelines.run_log import noise_to
from suite.pipelines.work import Job, plan_work

UNKNOWN = "unknown (offline)"

# Items timed for each pair by an estimate: part of a batch, and quick.
ESTIMATE_ITEMS = 8


def describe(recipe: Recipe, *, confirm_unsafe_code: bool = False) -> list[ConsoleTable]:
    """Check a recipe without loading weights or data and list what it would run.

    Raises:
        SuiteError: The first thing that is wrong.
    """
    catalog = TaskCatalog(recipe.task_folders)
    tasks = check_recipe(recipe, catalog, confirm_unsafe_code=confirm_unsafe_code)
    work = plan_work(recipe, tasks, catalog)
    missing = {(absence.model, absence.label) for absence in work.absences}
    names = ("model", "source", "weights", "dtype", "batch", "tasks")
    models = ConsoleTable(*names, title=recipe.title)
    for entry in recipe.models:
        num_tasks = sum((entry.name, task.entry.label) not in missing for task in tasks)
        counted = f"{num_tasks} of {len(tasks)}"
        if isinstance(entry, EnsembleEntry):
            texts = ("ensemble", weights_text(entry), "as its members'")
        else:
            texts = (str(entry.source), _weights(entry), entry.dtype)
        models.add_row(entry.name, *texts, str(entry.batch_size), counted)
    columns = ConsoleTable(
        "task", "requests", "shots", "items", "data", title=f"Recipe {_hash(recipe)}"
    )
    for task in tasks:
        columns.add_row(
            task.entry.label, task.output_type, _shots(task), _items(task, recipe), _data(task)
        )
    return [models, columns]


def _hash(recipe: Recipe) -> str:
    return content_hash(recipe.model_dump(mode="json"))[:16]


def _weights(entry: ModelConfig) -> str:
    if entry.weights:
        return entry.weights
    if entry.source.hub is not None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(entry.source.hub, "config.json", revision=entry.revision)
        return "in the local hub cache" if isinstance(found, str) else UNKNOWN
    return "known when loaded" if entry.source.lm_eval is not None else "local"


def _shots(task: TaskPlan) -> str:
    if task.shots is not None:
        return str(task.shots)
    return "0" if task.kind == "task" else "as its members say"


def _items(task: TaskPlan, recipe: Recipe) -> str:
    limit = task.entry.limit or recipe.limit
    return f"at most {limit}" if limit else "all"


def _data(task: TaskPlan) -> str:
    files = task.local_files()
    if files:
        return ", ".join(file.name for file in files)
    return UNKNOWN


@dataclass(frozen=True)
class PairEstimate:
    """Expected seconds of scoring one pair, from a few of its items."""

    model: str
    task: str
    num_items: int
    seconds: float


def estimate(recipe: Recipe, *, confirm_unsafe_code: bool = False) -> list[PairEstimate]:
    """Time the first items of every pair and scale to all of them; writes no results.

    Weights are uniform where they would be fitted: fitting is not timed.

    Raises:
        SuiteError: Something in the recipe is wrong, or a pair cannot be scored.
    """
    catalog = TaskCatalog(recipe.task_folders)
    tasks = check_recipe(recipe, catalog, confirm_unsafe_code=confirm_unsafe_code)
    work = plan_work(recipe, tasks, catalog)
    estimates = []
    with tempfile.TemporaryDirectory() as folder, noise_to(Path(folder) / "log") as terminal:
        console = Console(file=terminal)
        for unit in work.units:
            members = [plan_model(entry, console) for entry in unit.members]
            opened = open_unit(unit, members, recipe, Ranks(0, 1))
            for job in unit.jobs:
                settings = evaluation_settings(
                    job, recipe, members, confirm_unsafe_code=confirm_unsafe_code
                )
                backend = opened.backend(job, new_store(unit))
                estimates.append(_estimate(job, backend, settings, catalog.build(job.task)))
            opened.close()
    return estimates


def _estimate(job: Job, backend: Any, settings: Any, built: list[Any]) -> PairEstimate:
    """The time of one job from its first items."""
    from suite.harness.run import evaluate

    limit = job.development.items if job.development else settings.limit
    total = _count_items(built, limit)
    timed = min(_count_items(built, ESTIMATE_ITEMS), total)
    set_batch_size(backend, batch_size(job))
    few = min(ESTIMATE_ITEMS, limit or ESTIMATE_ITEMS)
    seconds = evaluate(backend, built, replace(settings, limit=few)).seconds
    scaled = seconds * total / timed if timed else 0.0
    return PairEstimate(job.entry.name, job.label, total, scaled)


def _count_items(built: Sequence[Any], limit: int | None) -> int:
    """Items of all tasks, groups included, with at most `limit` a task."""
    sizes = [len(task.eval_docs) for task in leaf_tasks(built)]
    return sum(min(size, limit) if limit else size for size in sizes)
