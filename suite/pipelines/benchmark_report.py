"""From the runs on disk that a recipe asked for to its report."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import suite
from suite.config import content_hash
from suite.harness.tasks import TaskPlan
from suite.pipelines.plan import versions
from suite.pipelines.recipe import Recipe
from suite.records import Failure, ModelRow, RunRecord, Sample, Table
from suite.report.tables import ColumnSpec, build_table
from suite.report.write import write_report
from suite.results.importer import load_results, read_samples


def write_benchmark_report(
    recipe: Recipe,
    tasks: Sequence[TaskPlan],
    models: Sequence[ModelRow],
    *,
    keys: dict[tuple[str, str], str],
    failures: Sequence[Failure],
    output: Path,
) -> tuple[Table, tuple[Path, ...]]:
    """Build the table of a recipe from finished runs and write it in every format.

    `keys` maps (model, column) to the key of the run that the cell shows.

    Raises:
        SuiteError: A results file cannot be read, or the folder cannot be written.
    """
    runs = _current_runs(output, keys)
    table = _table(recipe, tasks, models, runs, failures)
    files = write_report(
        table,
        _samples(table, runs, recipe.samples_shown),
        failures,
        [str(Path(run.file).relative_to(output)) for run in runs],
        output,
    )
    return table, files


def _current_runs(output: Path, keys: dict[tuple[str, str], str]) -> list[RunRecord]:
    """The newest finished run of each cell, under the names this recipe gives it."""
    newest = {run.key: run for run in load_results(output)}
    return [replace(newest[key], model=model, label=label) for (model, label), key in keys.items()]


def _samples(table: Table, runs: Sequence[RunRecord], shown: int) -> list[Sample]:
    """The first items of each cell, as answered under the filter that the cell shows."""
    filters = {column.label: column.filter for column in table.columns}
    return [s for run in runs for s in read_samples(run, filters[run.label], limit=shown)]


def _table(
    recipe: Recipe,
    tasks: Sequence[TaskPlan],
    models: Sequence[ModelRow],
    runs: Sequence[RunRecord],
    failures: Sequence[Failure],
) -> Table:
    columns = [ColumnSpec(t.entry.label, t.entry.task, t.entry.metric) for t in tasks]
    table = build_table(
        title=recipe.title,
        models=models,
        columns_spec=columns,
        runs=runs,
        failures=failures,
        provenance=_provenance(recipe, runs),
    )
    most = f"Limit: at most the first {recipe.limit} items of each task."
    limit = (most,) if recipe.limit else ()
    return replace(table, notes=(*recipe.notes, *limit, *table.notes))


def _provenance(recipe: Recipe, runs: Sequence[RunRecord]) -> dict[str, str]:
    """What is needed to repeat the table, one line a heading."""
    seeds = ", ".join(f"{name} {seed}" for name, seed in recipe.seeds.model_dump().items())
    found = versions() | {"alm-suite": suite.__version__, "Python": platform.python_version()}
    hardware = sorted({run.hardware for run in runs})
    protocols = {
        "lm-eval": "lm-eval (prompt and continuation encoded together)",
        "paper": "paper (prompt and continuation encoded apart, 2,048 tokens)",
    }
    return {
        "Protocol": protocols[recipe.protocol],
        "Seeds": seeds,
        "Versions": ", ".join(f"{name} {version}" for name, version in found.items()),
        "Recipe hash": content_hash(recipe.model_dump(mode="json"))[:16],
        "Hardware": "; ".join(hardware) or "unknown",
        "Time": f"{sum(run.seconds for run in runs):.0f} s of scoring in {len(runs)} runs",
    }
