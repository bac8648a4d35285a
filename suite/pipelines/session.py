"""What all steps of one benchmark run share, and what it has come to so far."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from suite.ensemble.config import Development
from suite.errors import SuiteError, is_out_of_memory
from suite.harness.identity import leaf_tasks, task_identity
from suite.harness.tasks import TaskCatalog, TaskPlan
from suite.models.entry import ModelConfig
from suite.pipelines.backend import free_memory
from suite.pipelines.development import NoDevelopmentItemsError, check_apart, development_view
from suite.pipelines.plan import ModelPlan, batch_size, plan_model
from suite.pipelines.ranks import Ranks
from suite.pipelines.recipe import Recipe
from suite.pipelines.work import Job
from suite.progress import RunProgress
from suite.records import Absence, Failure

FoundT = TypeVar("FoundT")


@dataclass(frozen=True)
class RunOptions:
    """What differs from call to call. `fresh` scores pairs again that are already finished.

    `jobs` pairs are scored at once, each by a process of its own.
    """

    output: Path
    fresh: bool = False
    confirm_unsafe_code: bool = False
    jobs: int = 1


@dataclass
class Outcome:
    """What a run has come to so far. `keys` says which finished run a row and label shows.

    `lacks` are jobs on development items that a task does not have.
    """

    keys: dict[tuple[str, str], str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    lacks: list[Absence] = field(default_factory=list)
    num_scored: int = 0
    num_skipped: int = 0


@dataclass(frozen=True, eq=False)
class BuiltTask:
    """What lm-eval made of a task, and the identity of it."""

    built: list[Any]
    identity: dict[str, Any]

    @property
    def generates(self) -> bool:
        """Whether texts are generated for any of its tasks."""
        return any(task.OUTPUT_TYPE == "generate_until" for task in leaf_tasks(self.built))


@dataclass(eq=False)
class Session:
    """The parts of one run; models are found and tasks are built once.

    `finished` are keys of finished runs. `claim` tells whether a job is this process's to score.
    """

    recipe: Recipe
    tasks: Sequence[TaskPlan]
    catalog: TaskCatalog
    options: RunOptions
    progress: RunProgress
    ranks: Ranks
    finished: set[str]
    outcome: Outcome = field(default_factory=Outcome)
    claim: Callable[[Job], bool] = lambda job: True
    _plans: dict[str, ModelPlan | Exception] = field(default_factory=dict)
    _tasks: dict[tuple[str, Development | None], BuiltTask | Exception] = field(
        default_factory=dict
    )

    def plan(self, entry: ModelConfig) -> ModelPlan:
        """A model's files and fingerprints.

        Raises:
            Exception: They cannot be had; the same each time.
        """
        key = entry.model_dump_json()
        if key not in self._plans:
            self.progress.begin(entry.name, "finding the model")
            try:
                self._plans[key] = plan_model(entry, self.progress.console)
            except Exception as error:  # a broken model is its rows' failure, not the run's
                self._plans[key] = error
        return _or_raise(self._plans[key])

    def build(self, task: TaskPlan, development: Development | None = None) -> BuiltTask:
        """A task with its data, or the view of it on its development items.

        Raises:
            Exception: It cannot be built; the same each time.
        """
        key = (task.entry.label, development)
        if key not in self._tasks:
            try:
                self._tasks[key] = self._build(task, development)
            except Exception as error:  # data that cannot be read is its cells' failure
                self._tasks[key] = error
        return _or_raise(self._tasks[key])

    def _build(self, task: TaskPlan, development: Development | None) -> BuiltTask:
        built = self.catalog.build(task)
        if development is not None:
            built = development_view(built, task, development)
        return BuiltTask(built, task_identity(built))

    def build_apart(self, task: TaskPlan, scored: TaskPlan, development: Development) -> BuiltTask:
        """Development items of `task` of which none is among the items of `scored`.

        Raises:
            HarnessError: There are no such items, or some are scored.
        """
        view = self.build(task, development)
        check_apart(view.built, self.build(scored).built, task.entry.label, development)
        return view

    def skip(self, job: Job, key: str) -> None:
        """Note that a job was finished before."""
        self.outcome.keys[job.entry.name, job.label] = key
        self.outcome.num_skipped += 1
        self.progress.pair += 1

    def finish(self, job: Job, key: str, seconds: float) -> None:
        """Note that a job is finished."""
        self.finished.add(key)
        self.outcome.keys[job.entry.name, job.label] = key
        self.outcome.num_scored += 1
        self.progress.line(f"{job.entry.name} · {job.label}: done in {seconds:.0f} s")

    def lack(self, job: Job, error: NoDevelopmentItemsError) -> None:
        """Note that a job's task has no such items, or that an ensemble's has none to fit to."""
        if job.development is None:
            self.fail([job], error)
        else:
            self.outcome.lacks.append(Absence(job.entry.name, job.label, str(error)))

    def fail(self, jobs: Sequence[Job], error: Exception, prefix: str = "") -> None:
        """Record failed jobs, tell the user the reason once, and keep the traceback in the log."""
        for job in jobs:
            reason = prefix + _reason(error, job)
            self.outcome.failures.append(Failure(job.entry.name, job.label, reason))
        print("".join(traceback.format_exception(error)))  # standard output is the log here
        for name in dict.fromkeys(job.entry.name for job in jobs):
            labels = [job.label for job in jobs if job.entry.name == name]
            what = labels[0] if len(labels) == 1 else f"{len(labels)} tasks"
            self.progress.line(f"{name} · {what}: failed: {prefix}{_reason(error, jobs[0])}")
        free_memory()


def _reason(error: Exception, job: Job) -> str:
    """Why a pair failed, in one sentence."""
    if isinstance(error, SuiteError):
        return str(error)
    if is_out_of_memory(error):
        return f"out of memory at batch_size {batch_size(job)}; lower batch_size or max_length"
    text = str(error).strip()
    first_line = text.splitlines()[0] if text else "no message"
    return f"{type(error).__name__}: {first_line} (traceback in run.log)"


def _or_raise(found: FoundT | Exception) -> FoundT:
    if isinstance(found, Exception):
        raise found
    return found
