"""A checkpoint's tasks joined with the pinned run's, or the reason why they cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from suite.errors import ConfigError, NotComparableError, near_names
from suite.results.comparability import check_comparable
from suite.results.scored import Scored
from suite.track.pinned import Pinned
from suite.track.regress import TaskPair
from suite.track.runs import TrackedRun, why_not_gated

DEFAULT_MARGIN = 0.02


@dataclass(frozen=True)
class Margins:
    """The smallest change that matters, in each metric's unit.

    `by_task` holds those of single tasks, `default` is that of the others.
    """

    default: float = DEFAULT_MARGIN
    by_task: Mapping[str, float] = field(default_factory=dict)

    def check(self, labels: Mapping[str, object]) -> None:
        """Refuse a margin for a task that the pinned run does not have.

        Raises:
            ConfigError: There is one.
        """
        for label in self.by_task:
            if label not in labels:
                near = near_names(label, labels)
                raise ConfigError(f"--margin {label}: the pinned run has no such task; {near}")

    def of(self, label: str) -> float:
        """The margin of one task."""
        return self.by_task.get(label, self.default)


def pair_tasks(
    run: TrackedRun,
    pinned: Pinned,
    margins: Margins,
    *,
    allow_missing: bool = False,
    shared_items: bool = False,
) -> tuple[list[TaskPair], list[str]]:
    """The tasks of a look, and what has to be told beside its verdicts, one sentence each.

    Args:
        run: The checkpoint.
        pinned: The reference run.
        margins: By task.
        allow_missing: Judge the tasks that there are where the checkpoint lacks others.
        shared_items: Join the items that both have where item sets or single prompts differ.

    Raises:
        NotComparableError: A task is missing or was measured in another way.
        ConfigError: A margin is for no task of the pinned run.
    """
    margins.check(pinned.tasks)
    missing = _missing(run, pinned)
    not_judged = {**pinned.not_judged, **missing}
    notes = [f"{label}: not judged, {reason}" for label, reason in not_judged.items()]
    if missing and (not allow_missing or len(missing) == len(pinned.tasks)):
        told = "; ".join(f"{label}: {reason}" for label, reason in missing.items())
        raise NotComparableError(
            f"{len(missing)} of the {len(pinned.tasks)} tasks of the pinned run cannot be judged"
            f" ({told}); evaluate the checkpoint on them with samples{_or_allow(missing, pinned)}"
        )
    pairs = []
    for label, reference in pinned.tasks.items():
        if label in missing:
            continue
        new = run.tasks[label]
        items, pinned_items, said = check_comparable(new, reference, shared_items=shared_items)
        notes += said
        pairs.append(TaskPair(label, _shown(new), items, pinned_items, margins.of(label)))
    known = {*pinned.tasks, *pinned.not_judged}
    further = [label for label in run.tasks if label not in known]
    if further:
        notes.append(f"not judged, because the pinned run lacks them: {', '.join(further)}")
    return pairs, notes


def _missing(run: TrackedRun, pinned: Pinned) -> dict[str, str]:
    """Tasks of the pinned run that the checkpoint cannot be judged on, and why."""
    missing = {}
    for label, reference in pinned.tasks.items():
        new = run.tasks.get(label)
        if new is None:
            missing[label] = f"the checkpoint has no {_shown(reference)} of it"
        elif new.items is None or len(new.items) == 0:
            missing[label] = why_not_gated(new) or ""
    return missing


def _or_allow(missing: Mapping[str, str], pinned: Pinned) -> str:
    return "" if len(missing) == len(pinned.tasks) else ", or judge the others with --allow-missing"


def _shown(task: Scored) -> str:
    """`acc`, or `exact_match (strict-match)` where the filter is not the default one."""
    name, filter_name = task.score.metric, task.score.filter
    return name if filter_name == "none" else f"{name} ({filter_name})"
