"""What the figures and the details of the HTML page are made of; no numbers are computed here."""

from __future__ import annotations

from dataclasses import dataclass

from suite.records import Comparison, Estimate


@dataclass(frozen=True)
class Curve:
    """One model's or series' scores over checkpoints, in the metric's unit.

    `steps` rise; `estimates[i]` belongs to `steps[i]`. A value of None leaves a gap.
    """

    label: str
    steps: tuple[float, ...]
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True)
class ReferenceLine:
    """A level that curves are read against."""

    label: str
    value: float


@dataclass(frozen=True)
class CurvePanel:
    """Curves that share one unit, so one pair of axes; `title` names the task and its metric."""

    title: str
    curves: tuple[Curve, ...]
    unit: str = ""
    references: tuple[ReferenceLine, ...] = ()


@dataclass(frozen=True)
class ForestRow:
    """One difference with its interval; rows of equal `group` stand together below its name."""

    label: str
    difference: Estimate
    is_significant: bool = False
    group: str = ""


@dataclass(frozen=True)
class HeatMap:
    """A square of numbers in 0-1 between models; None where there is none.

    `counts[i][j]` is the number of items behind `values[i][j]`.
    """

    labels: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Cost:
    """What running a model takes; None is not known.

    `hardware` is where `seconds_per_item` was measured.
    """

    seconds_per_item: float | None = None
    parameters: int | None = None
    hardware: str = ""


@dataclass(frozen=True)
class CostPoint:
    """A model's seconds for an item against its score (more is better)."""

    label: str
    seconds_per_item: float
    score: float
    parameters: int | None = None
    hardware: str = ""


@dataclass(frozen=True)
class ReliabilityCurve:
    """Share of right answers by stated confidence, one entry for each bin that holds items."""

    label: str
    confidences: tuple[float, ...]
    accuracies: tuple[float, ...]
    counts: tuple[int, ...]
    calibration_error: Estimate
    brier: Estimate


@dataclass(frozen=True)
class TaskRow:
    """One model's line on a task's page; `conditions` are the known ones that set it apart."""

    model: str
    section: str
    is_reference: bool
    value: float | None
    estimate: Estimate | None
    comparison: Comparison | None
    is_significant: bool
    num_items: int | None
    note: str | None
    conditions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class TaskPage:
    """Everything about one column; `conditions` are those that all its models share."""

    column: int
    rows: tuple[TaskRow, ...]
    conditions: tuple[tuple[str, str], ...]
    agreement: HeatMap | None = None
    reliability: tuple[ReliabilityCurve, ...] = ()


@dataclass(frozen=True)
class FlipGroup:
    """How often a pair's answers changed among the items of one group of one feature."""

    feature: str
    group: str
    num_items: int
    num_lost: int
    num_gained: int


@dataclass(frozen=True)
class Flip:
    """One item that one of two models has right and the other wrong; all text is untrusted.

    `is_gain` says that the second model has it right. `groups` are positions in the pair's
    groups.
    """

    prompt: str
    target: str
    first_answer: str
    second_answer: str
    is_gain: bool
    groups: tuple[int, ...]


@dataclass(frozen=True)
class FlipPair:
    """Two models on the items of one column that both were given.

    `num_lost` and `num_gained` count all flips, `flips` holds the ones that are shown.
    """

    column: int
    first: str
    second: str
    num_items: int
    num_lost: int
    num_gained: int
    groups: tuple[FlipGroup, ...]
    flips: tuple[Flip, ...]


@dataclass(frozen=True)
class FidelityRow:
    """One measured likeness of a student to its teacher."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class RunFile:
    """Where one score was read from; `key` is the hash of what was run, "" where unknown."""

    model: str
    column: str
    file: str
    stamp: str
    key: str
    seconds: float
    hardware: str


@dataclass(frozen=True)
class PageDetails:
    """What the page shows beside the table; an empty part has no section.

    `notes` say what could not be read, one sentence each.
    """

    tasks: tuple[TaskPage, ...] = ()
    flips: tuple[FlipPair, ...] = ()
    curves: tuple[CurvePanel, ...] = ()
    agreement: HeatMap | None = None
    costs: tuple[CostPoint, ...] = ()
    fidelity: tuple[FidelityRow, ...] = ()
    files: tuple[RunFile, ...] = ()
    notes: tuple[str, ...] = ()
