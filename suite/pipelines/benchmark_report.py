"""From the runs on disk that a recipe asked for to its report."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import suite
from suite.config import content_hash
from suite.pipelines.ensemble_rows import derive_rows, fitted_weights, meaning_of
from suite.pipelines.plan import versions
from suite.pipelines.recipe import Recipe
from suite.pipelines.session import Outcome
from suite.pipelines.work import Work
from suite.records import Failure, ModelRow, RunRecord, Sample, Table
from suite.report.evidence import gather_evidence
from suite.report.pairs import EvidenceOptions
from suite.report.paper_rows import with_evidence
from suite.report.tables import ColumnSpec, build_table
from suite.report.write import write_report
from suite.results.importer import load_results, read_samples, scored
from suite.results.scored import Scored


def write_benchmark_report(
    recipe: Recipe,
    work: Work,
    models: Sequence[ModelRow],
    *,
    outcome: Outcome,
    output: Path,
) -> tuple[Table, tuple[Path, ...], tuple[Failure, ...]]:
    """Build the table of a recipe from finished runs and write it in every format.

    Returns:
        The table, the files, and all failures, those of rows from samples among them.

    Raises:
        SuiteError: A results file cannot be read, or the folder cannot be written.
    """
    runs = _current_runs(output, outcome.keys)
    derived = derive_rows(recipe, work, runs, outcome)
    failures = (*outcome.failures, *derived.failures)
    labels = {task.entry.label for task in work.tasks}
    names = {entry.name for entry in recipe.models}
    shown = [run for (name, label), run in runs.items() if name in names and label in labels]
    table = build_table(
        title=recipe.title,
        models=models,
        columns_spec=[ColumnSpec(t.entry.label, t.entry.task, t.entry.metric) for t in work.tasks],
        runs=[*shown, *derived.runs],
        failures=failures,
        absences=[*work.absences, *derived.absences],
        provenance=_provenance(recipe, list(runs.values())),
    )
    evidence = gather_evidence(
        _scored([*shown, *derived.runs], table), models, table.columns, EvidenceOptions()
    )
    table = with_evidence(table, evidence, keep_deltas=True)
    table = replace(table, notes=(*_notes(recipe, work, runs), *derived.all_notes(), *table.notes))
    files = write_report(
        table,
        _samples(table, shown, recipe.samples_shown),
        failures,
        [str(Path(file).relative_to(output)) for file in _files(runs.values())],
        output,
    )
    return table, files, failures


def _scored(runs: Sequence[RunRecord], table: Table) -> dict[tuple[str, str], Scored]:
    """Every cell's run with its items, under the metric and filter that its column shows."""
    shown = {column.label: f"{column.metric},{column.filter}" for column in table.columns}
    found = ((run, scored(run, shown[run.label])) for run in runs)
    return {(run.model, run.label): one for run, one in found if one is not None}


def _current_runs(
    output: Path, keys: dict[tuple[str, str], str]
) -> dict[tuple[str, str], RunRecord]:
    """The newest finished run of each row and label, under the names this recipe gives it."""
    newest = {run.key: run for run in load_results(output)}
    return {
        (model, label): replace(newest[key], model=model, label=label)
        for (model, label), key in keys.items()
    }


def _files(runs: Iterable[RunRecord]) -> list[str]:
    """The results files of runs, each once."""
    return list(dict.fromkeys(run.file for run in runs if run.file is not None))


def _samples(table: Table, runs: Sequence[RunRecord], shown: int) -> list[Sample]:
    """The first items of each cell, as answered under the filter that the cell shows."""
    filters = {column.label: column.filter for column in table.columns}
    return [s for run in runs for s in read_samples(run, filters[run.label], limit=shown)]


def _notes(recipe: Recipe, work: Work, runs: dict[tuple[str, str], RunRecord]) -> tuple[str, ...]:
    """What must be said of the whole table beside the recipe's own notes."""
    most = f"Limit: at most the first {recipe.limit} items of each task."
    labels = [task.entry.label for task in work.tasks]
    return (
        *recipe.notes,
        *((most,) if recipe.limit else ()),
        *meaning_of(recipe),
        *fitted_weights(recipe, runs, labels),
    )


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
