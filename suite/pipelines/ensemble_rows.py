"""Rows that follow from their members' scored items: votes, ceilings and the best member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from suite.ensemble.config import EnsembleEntry, FittedWeights
from suite.errors import RecordError
from suite.harness.tasks import TaskPlan
from suite.models.entry import ModelConfig
from suite.pipelines.members import member_entries
from suite.pipelines.recipe import Recipe
from suite.pipelines.session import Outcome
from suite.pipelines.work import Job, Work, development_of
from suite.records import Absence, Failure, MetricScore, RunRecord
from suite.report.tables import metric_name, pick_score
from suite.results.derived import (
    NotDerivableError,
    any_member_correct,
    check_is_mean,
    majority_vote,
    mean_score,
    ranked,
)
from suite.results.importer import read_items

Runs = Mapping[tuple[str, str], RunRecord]


@dataclass
class DerivedRows:
    """What came of rows from samples: scores, pairs without one, and what must be said of them."""

    runs: list[RunRecord] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    chosen: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def all_notes(self) -> tuple[str, ...]:
        """Which member each choosing row took on which tasks, and what else must be said."""
        choices = (
            f"{row}: " + "; ".join(f"{name} on {', '.join(on)}" for name, on in members.items())
            for row, members in self.chosen.items()
        )
        return (*choices, *self.notes)


@dataclass(frozen=True, eq=False)
class _Cell:
    """One row from samples on one task, with its members and their runs there."""

    entry: EnsembleEntry
    task: TaskPlan
    members: tuple[ModelConfig, ...]
    runs: tuple[RunRecord, ...]
    scores: tuple[MetricScore, ...]


class _MemberFailedError(RecordError):
    """A member has no scores because its own run failed."""


def derive_rows(recipe: Recipe, work: Work, runs: Runs, outcome: Outcome) -> DerivedRows:
    """All cells of a recipe's rows from samples.

    Raises:
        RecordError: A results or samples file cannot be read.
    """
    derived = DerivedRows()
    absent = {(absence.model, absence.label) for absence in work.absences}
    tasks = work.tasks
    for entry in recipe.ensembles:
        if not entry.ensemble.is_from_samples:
            continue
        for task in tasks:
            label = task.entry.label
            if (entry.name, label) in absent:
                continue
            try:
                derived.runs.append(
                    _derive(entry, task, recipe, tasks, _Found(runs, outcome, derived))
                )
            except _MemberFailedError as error:
                derived.failures.append(Failure(entry.name, label, str(error)))
            except NotDerivableError as error:
                derived.absences.append(Absence(entry.name, label, f"from samples: {error}"))
    return derived


@dataclass(frozen=True, eq=False)
class _Found:
    """Runs on disk, and why others are not there."""

    runs: Runs
    outcome: Outcome
    derived: DerivedRows

    def run(self, member: str, label: str) -> RunRecord:
        """A member's run.

        Raises:
            NotDerivableError: The member has none.
            _MemberFailedError: Its run failed.
        """
        found = self.runs.get((member, label))
        if found is not None:
            return found
        for failure in self.outcome.failures:
            if (failure.model, failure.label) == (member, label):
                is_named = f"'{member}'" in failure.reason
                raise _MemberFailedError(
                    failure.reason if is_named else f"member '{member}': {failure.reason}"
                )
        for lack in self.outcome.lacks:
            if (lack.model, lack.label) == (member, label):
                raise NotDerivableError(lack.reason)
        raise NotDerivableError(f"member '{member}' is not scored on this task")


def _derive(
    entry: EnsembleEntry, task: TaskPlan, recipe: Recipe, tasks: Sequence[TaskPlan], found: _Found
) -> RunRecord:
    members = member_entries(entry, recipe.models)
    runs = tuple(found.run(member.name, task.entry.label) for member in members)
    cell = _Cell(entry, task, members, runs, _scores(runs, task))
    combine = entry.ensemble.combine
    if combine == "best_member_per_task":
        return _taken_from(cell, ranked(cell.scores)[0], found)
    if combine == "best_member":
        return _taken_from(cell, _ranking(cell, tasks, found)[0], found)
    values = _combined(cell, tasks, found)
    score = mean_score(values, cell.scores[0])
    record = replace(runs[0].task, scores=(score,), num_truncated=_truncated(runs))
    return replace(runs[0], model=entry.name, task=record, file=None, seconds=0.0)


def _combined(cell: _Cell, tasks: Sequence[TaskPlan], found: _Found) -> list[float]:
    """Each item's value under a rule that looks at all members' answers."""
    first = cell.scores[0]
    items = [read_items(run, first.metric, first.filter) for run in cell.runs]
    for member, score in zip(items, cell.scores, strict=True):
        check_is_mean(member, score)
    if cell.entry.ensemble.combine == "majority_vote":
        return majority_vote(items, _vote_ranking(cell, tasks, found))
    if first.higher_is_better is None:
        raise NotDerivableError(f"whether more of {first.metric} is better is not known")
    return any_member_correct(items, higher_is_better=first.higher_is_better)


def _vote_ranking(cell: _Cell, tasks: Sequence[TaskPlan], found: _Found) -> list[int]:
    """Whose answer wins a tie; without development items the member named first."""
    try:
        return _ranking(cell, tasks, found)
    except NotDerivableError as error:
        found.derived.notes[
            f"{cell.entry.name} on {cell.task.entry.label}: ties go to the member named first"
            f" ({error})"
        ] = None
        return list(range(len(cell.members)))


def _ranking(cell: _Cell, tasks: Sequence[TaskPlan], found: _Found) -> list[int]:
    """The members by their scores on the development items, the best first."""
    wanted = development_of(cell.entry, cell.task, tasks)
    assert wanted is not None, "only rows that choose among members are ranked"
    runs = [found.run(member.name, Job(member, *wanted).label) for member in cell.members]
    return ranked(_scores(runs, wanted[0]))


def _scores(runs: Sequence[RunRecord], task: TaskPlan) -> tuple[MetricScore, ...]:
    """The metric that the task's column shows, of each run.

    Raises:
        NotDerivableError: One of them does not have it.
    """
    first = pick_score(runs[0], task.entry.metric)
    if first is None:
        raise NotDerivableError(f"{runs[0].model} has no metric {task.entry.metric or 'at all'}")
    name = f"{first.metric},{first.filter}"
    scores = [pick_score(run, name) for run in runs]
    known = tuple(score for score in scores if score is not None)
    if len(known) < len(runs):
        raise NotDerivableError(f"not all members have {metric_name(first.metric, first.filter)}")
    return known


def _taken_from(cell: _Cell, member: int, found: _Found) -> RunRecord:
    """A member's run under the row's name, with the one metric it was chosen by."""
    run = cell.runs[member]
    chosen = found.derived.chosen.setdefault(cell.entry.name, {})
    chosen.setdefault(cell.members[member].name, []).append(cell.task.entry.label)
    task = replace(run.task, scores=(cell.scores[member],))
    return replace(run, model=cell.entry.name, task=task, file=None, seconds=0.0)


def _truncated(runs: Sequence[RunRecord]) -> int | None:
    """Cut prompts of all members; None where one does not tell."""
    counts = [run.task.num_truncated for run in runs]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


_MEANINGS = {
    "majority_vote": (
        "a majority vote counts the members' answers; ties go to the answer of the member that is"
        " better on the development items"
    ),
    "best_member": "the best member of each task is chosen by its score on the development items",
    "best_member_per_task": (
        "the best member per task is an oracle, chosen by the very scores shown"
    ),
    "any_member_correct": (
        "any member correct is a ceiling: the best member of each item, chosen by its score"
    ),
}


def meaning_of(recipe: Recipe) -> tuple[str, ...]:
    """The note that says what rows from samples are, if there are any."""
    combined = {entry.ensemble.combine for entry in recipe.ensembles}
    meanings = [text for name, text in _MEANINGS.items() if name in combined]
    if not meanings:
        return ()
    start = "Rows marked 'from samples' are computed from their members' scored items"
    return (f"{start}: {'; '.join(meanings)}.",)


def fitted_weights(recipe: Recipe, runs: Runs, labels: Sequence[str]) -> tuple[str, ...]:
    """A note for each row with fitted weights: which they are on each task."""
    notes = []
    for entry in recipe.ensembles:
        if not isinstance(entry.ensemble.weights, FittedWeights):
            continue
        found = [
            f"{label} {' : '.join(f'{weight:.2f}' for weight in run.weights)}"
            + ("" if run.has_converged else " (the fit did not converge)")
            for label in labels
            if (run := runs.get((entry.name, label))) and run.weights
        ]
        members = " : ".join(entry.ensemble.member_names)
        notes += [f"{entry.name}: weights {members} fitted for {'; '.join(found)}"] * bool(found)
    return tuple(notes)
