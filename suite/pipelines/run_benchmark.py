"""`suite run-benchmark`: every model on every task, one pair at a time, then one table."""

from __future__ import annotations

import platform
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

import suite
from suite.config import content_hash
from suite.errors import ConfigError, SuiteError
from suite.harness.tasks import TaskCatalog, TaskPlan
from suite.models.entry import ModelConfig
from suite.pipelines.hardware import describe_hardware
from suite.pipelines.plan import (
    ModelPlan,
    check_recipe,
    pair_identity,
    pair_key,
    plan_model,
    versions,
)
from suite.pipelines.recipe import Recipe
from suite.pipelines.run_log import noise_to
from suite.progress import RunProgress
from suite.records import Failure, ModelRow, RunRecord, Sample, Table
from suite.report.tables import ColumnSpec, build_table
from suite.report.write import write_report
from suite.results.importer import load_results, read_samples


@dataclass(frozen=True)
class RunOptions:
    """What differs from call to call. `fresh` scores pairs again that are already finished."""

    output: Path
    fresh: bool = False
    confirm_unsafe_code: bool = False


@dataclass(frozen=True)
class BenchmarkResult:
    """The table, the pairs that failed, and the files written."""

    table: Table
    failures: tuple[Failure, ...]
    files: tuple[Path, ...]
    num_scored: int
    num_skipped: int


@dataclass
class _Outcome:
    """What a run has come to so far."""

    rows: list[ModelRow] = field(default_factory=list)
    keys: dict[str, None] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    num_scored: int = 0
    num_skipped: int = 0


def run_benchmark(
    recipe: Recipe, options: RunOptions, *, console: Console | None = None
) -> BenchmarkResult:
    """Score all pairs that are not finished, write the report, and return it.

    A pair that fails is reported and leaves the others alone. After a kill, the same call goes on
    with the pairs that are left.

    Raises:
        SuiteError: Recipe, models or tasks are wrong, or the output folder cannot be used; nothing
            was scored.
    """
    catalog = TaskCatalog(recipe.task_folders)
    tasks = check_recipe(recipe, catalog, confirm_unsafe_code=options.confirm_unsafe_code)
    _check_writable(options.output)
    with ExitStack() as stack:
        stack.enter_context(_OnlyRunIn(options.output))
        terminal = stack.enter_context(noise_to(options.output / "run.log"))
        num_pairs = len(recipe.models) * len(tasks)
        progress = RunProgress(console or Console(file=terminal), num_pairs)
        stack.enter_context(progress)
        outcome = _Outcome()
        for entry in recipe.models:
            _score_model(entry, tasks, recipe, _Context(catalog, options, progress, outcome))
        runs = _current_runs(options.output, outcome.keys)
        table = _table(recipe, tasks, outcome, runs)
        files = write_report(
            table,
            _samples(runs, recipe.samples_shown),
            outcome.failures,
            [str(Path(run.file).relative_to(options.output)) for run in runs],
            options.output,
        )
    return BenchmarkResult(
        table, tuple(outcome.failures), files, outcome.num_scored, outcome.num_skipped
    )


@dataclass(frozen=True)
class _Context:
    """The parts that every step of one run shares."""

    catalog: TaskCatalog
    options: RunOptions
    progress: RunProgress
    outcome: _Outcome


def _score_model(
    entry: ModelConfig, tasks: Sequence[TaskPlan], recipe: Recipe, context: _Context
) -> None:
    """Score one model's unfinished pairs; its weights are loaded only if there are any."""
    progress, outcome = context.progress, context.outcome
    progress.begin(entry.name, "finding the model")
    try:
        model = plan_model(entry)
    except Exception as error:  # a broken model is its row's failure, not the run's
        _fail_all(entry, [task.entry.label for task in tasks], error, context)
        outcome.rows.append(_row(entry, str(entry.source), recipe))
        return
    outcome.rows.append(_row(entry, model.weights, recipe))
    identities = {task.entry.label: pair_identity(model, task, recipe) for task in tasks}
    keys = {label: pair_key(identity) for label, identity in identities.items()}
    finished = set() if context.options.fresh else _finished_keys(context.options.output)
    pending = [task for task in tasks if keys[task.entry.label] not in finished]
    outcome.keys.update(dict.fromkeys(keys.values()))
    outcome.num_skipped += len(tasks) - len(pending)
    progress.pair += len(tasks) - len(pending)
    if not pending:
        progress.line(f"{entry.name}: all {len(tasks)} tasks finished before")
        return
    try:
        progress.begin(entry.name, "loading the model")
        backend = open_backend(model, recipe)
    except Exception as error:
        _fail_all(entry, [task.entry.label for task in pending], error, context)
        return
    for task in pending:
        label = task.entry.label
        progress.pair += 1
        progress.begin(entry.name, label)
        try:
            seconds = _score_pair(backend, model, task, recipe, identities[label], context)
        except Exception as error:  # whatever one pair does, the rest goes on
            _fail(entry, label, error, context)
        else:
            outcome.num_scored += 1
            progress.line(f"{entry.name} · {label}: done in {seconds:.0f} s")
    _drop(backend)


