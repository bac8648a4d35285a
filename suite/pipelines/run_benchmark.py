"""`suite run-benchmark`: every model on every task, one pair at a time, then one table."""

from __future__ import annotations

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
from suite.errors import ConfigError, SuiteError, is_out_of_memory
from suite.harness.tasks import TaskCatalog, TaskPlan
from suite.models.entry import ModelConfig
from suite.pipelines.backend import (
    drop_backend,
    evaluation_settings,
    free_memory,
    open_backend,
    set_batch_size,
)
from suite.pipelines.benchmark_report import write_benchmark_report
from suite.pipelines.hardware import describe_hardware
from suite.pipelines.plan import ModelPlan, check_recipe, pair_identity, pair_key, plan_model
from suite.pipelines.recipe import Recipe
from suite.pipelines.run_log import noise_to
from suite.progress import RunProgress
from suite.records import Failure, ModelRow, Table
from suite.results.importer import load_results


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
    """What a run has come to so far. `keys` says which finished run each cell shows."""

    rows: list[ModelRow] = field(default_factory=list)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    num_scored: int = 0
    num_skipped: int = 0


@dataclass(frozen=True)
class _PlannedPair:
    """A task built for one model, and what the pair's result will be known by."""

    task: TaskPlan
    built: list[Any]
    identity: dict[str, Any]

    @property
    def label(self) -> str:
        return self.task.entry.label


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
        table, files = write_benchmark_report(
            recipe,
            tasks,
            outcome.rows,
            keys=outcome.keys,
            failures=outcome.failures,
            output=options.output,
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
    labels = [task.entry.label for task in tasks]
    try:
        model = plan_model(entry)
    except Exception as error:  # a broken model is its row's failure, not the run's
        outcome.rows.append(_row(entry, str(entry.source), recipe))
        progress.pair += len(labels)
        _fail(entry, labels, error, context)
        return
    outcome.rows.append(_row(entry, model.weights, recipe))
    pending = _unfinished_pairs(model, tasks, recipe, context)
    if not pending:
        progress.line(f"{entry.name}: nothing left to score")
        return
    try:
        progress.begin(entry.name, "loading the model")
        backend = open_backend(model, recipe)
    except Exception as error:
        progress.pair += len(pending)
        _fail(entry, [pair.label for pair in pending], error, context)
        return
    for pair in pending:
        progress.pair += 1
        progress.begin(entry.name, pair.label)
        try:
            seconds = _score_pair(backend, model, pair, recipe, context)
        except Exception as error:  # whatever one pair does, the rest goes on
            # The reason of an out-of-memory failure names the batch size that was really used.
            used = entry.model_copy(update={"batch_size": pair.identity["model"]["batch_size"]})
            _fail(used, [pair.label], error, context)
        else:
            outcome.num_scored += 1
            outcome.keys[entry.name, pair.label] = pair_key(pair.identity)
            progress.line(f"{entry.name} · {pair.label}: done in {seconds:.0f} s")
    drop_backend(backend)


def _unfinished_pairs(
    model: ModelPlan, tasks: Sequence[TaskPlan], recipe: Recipe, context: _Context
) -> list[_PlannedPair]:
    """Build a model's tasks and leave out those whose identical run is on disk already."""
    entry, outcome = model.entry, context.outcome
    finished = set() if context.options.fresh else _finished_keys(context.options.output)
    pending = []
    for task in tasks:
        label = task.entry.label
        context.progress.begin(entry.name, f"{label}: reading its data")
        try:
            built = context.catalog.build(task)
            identity = pair_identity(model, task, built, recipe)
        except Exception as error:  # data that cannot be read is its cell's failure
            context.progress.pair += 1
            _fail(entry, [label], error, context)
            continue
        key = pair_key(identity)
        if key in finished:
            outcome.keys[entry.name, label] = key
            outcome.num_skipped += 1
            context.progress.pair += 1
        else:
            pending.append(_PlannedPair(task, built, identity))
    return pending


def _score_pair(
    backend: Any, model: ModelPlan, pair: _PlannedPair, recipe: Recipe, context: _Context
) -> float:
    """Evaluate one pair and write it; returns the seconds lm-eval took."""
    from suite.harness.run import evaluate, write_evaluation

    set_batch_size(backend, pair.identity["model"]["batch_size"])
    unsafe = context.options.confirm_unsafe_code
    evaluation = evaluate(
        backend,
        pair.built,
        evaluation_settings(model.entry, pair.task, recipe, confirm_unsafe_code=unsafe),
        on_start=context.progress.expect,
        on_answer=context.progress.advance,
    )
    facts = {
        "model": model.entry.name,
        "label": pair.label,
        "task": pair.task.entry.task,
        "key": pair_key(pair.identity),
        "identity": pair.identity,
        "weights": model.weights,
        "seconds": evaluation.seconds,
        "num_truncated": evaluation.num_truncated,
        "num_boundary_moves": evaluation.num_boundary_moves,
        "hardware": describe_hardware(model.placement.device if model.placement else "cpu"),
        "suite_version": suite.__version__,
    }
    write_evaluation(evaluation, context.options.output / _safe(model.entry.name), facts)
    return evaluation.seconds


def _row(entry: ModelConfig, weights: str, recipe: Recipe) -> ModelRow:
    return ModelRow(entry.name, weights, is_reference=entry.name == recipe.reference)


def _finished_keys(output: Path) -> set[str]:
    return {run.key for run in load_results(output)}


def _fail(entry: ModelConfig, labels: Sequence[str], error: Exception, context: _Context) -> None:
    """Record failed pairs, tell the user the reason once, and keep the traceback in the log."""
    reason = _reason(error, entry)
    context.outcome.failures.extend(Failure(entry.name, label, reason) for label in labels)
    print("".join(traceback.format_exception(error)))  # standard output is the log here
    what = labels[0] if len(labels) == 1 else f"{len(labels)} tasks"
    context.progress.line(f"{entry.name} · {what}: failed: {reason}")
    free_memory()


def _reason(error: Exception, entry: ModelConfig) -> str:
    """Why a pair failed, in one sentence."""
    if isinstance(error, SuiteError):
        return str(error)
    if is_out_of_memory(error):
        return f"out of memory at batch_size {entry.batch_size}; lower batch_size or max_length"
    text = str(error).strip()
    first_line = text.splitlines()[0] if text else "no message"
    return f"{type(error).__name__}: {first_line} (traceback in run.log)"


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder), (folder / "run.log").open("a"):
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


def _safe(name: str) -> str:
    """A model's name as a folder name."""
    return "".join(c if c.isalnum() or c in "-_.+" else "_" for c in name).strip(".") or "model"
