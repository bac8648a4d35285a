"""The nouns between evaluation and report: what was scored, and the table made of it.

Scores are lm-eval's own aggregates. `None` means "not known" and is printed as a dash; no number
ever stands for a missing one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Estimate:
    """A number computed from items, with its confidence interval, in the metric's unit.

    `level` is the interval's nominal coverage (0.95), `n` the number of independent units behind it
    (items, documents or clusters), `method` how the interval was computed. Where `value`, `low` or
    `high` is None, `reason` says why in one sentence; nothing undefined is ever 0.
    """

    value: float | None
    low: float | None
    high: float | None
    level: float
    n: int
    method: str
    reason: str | None = None


@dataclass(frozen=True)
class Comparison:
    """The difference `new - reference` of one metric over two sets of items, and its test.

    `p_value` is two-sided and unadjusted, `p_adjusted` corrected over the family it was tested in.
    `num_better` and `num_worse` count the items on which the new model does better or worse, None
    where the items are not paired. `mde` is the smallest true difference, in the metric's unit and
    positive, that this test finds with 80 % power at the level it was given. `paired` False means
    that only aggregates were known. What is None is explained by `reason`. `mde_alpha` is the level
    of `mde` where it is not that of the difference's interval.
    """

    difference: Estimate
    p_value: float | None
    test: str
    paired: bool
    num_better: int | None = None
    num_worse: int | None = None
    mde: float | None = None
    p_adjusted: float | None = None
    reason: str | None = None
    mde_alpha: float | None = None


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

    `conditions` are named facts of how the task was measured (shots, task version, prompt format,
    chat template, protocol, generation settings ...) that must agree before scores are compared;
    a value of None is not known. `stamp` is the time in the names of the run's files. `origin` says
    what wrote the file.
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
    conditions: dict[str, Any] = field(default_factory=dict)
    stamp: str = ""
    origin: Literal["suite", "lm-eval"] = "suite"


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
    """What a table says about one model: its name and which weights were really scored.

    `section` is the block of the table it stands in (original, transferred, ensembles, controls),
    "" in a table without blocks.
    """

    name: str
    weights: str
    is_reference: bool = False
    section: str = ""


@dataclass(frozen=True)
class Column:
    """One task of a table and how it was measured.

    `label` is unique in a table. `unit_interval` says that the metric lies in 0-1 and more is
    better: only such columns enter the average. `protocol` says how prompts were tokenised, ""
    where that is not known.
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
    protocol: str = ""


@dataclass(frozen=True)
class Evidence:
    """What the items behind a cell allow to say.

    `estimate` is the cell's value with its interval. `versus_reference` compares it with the
    reference row (None in that row, or without one). `rank` is "best" or "second" within the
    cell's block only where paired tests tell it apart from what follows. `is_significant` says
    that the difference from the reference row holds after the correction over the whole table.
    """

    estimate: Estimate | None = None
    versus_reference: Comparison | None = None
    rank: Literal["best", "second"] | None = None
    is_significant: bool = False


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
    evidence: Evidence | None = None


@dataclass(frozen=True)
class Row:
    """One line of a table. `average` is None where a task that enters it is missing.

    `kind` "scores" is a model's own line; "delta" holds differences from the teacher, "recovered"
    shares of the gap to the teacher (1 is all of it), "published" scores of a paper, which are
    never ranked or tested. `average_evidence` is what the items behind the average allow to say.
    """

    model: ModelRow
    cells: tuple[Cell, ...]
    average: float | None
    average_delta: float | None = None
    kind: Literal["scores", "delta", "recovered", "published"] = "scores"
    average_evidence: Evidence | None = None


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