def open_backend(model: ModelPlan, recipe: Recipe) -> Any:
    """Load a planned model behind lm-eval's interface.

    Raises:
        SuiteError: It cannot be loaded.
    """
    from suite.harness.backends import HfBackend
    from suite.harness.run import open_upstream_backend
    from suite.models.loading import load_model

    entry = model.entry
    if entry.source.lm_eval is not None:
        upstream = entry.source.lm_eval
        return open_upstream_backend(upstream.model, upstream.args, entry.batch_size)
    assert model.resolved is not None
    assert model.placement is not None
    loaded = load_model(entry, model.resolved, model.placement)
    backend = HfBackend(
        loaded.model,
        loaded.tokenizer,
        batch_size=entry.batch_size,
        max_length=entry.max_length,
        protocol=recipe.protocol,
        enable_thinking=entry.chat.enable_thinking,
        strip_reasoning=entry.chat.strip_reasoning,
    )
    backend.facts = {
        "name": entry.name,
        "pretrained": str(entry.source),
        "weights": model.weights,
        "dtype": model.placement.dtype,
        "protocol": recipe.protocol,
    }
    return backend


def _score_pair(
    backend: Any,
    model: ModelPlan,
    task: TaskPlan,
    recipe: Recipe,
    identity: dict[str, Any],
    context: _Context,
) -> float:
    """Evaluate one pair and write it; returns the seconds lm-eval took."""
    from suite.harness.run import EvaluationSettings, evaluate, write_evaluation

    settings = EvaluationSettings(
        limit=identity["limit"],
        seeds=recipe.seeds,
        chat=model.entry.chat,
        protocol=recipe.protocol,
        confirm_unsafe_code=context.options.confirm_unsafe_code,
    )
    built = context.catalog.build(task)
    evaluation = evaluate(
        backend,
        built,
        settings,
        on_start=context.progress.expect,
        on_answer=context.progress.advance,
    )
    facts = {
        "model": model.entry.name,
        "label": task.entry.label,
        "task": task.entry.task,
        "key": pair_key(identity),
        "identity": identity,
        "weights": model.weights,
        "seconds": evaluation.seconds,
        "num_truncated": evaluation.num_truncated,
        "num_boundary_moves": evaluation.num_boundary_moves,
        "hardware": describe_hardware(model.placement.device if model.placement else "cpu"),
        "suite_version": suite.__version__,
    }
    write_evaluation(evaluation, context.options.output / _safe(model.entry.name), facts)
    return evaluation.seconds


def _table(
    recipe: Recipe, tasks: Sequence[TaskPlan], outcome: _Outcome, runs: Sequence[RunRecord]
) -> Table:
    columns = [ColumnSpec(t.entry.label, t.entry.task, t.entry.metric) for t in tasks]
    table = build_table(
        title=recipe.title,
        models=outcome.rows,
        columns_spec=columns,
        runs=runs,
        failures=outcome.failures,
        provenance=_provenance(recipe, runs),
    )
    limit = (f"Limit: the first {recipe.limit} items of each task.",) if recipe.limit else ()
    return Table(
        title=table.title,
        columns=table.columns,
        rows=table.rows,
        average_columns=table.average_columns,
        notes=(*recipe.notes, *limit, *table.notes),
        provenance=table.provenance,
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


def _row(entry: ModelConfig, weights: str, recipe: Recipe) -> ModelRow:
    return ModelRow(entry.name, weights, is_reference=entry.name == recipe.reference)


def _current_runs(output: Path, keys: dict[str, None]) -> list[RunRecord]:
    """The newest finished run of each pair of this recipe."""
    newest = {run.key: run for run in load_results(output)}
    return [newest[key] for key in keys if key in newest]


def _finished_keys(output: Path) -> set[str]:
    return {run.key for run in load_results(output)}


def _samples(runs: Sequence[RunRecord], shown: int) -> list[Sample]:
    return [sample for run in runs for sample in read_samples(run, limit=shown)]


def _fail_all(
    entry: ModelConfig, labels: Sequence[str], error: Exception, context: _Context
) -> None:
    for label in labels:
        context.progress.pair += 1
        _fail(entry, label, error, context, quiet=label != labels[0])


def _fail(
    entry: ModelConfig, label: str, error: Exception, context: _Context, *, quiet: bool = False
) -> None:
    """Record a failed pair, tell the user its reason, and keep the traceback in the log."""
    reason = _reason(error, entry)
    context.outcome.failures.append(Failure(entry.name, label, reason))
    if not quiet:
        print("".join(traceback.format_exception(error)))  # standard output is the log here
        context.progress.line(f"{entry.name} · {label}: failed: {reason}")


def _reason(error: Exception, entry: ModelConfig) -> str:
    """Why a pair failed, in one sentence."""
    if isinstance(error, SuiteError):
        return str(error)
    text = str(error).strip()
    lowered = text.lower()
    if isinstance(error, MemoryError) or "out of memory" in lowered or "allocate memory" in lowered:
        return f"out of memory at batch_size {entry.batch_size}; lower batch_size or max_length"
    first_line = text.splitlines()[0] if text else "no message"
    return f"{type(error).__name__}: {first_line} (traceback in run.log)"


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot write to {folder} ({reason}); give another --output") from error


class _OnlyRunIn:
    """Holds a folder's lock, so that two runs never write one report."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = FileLock(folder / ".lock")

    def __enter__(self) -> None:
        try:
            self.lock.acquire(timeout=0)
        except Timeout as error:
            raise SuiteError(
                f"another run is writing to {self.folder}; wait for it or give another --output"
            ) from error

    def __exit__(self, *details: object) -> None:
        self.lock.release()


def _drop(backend: Any) -> None:
    """Free a model's memory before the next one is loaded."""
    from suite.models.loading import release_memory

    for name in ("_model", "model"):
        backend.__dict__.pop(name, None)
    release_memory()


def _safe(name: str) -> str:
    """A model's name as a folder name."""
    return "".join(c if c.isalnum() or c in "-_.+" else "_" for c in name).strip(".") or "model"
