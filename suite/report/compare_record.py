"""Two models compared task by task: the nouns between the comparison and its renderings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from suite.records import Comparison, Estimate

Outcome = Literal["better", "worse", "higher", "lower", "no difference", "not tested"]


@dataclass(frozen=True)
class Side:
    """One of the two models, and the file or folder its runs were read from."""

    model: str
    path: str


@dataclass(frozen=True)
class ComparedTask:
    """One task of both models; the difference is second minus first, in the metric's unit.

    Attributes:
        label: The task entry's name.
        task: The task or group.
        metric: Which of its metrics.
        filter: lm-eval's filter, "none" for the default one.
        higher_is_better: None where it is not known.
        unit_interval: The metric lies in 0-1 and more is better: shown in percent, and averaged.
        n: Items compared; None where the runs do not tell.
        first: The first model's score over these items.
        second: The second's.
        comparison: Its `p_adjusted` is Holm's over all tasks, its `mde` is at the level that Holm
            left for this task.
        agreement: Share of items that both answer alike; its reason says where there is none.
    """

    label: str
    task: str
    metric: str
    filter: str
    higher_is_better: bool | None
    unit_interval: bool
    n: int | None
    first: Estimate
    second: Estimate
    comparison: Comparison
    agreement: Estimate


@dataclass(frozen=True)
class ComparedAverage:
    """The plain mean over the tasks whose metric lies in 0-1; tasks are fixed, items are drawn."""

    labels: tuple[str, ...]
    first: Estimate
    second: Estimate
    comparison: Comparison


@dataclass(frozen=True)
class Comparisons:
    """Everything that was compared, and how.

    Attributes:
        first: The model that is subtracted.
        second: The model in question.
        tasks: In the order of the first model's runs.
        average: None where fewer than two tasks can be averaged.
        level: Coverage of the intervals; tests are made at 1 - level.
        test: What was asked for.
        seed: Of the resamples.
        notes: What has to be said beside the numbers, one sentence each.
    """

    first: Side
    second: Side
    tasks: tuple[ComparedTask, ...]
    average: ComparedAverage | None
    level: float
    test: str
    seed: int
    notes: tuple[str, ...] = ()


def outcome_of(comparison: Comparison, *, higher_is_better: bool | None, level: float) -> Outcome:
    """What the test says of the second model: by the adjusted p-value where there is one."""
    p_value = comparison.p_value if comparison.p_adjusted is None else comparison.p_adjusted
    difference = comparison.difference.value
    if p_value is None or difference is None:
        return "not tested"
    if not p_value < 1 - level or difference == 0:
        return "no difference"
    if higher_is_better is None:
        return "higher" if difference > 0 else "lower"
    return "better" if (difference > 0) == higher_is_better else "worse"
