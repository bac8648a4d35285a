"""Jobs of one unit: models are loaded once, and ensembles of them share passes over each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import suite
from suite.ensemble.config import Development, EnsembleEntry
from suite.models.entry import ModelConfig
from suite.pipelines.backend import (
    OpenUnit,
    evaluation_settings,
    fit_weights,
    new_store,
    open_unit,
    set_batch_size,
)
from suite.pipelines.development import NoDevelopmentItemsError, items_per_task
from suite.pipelines.hardware import describe_hardware
from suite.pipelines.members import weights_text
from suite.pipelines.plan import (
    ModelPlan,
    batch_size,
    ensemble_identity,
    pair_identity,
    pair_key,
)
from suite.pipelines.session import BuiltTask, Session
from suite.pipelines.work import Job, Unit
from suite.records import Failure


@dataclass(frozen=True, eq=False)
class _Pair:
    """A job with its task built, and what its result will be known by.

    `fitted_to` are the items that an ensemble's weights are fitted to, if they are.
    """

    job: Job
    task: BuiltTask
    fitted_to: BuiltTask | None
    identity: dict[str, Any]

    @property
    def key(self) -> str:
        return pair_key(self.identity)


def score_unit(unit: Unit, session: Session) -> None:
    """Score the jobs of a unit that are not finished; weights are loaded only if there are any."""
    members: list[ModelPlan] = []
    for entry in unit.members:
        try:
            members.append(session.ranks.together(partial(session.plan, entry)))
        except Exception as error:
            session.progress.pair += len(unit.jobs)
            session.fail(unit.jobs, error, _whose(entry, unit, error))
            return
    pairs = [pair for job in unit.jobs if (pair := _unfinished(job, members, session)) is not None]
    if not pairs:
        session.progress.line(f"{_name(unit)}: nothing left to score")
    opened: OpenUnit | None = None
    for _, group in groupby(pairs, key=lambda pair: pair.job.task.entry.label):
        claimed = [pair for pair in group if session.claim(pair.job)]
        if claimed and opened is None:
            session.progress.begin(_name(unit), "loading")
            try:
                opened = session.ranks.together(
                    lambda: open_unit(unit, members, session.recipe, session.ranks)
                )
            except Exception as error:
                _give_up([*claimed, *pairs[pairs.index(claimed[-1]) + 1 :]], error, session)
                return
        # What is kept of the members' passes serves every rule, on this task only.
        store = new_store(unit)
        for pair in claimed:
            assert opened is not None
            _try_pair(opened, store, members, pair, session)
    if opened is not None:
        opened.close()


def _give_up(pairs: Sequence[_Pair], error: Exception, session: Session) -> None:
    """Every pair fails for the same reason."""
    session.progress.pair += len(pairs)
    session.fail([pair.job for pair in pairs], error)


def collect_unit(unit: Unit, session: Session, failures: Sequence[Failure]) -> None:
    """Note what other processes made of a unit's jobs; a job without result failed there."""
    told = {(failure.model, failure.label): failure for failure in failures}
    try:
        members = [session.plan(entry) for entry in unit.members]
    except Exception as error:
        known = [job for job in unit.jobs if (job.entry.name, job.label) in told]
        session.outcome.failures += [told[job.entry.name, job.label] for job in known]
        unknown = [job for job in unit.jobs if job not in known]
        if unknown:
            session.fail(unknown, error)
        return
    for job in unit.jobs:
        failure = told.get((job.entry.name, job.label))
        if failure is not None:
            session.outcome.failures.append(failure)
        elif _unfinished(job, members, session) is not None:
            reason = "its process ended before it was scored; run.log may say why"
            session.outcome.failures.append(Failure(job.entry.name, job.label, reason))


def _try_pair(
    opened: OpenUnit, store: Any, members: Sequence[ModelPlan], pair: _Pair, session: Session
) -> None:
    job = pair.job
    session.progress.pair += 1
    if pair.key in session.finished:  # another row of this run is the same under another name
        session.progress.pair -= 1
        session.skip(job, pair.key)
        return
    session.progress.begin(job.entry.name, job.label)
    try:
        seconds = _score_pair(opened, store, members, pair, session)
    except Exception as error:  # whatever one pair does, the rest goes on
        session.fail([job], error)
    else:
        session.finish(job, pair.key, seconds)


def _unfinished(job: Job, members: Sequence[ModelPlan], session: Session) -> _Pair | None:
    """A job with its task built, None where its identical run is on disk or it cannot be built."""
    try:
        pair = session.ranks.together(partial(_build_pair, job, members, session))
    except NoDevelopmentItemsError as error:
        session.progress.pair += 1
        session.lack(job, error)
        return None
    except Exception as error:
        session.progress.pair += 1
        session.fail([job], error)
        return None
    if pair.key in session.finished:
        session.skip(job, pair.key)
        return None
    return pair


