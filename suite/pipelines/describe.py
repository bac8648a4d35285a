"""What a run would do (`--dry-run`) and how long it would take (`--estimate`)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as ConsoleTable

from suite.config import content_hash
from suite.ensemble.config import EnsembleEntry
from suite.harness.identity import leaf_tasks
from suite.harness.tasks import TaskCatalog, TaskPlan
from suite.models.entry import ModelConfig
from suite.models.sources import Source
from suite.pipelines.backend import evaluation_settings, new_store, open_unit, set_batch_size
from suite.pipelines.development import (
    NoDevelopmentItemsError,
    development_view,
    items_per_task,
)
from suite.pipelines.members import weights_text
from suite.pipelines.plan import batch_size, check_recipe, plan_model
from suite.pipelines.ranks import Ranks
from suite.pipelines.recipe import Recipe
from suite.pipelines.run_log import noise_to
from suite.pipelines.work import Job, Work, plan_work

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
    return [models, columns, *_development_runs(work)]


def _development_runs(work: Work) -> list[ConsoleTable]:
    """What is scored only to choose among members by, if anything."""
    jobs = [job for unit in work.units for job in unit.jobs if job.development is not None]
    members: dict[str, list[str]] = {}
    for job in jobs:
        members.setdefault(job.label, []).append(job.entry.name)
    if not members:
        return []
    table = ConsoleTable("items", "models", title="Development items, to choose among members")
    for label, names in members.items():
        table.add_row(label, ", ".join(names))
    return [table]


def _hash(recipe: Recipe) -> str:
    return content_hash(recipe.model_dump(mode="json"))[:16]


def _weights(entry: ModelConfig) -> str:
    if entry.weights:
        return entry.weights
    transplant = entry.source.transplant
    if transplant is None:
        return _place(entry.source, entry.revision)
    parts = [part for part in (transplant.model, transplant.tokenizer) if part != "bytes"]
    return "made of: " + ", ".join(dict.fromkeys(_place(part) for part in parts))


def _place(source: Source, revision: str | None = None) -> str:
    if source.hub is not None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(source.hub, "config.json", revision=revision)
        return "in the local hub cache" if isinstance(found, str) else UNKNOWN
    return "known when loaded" if source.lm_eval is not None else "local"


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
    ranks = Ranks.of_environment()
    catalog = TaskCatalog(recipe.task_folders)
    tasks = check_recipe(recipe, catalog, confirm_unsafe_code=confirm_unsafe_code)
    work = plan_work(recipe, tasks, catalog)
    estimates = []
    with tempfile.TemporaryDirectory() as folder, noise_to(Path(folder) / "log") as terminal:
        console = Console(file=terminal)
        for unit in work.units:
            members = [plan_model(entry, console) for entry in unit.members]
            opened = open_unit(unit, members, recipe, ranks)
            for _, jobs in groupby(unit.jobs, key=lambda job: job.task.entry.label):
                # As in a run, rules share the members' passes over a task.
                store = new_store(unit)
                for job in jobs:
                    settings = evaluation_settings(
                        job, recipe, members, confirm_unsafe_code=confirm_unsafe_code
                    )
                    with suppress(NoDevelopmentItemsError):
                        built = _build(job, catalog)
                        backend = opened.backend(job, store)
                        estimates.append(_estimate(job, backend, settings, built))
            opened.close()
    return estimates


def _build(job: Job, catalog: TaskCatalog) -> list[Any]:
    """The task of a job, on the split that it is scored on."""
    built = catalog.build(job.task)
    if job.development is None:
        return built
    return development_view(built, job.task, job.development)


def _estimate(job: Job, backend: Any, settings: Any, built: list[Any]) -> PairEstimate:
    """The time of one job from its first items."""
    from suite.harness.run import evaluate

    limit = settings.limit
    if job.development is not None:
        limit = items_per_task(built, job.development.items)
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
