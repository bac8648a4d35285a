"""What a run has to score: which row on which task, grouped by the models it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from suite.config import content_hash
from suite.ensemble.config import DEVELOPED, LIKELIHOOD_ONLY, Development, EnsembleEntry
from suite.harness.definitions import read_definition
from suite.harness.tasks import TaskCatalog, TaskPlan
from suite.models.entry import ModelConfig
from suite.pipelines.members import member_entries
from suite.pipelines.recipe import Recipe
from suite.records import Absence

NOT_ASKED_FOR = "not asked for"
LIKELIHOODS_ONLY = "word_mixture gives likelihoods, it cannot generate"


@dataclass(frozen=True, eq=False)
class Job:
    """One row on one task: one evaluation of lm-eval.

    With `development` the task's development items are scored instead of its own, to choose among
    members by; the table does not show them.
    """

    entry: ModelConfig | EnsembleEntry
    task: TaskPlan
    development: Development | None = None

    @property
    def label(self) -> str:
        """The column, or what stands for one where there is none."""
        label = self.task.entry.label
        dev = self.development
        return label if dev is None else f"{label}, {dev.items} {dev.split} items"


@dataclass(frozen=True, eq=False)
class Unit:
    """Jobs for the same models in memory: those of one model, or of ensembles of the same members.

    Jobs of one task stand together, so that ensembles can share their members' passes over it.
    """

    members: tuple[ModelConfig, ...]
    jobs: tuple[Job, ...]


@dataclass(frozen=True, eq=False)
class Work:
    """All units of a recipe on its tasks, and the pairs that its rows do not have.

    `num_derived` pairs follow from the samples of others.
    """

    tasks: tuple[TaskPlan, ...]
    units: tuple[Unit, ...]
    absences: tuple[Absence, ...]
    num_derived: int

    @property
    def num_jobs(self) -> int:
        """How many evaluations there are."""
        return sum(len(unit.jobs) for unit in self.units)


def plan_work(recipe: Recipe, tasks: Sequence[TaskPlan], catalog: TaskCatalog) -> Work:
    """Every job of a recipe: single models in its order, then the ensembles by their members."""
    asked: dict[str, list[TaskPlan]] = {}
    absences: list[Absence] = []
    for entry in recipe.models:
        asked[entry.name] = []
        for task in tasks:
            reason = _why_not(entry, task, catalog)
            if reason is None:
                asked[entry.name].append(task)
            else:
                absences.append(Absence(entry.name, task.entry.label, reason))
    planned = _Planned(tasks)
    for entry in recipe.single_models:
        planned.add((entry,), [Job(entry, task) for task in asked[entry.name]])
    for ensemble in recipe.ensembles:
        members = member_entries(ensemble, recipe.models)
        if ensemble.ensemble.is_from_samples:
            for member in members:
                planned.add((member,), _jobs_of_member(member, ensemble, recipe, tasks, asked))
        else:
            planned.add(members, [Job(ensemble, task) for task in asked[ensemble.name]])
    derived = [entry.name for entry in recipe.ensembles if entry.ensemble.is_from_samples]
    num_derived = sum(len(asked[name]) for name in derived)
    return Work(tuple(tasks), planned.units(), tuple(absences), num_derived)


class _Planned:
    """Jobs by the models they need; a job that several rows need is planned once."""

    def __init__(self, tasks: Sequence[TaskPlan]) -> None:
        self.order = [task.entry.label for task in tasks]
        self.members: dict[str, tuple[ModelConfig, ...]] = {}
        self.jobs: dict[str, dict[tuple[str, str], Job]] = {}

    def add(self, members: tuple[ModelConfig, ...], jobs: Sequence[Job]) -> None:
        key = content_hash([member.model_dump(mode="json") for member in members])
        self.members[key] = members
        found = self.jobs.setdefault(key, {})
        for job in jobs:
            found.setdefault((job.entry.name, job.label), job)

    def units(self) -> tuple[Unit, ...]:
        return tuple(
            Unit(self.members[key], tuple(sorted(jobs.values(), key=self._position)))
            for key, jobs in self.jobs.items()
            if jobs
        )

    def _position(self, job: Job) -> int:
        return self.order.index(job.task.entry.label)


def development_of(
    ensemble: EnsembleEntry, task: TaskPlan, tasks: Sequence[TaskPlan]
) -> tuple[TaskPlan, Development] | None:
    """Where a row that chooses among members has its development items for a task, if it does."""
    config = ensemble.ensemble
    if config.combine not in DEVELOPED:
        return None
    by_label = {plan.entry.label: plan for plan in tasks}
    named = config.development.task
    return by_label[named] if named else task, config.development


def _jobs_of_member(
    member: ModelConfig,
    ensemble: EnsembleEntry,
    recipe: Recipe,
    tasks: Sequence[TaskPlan],
    asked: dict[str, list[TaskPlan]],
) -> list[Job]:
    """Development items of a member of a row from samples; all its tasks where it is no row."""
    jobs = []
    is_row = member in recipe.models
    for task in asked[ensemble.name]:
        if not is_row:
            jobs.append(Job(member, task))
        elif task not in asked[member.name]:
            continue
        development = development_of(ensemble, task, tasks)
        if development is not None:
            jobs.append(Job(member, *development))
    return jobs


def _why_not(
    entry: ModelConfig | EnsembleEntry, task: TaskPlan, catalog: TaskCatalog
) -> str | None:
    """Why a row is not scored on a task, None where it is."""
    if isinstance(entry.tasks, tuple) and task.entry.label not in entry.tasks:
        return NOT_ASKED_FOR
    is_limited = isinstance(entry, EnsembleEntry) and entry.ensemble.combine in LIKELIHOOD_ONLY
    if (is_limited or entry.tasks == "likelihood") and not _only_likelihoods(task, catalog):
        return LIKELIHOODS_ONLY if is_limited else NOT_ASKED_FOR
    return None


_LIKELIHOODS = frozenset({"loglikelihood", "loglikelihood_rolling", "multiple_choice"})


def _only_likelihoods(task: TaskPlan, catalog: TaskCatalog) -> bool:
    """Whether no text is generated for a task, nor for any below it where it is a group."""
    types = {task.output_type} if task.kind == "task" else _types_below(task.entry.task, catalog)
    return types <= _LIKELIHOODS


def _types_below(name: str, catalog: TaskCatalog) -> set[str]:
    found = catalog.manager_for(name).task_index[name]
    if found.kind.name == "TAG":
        names = tuple(found.tags)
    else:
        definition = read_definition(found.yaml_path) if found.yaml_path else None
        if definition is None:
            return {"unknown"}
        if found.kind.name != "GROUP":
            return {definition.output_type}
        names = definition.members
    return set().union(*(_types_below(inner, catalog) for inner in names))