def _build_pair(job: Job, members: Sequence[ModelPlan], session: Session) -> _Pair:
    task = session.build(job.task, job.development)
    if job.development is not None:
        # Items of a named task are chosen by for every task of the row.
        for scored_task in session.tasks if job.development.task else (job.task,):
            session.build_apart(job.task, scored_task, job.development)
    fitted_to = None
    scored = members[0].identity
    if isinstance(job.entry, EnsembleEntry):
        fitted_to = _fitted_to(job.entry, job, session)
        items = None if fitted_to is None else fitted_to.identity
        scored = ensemble_identity(job.entry, members, job.task.entry.label, items)
    identity = pair_identity(scored, job, task.identity, session.recipe, generates=task.generates)
    return _Pair(job, task, fitted_to, identity)


def _fitted_to(entry: EnsembleEntry, job: Job, session: Session) -> BuiltTask | None:
    development = entry.ensemble.weights_for(job.task.entry.label)
    if not isinstance(development, Development):
        return None
    by_label = {task.entry.label: task for task in session.tasks}
    task = by_label[development.task] if development.task else job.task
    unnamed = development.model_copy(update={"task": None})
    return session.build_apart(task, job.task, unnamed)


def _score_pair(
    opened: OpenUnit, store: Any, members: Sequence[ModelPlan], pair: _Pair, session: Session
) -> float:
    """Evaluate one pair and write it; returns the seconds it took."""
    from suite.harness.run import evaluate, write_evaluation

    job = pair.job
    settings = evaluation_settings(
        job, session.recipe, members, confirm_unsafe_code=session.options.confirm_unsafe_code
    )
    if job.development is not None:
        settings = replace(settings, limit=items_per_task(pair.task.built, job.development.items))
    ranks, progress = session.ranks, session.progress
    backend = ranks.together(lambda: opened.backend(job, store))
    set_batch_size(backend, batch_size(job))
    weights: dict[str, Any] = {}
    if pair.fitted_to is not None:
        items = pair.fitted_to.built
        progress.begin(job.entry.name, f"{job.label}: fitting weights")
        # One fit for all ranks: their machines may round differently.
        weights = ranks.from_first(lambda: fit_weights(backend, job, items, settings))
        backend.set_weights(weights["ensemble_weights"])
        progress.begin(job.entry.name, job.label)
    evaluation = ranks.together(
        lambda: evaluate(
            backend,
            pair.task.built,
            settings,
            on_start=progress.expect,
            on_answer=progress.advance,
        )
    )

    def write() -> None:
        if ranks.is_first:
            facts = _facts(pair, members, evaluation) | weights
            write_evaluation(evaluation, session.options.output / _safe(job.entry.name), facts)

    ranks.together(write)
    return evaluation.seconds


def _facts(pair: _Pair, members: Sequence[ModelPlan], evaluation: Any) -> dict[str, Any]:
    """What a results file says beside lm-eval's own keys."""
    job = pair.job
    devices = [member.placement.device if member.placement else "cpu" for member in members]
    facts = {
        "model": job.entry.name,
        "label": job.label,
        "task": job.task.entry.task,
        "key": pair.key,
        "identity": pair.identity,
        "weights": members[0].weights,
        "seconds": evaluation.seconds,
        "num_truncated": evaluation.num_truncated,
        "num_boundary_moves": evaluation.num_boundary_moves,
        "hardware": describe_hardware(*devices),
        "suite_version": suite.__version__,
    }
    if job.development is not None:
        facts["development"] = job.development.model_dump()
    if isinstance(job.entry, EnsembleEntry):
        given = job.entry.ensemble.weights_for(job.task.entry.label)
        facts |= {
            "weights": weights_text(job.entry),
            "ensemble": job.entry.ensemble.model_dump(mode="json"),
            "ensemble_members": [member.entry.name for member in members],
            "ensemble_weights": None if isinstance(given, Development) else given,
        }
    return facts


def _whose(entry: ModelConfig, unit: Unit, error: Exception) -> str:
    """Names the member that fails an ensemble, unless the reason does."""
    is_named = len(unit.members) == 1 or f"'{entry.name}'" in str(error)
    return "" if is_named else f"member '{entry.name}': "


def _name(unit: Unit) -> str:
    return " + ".join(member.name for member in unit.members)


def _safe(name: str) -> str:
    """A model's name as a folder name."""
    return "".join(c if c.isalnum() or c in "-_.+" else "_" for c in name).strip(".") or "model"
