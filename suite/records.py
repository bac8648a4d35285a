"""The nouns between evaluation and report: what was scored, and the table made of it.

Scores are lm-eval's own aggregates. `None` means "not known" and is printed as a dash; no number
ever stands for a missing one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class MetricScore:
    """One aggregated metric of one task, as lm-eval wrote it.

    `stderr` is lm-eval's standard error in the metric's unit, None where it gives none.
    """

    metric: str
    filter: str
    value: float | None
    stderr: float | None
    higher_is_better: bool | None


@dataclass(frozen=True)
class TaskScores:
    """All metrics of one task (or group of tasks) for one model.

    `num_truncated` counts prompts cut to the context length; None where the backend doesn't tell.
    """

    task: str
    scores: tuple[MetricScore, ...]
    num_items: int | None
    num_fewshot: int | None
    version: str
    num_truncated: int | None = 0


@dataclass(frozen=True)
class RunRecord:
    """One finished (model, task) pair read back from disk.

    `label` is the unique name of the task entry in the recipe. `identity` holds everything that
    decides whether two runs are the same run; `key` its hash. `file` is None for scores that were
    computed from the samples of other runs. `weights` are those of an ensemble's members; a fit of
    them may have stopped before its maximum.
    """

    model: str
    label: str
    task: TaskScores
    key: str
    identity: dict[str, Any]
    seconds: float
    hardware: str
    file: str | None
    weights: tuple[float, ...] | None = None
    has_converged: bool = True


@dataclass(frozen=True)
class Failure:
    """A pair that could not be scored, with the one-sentence reason.

    `label` is the unique name of the task entry in the recipe.
    """

    model: str
    label: str
    reason: str


@dataclass(frozen=True)
class Absence:
    """A pair that a row does not have by its nature or by choice; no failure.

    `label` is the unique name of the task entry in the recipe.
    """

    model: str
    label: str
    reason: str


@dataclass(frozen=True)
class ModelRow:
    """What a table says about one model: its name and which weights were really scored."""

    name: str
    weights: str
    is_reference: bool = False


@dataclass(frozen=True)
class Column:
    """One task of a table and how it was measured.

    `label` is unique in a table. `unit_interval` says that the metric lies in 0-1 and more is
    better: only such columns enter the average.
    """

    label: str
    task: str
    metric: str
    filter: str
    higher_is_better: bool | None
    unit_interval: bool
    num_items: int | None
    num_fewshot: int | None
    version: str


@dataclass(frozen=True)
class Cell:
    """One score of a table; `value` None is shown as a dash, explained by `note`.

    `delta` is value minus the reference row's value, None without a reference row.
    `num_truncated` counts prompts cut to the context length; None where the backend doesn't tell.
    """

    value: float | None
    stderr: float | None = None
    delta: float | None = None
    note: str | None = None
    num_truncated: int | None = 0


@dataclass(frozen=True)
class Row:
    """One model's line. `average` is None where a task that enters it is missing."""

    model: ModelRow
    cells: tuple[Cell, ...]
    average: float | None
    average_delta: float | None = None


@dataclass(frozen=True)
class Sample:
    """One scored item for the page's item browser; all text is untrusted."""

    model: str
    column: str
    prompt: str
    target: str
    answer: str
    score: float | None


@dataclass(frozen=True)
class Table:
    """Models as rows, tasks as columns, and everything needed to read them.

    `provenance` maps a heading (seeds, versions, hardware ...) to one line of text.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    average_columns: tuple[str, ...]
    notes: tuple[str, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)
