"""A student's and a teacher's choices on the same items, from the runs of a benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from suite.errors import ConfigError, RecordError
from suite.pipelines.plan import ModelPlan
from suite.records import Estimate, RunRecord
from suite.report.fidelity_record import OwnFigures, Role, TaskFidelity, TeacherFigures
from suite.results.choices import Choices, read_choices
from suite.results.importer import load_results
from suite.results.item_scores import ItemScores
from suite.stats.agreement import label_loyalty, probability_loyalty
from suite.stats.calibration import brier_score, expected_calibration_error
from suite.stats.intervals import wilson_interval
from suite.stats.option_probabilities import option_probabilities
from suite.stats.rank_correlation import mean_over_strata, mean_within_items
from suite.stats.recovered import gap_recovered
from suite.stats.resamples import resample_counts

Floats = NDArray[np.float64]
ALL_TASKS = "all tasks"


@dataclass(frozen=True)
class TaskRuns:
    """The runs of one task, by role."""

    label: str
    runs: Mapping[Role, RunRecord]


@dataclass(frozen=True)
class ComparedTasks:
    """What was measured, and what was left out."""

    overall: TaskFidelity
    tasks: tuple[TaskFidelity, ...]
    notes: tuple[str, ...]


def find_runs(
    folder: Path, plans: Mapping[Role, ModelPlan], labels: Sequence[str], limit: int | None
) -> tuple[TaskRuns, ...]:
    """The newest runs of these models, with this limit, below a folder.

    They are found by what was scored and not by name, because two roles may be one model.

    Raises:
        RecordError: A results file is damaged, or one is missing.
    """
    newest: dict[tuple[Role, str], RunRecord] = {}
    wanted = {role: json.loads(json.dumps(plan.identity)) for role, plan in plans.items()}
    for run in load_results(folder):
        scored = run.identity.get("model", {})
        for role, identity in wanted.items():
            if run.identity.get("limit") == limit and identity.items() <= scored.items():
                newest[role, run.label] = run
    for role in plans:
        for label in labels:
            if (role, label) not in newest:
                raise RecordError(
                    f"{folder}: has no run of {role} on {label}; run the command again"
                )
    return tuple(TaskRuns(label, {role: newest[role, label] for role in plans}) for label in labels)


def compare_tasks(tasks: Sequence[TaskRuns]) -> ComparedTasks:
    """All figures, task by task and together.

    Raises:
        ConfigError: No task has options.
        RecordError: A samples file is damaged.
    """
    read, notes = [], []
    for task in tasks:
        found = _read(task)
        if found is None:
            notes.append(f"{task.label} is left out: its items have no options to compare.")
        else:
            read.append(found)
            notes += found.notes
    if not read:
        raise ConfigError(
            f"--task {tasks[0].label}: its items have no options to compare; give a task with"
            " multiple choice"
        )
    whole = _joined(read)
    return ComparedTasks(
        overall=_figures(whole, read),
        tasks=tuple(_figures(task, [task]) for task in read),
        notes=tuple(notes),
    )


@dataclass(frozen=True, eq=False)
class _Answers:
    """The items of a task that all models have.

    Attributes:
        label: Of the task.
        correct: int64 [n], the right option, -1 where it is not known.
        scores: By role, one array of log-likelihoods an item.
        notes: What was left out, one sentence each.
    """

    label: str
    correct: NDArray[np.int64]
    scores: Mapping[Role, list[Floats]]
    notes: tuple[str, ...] = ()


def _read(task: TaskRuns) -> _Answers | None:
    """The items of a task; None if they have no options."""
    found: dict[Role, Choices] = {}
    for role, run in task.runs.items():
        choices = read_choices(run, run.task.scores[0].filter)
        if choices is None:
            return None
        found[role] = choices
    shared = found["teacher"].keys
    for choices in found.values():
        shared = np.intersect1d(shared, choices.keys, assume_unique=True)
    index = {role: np.searchsorted(own.keys, shared).tolist() for role, own in found.items()}
    return _Answers(
        label=task.label,
        correct=found["teacher"].correct[index["teacher"]],
        scores={role: [own.log_likelihoods[i] for i in index[role]] for role, own in found.items()},
        notes=tuple(
            f"{task.label}: {own.num_unusable} of the items of {role} have no finite likelihoods"
            " and are left out."
            for role, own in found.items()
            if own.num_unusable
        ),
    )


def _joined(tasks: Sequence[_Answers]) -> _Answers:
    roles = tasks[0].scores
    return _Answers(
        label=ALL_TASKS,
        correct=np.concatenate([task.correct for task in tasks]),
        scores={role: [item for task in tasks for item in task.scores[role]] for role in roles},
    )


def _figures(task: _Answers, strata: Sequence[_Answers]) -> TaskFidelity:
    """The figures of a task; `strata` are the tasks it was joined from, or itself."""
    teacher = task.scores["teacher"]
    versus: dict[Role, TeacherFigures] = {
        role: TeacherFigures(
            agreement=label_loyalty(teacher, scores),
            option_correlation=mean_within_items(teacher, scores),
            margin_correlation=mean_over_strata([_margins(one, role) for one in strata]),
            probability_loyalty=probability_loyalty(teacher, scores),
            recovered=_recovered(task) if role == "student" else None,
        )
        for role, scores in task.scores.items()
        if role != "teacher"
    }
    own = {role: _own(scores, task.correct) for role, scores in task.scores.items()}
    return TaskFidelity(task.label, len(task.correct), own, versus)


def _own(scores: Sequence[Floats], correct: NDArray[np.int64]) -> OwnFigures:
    known = np.flatnonzero(correct >= 0)
    probabilities = option_probabilities([scores[place] for place in known.tolist()])
    confidence = np.array([options.max() for options in probabilities])
    is_right = _is_right(scores, correct)[known]
    return OwnFigures(
        accuracy=wilson_interval(int(is_right.sum()), len(known)),
        calibration_error=expected_calibration_error(confidence, is_right),
        brier_score=brier_score(scores, correct),
    )


def _is_right(scores: Sequence[Floats], correct: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[n], whether the most probable option is the right one."""
    chosen = np.array([int(item.argmax()) for item in scores], dtype=np.int64)
    return np.asarray(chosen == correct)


def _margins(task: _Answers, role: Role) -> tuple[Floats, Floats]:
    """The teacher's and a model's margins of the right option over the best other one."""
    places = [
        (place, int(right))
        for place, right in enumerate(task.correct)
        if right >= 0 and len(task.scores["teacher"][place]) > 1
    ]

    def margins(scores: Sequence[Floats]) -> Floats:
        found = [
            scores[place][right] - np.delete(scores[place], right).max() for place, right in places
        ]
        return np.array(found, dtype=np.float64)

    return margins(task.scores["teacher"]), margins(task.scores[role])


def _recovered(task: _Answers) -> Estimate | None:
    """The share of the gap in accuracy that training closed; None without the model before it."""
    if "before" not in task.scores:
        return None
    known = np.flatnonzero(task.correct >= 0)
    keys = np.array([f"{place:09d}".encode() for place in known])
    items = {
        role: ItemScores(
            keys=keys,
            values=_is_right(scores, task.correct)[known].astype(np.float64),
            aggregation="mean",
            higher_is_better=True,
            strata=np.zeros(len(known), np.int64),
            stratum_weights=np.ones(1),
        )
        for role, scores in task.scores.items()
    }
    counts = resample_counts(max(1, len(known)))
    return gap_recovered(items["student"], items["teacher"], items["before"], counts)
