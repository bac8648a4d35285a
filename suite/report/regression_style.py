"""One model against a reference, task by task, with a verdict on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from suite.records import Column, Comparison, Estimate, ModelRow, Table
from suite.report.evidence import TableEvidence, Versus, compare_with
from suite.report.evidence_notes import versus_notes
from suite.report.pairs import ColumnPairs
from suite.stats.spending import holm_levels
from suite.stats.verdict import Verdict, verdict


@dataclass(frozen=True)
class RegressionRow:
    """One task: both scores, their difference, and what it means.

    `comparison` has the interval and the MDE at the level at which Holm judged the task, so that
    interval, adjusted p-value and verdict agree. Without one `note` says why, and there is no
    verdict.
    """

    column: Column
    reference: Estimate | None
    new: Estimate | None
    comparison: Comparison | None = None
    verdict: Verdict | None = None
    note: str | None = None


@dataclass(frozen=True)
class RegressionTable:
    """All tasks of one model against the reference; `margin` is in each metric's unit."""

    reference: str
    model: ModelRow
    margin: float
    level: float
    rows: tuple[RegressionRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RegressionReport:
    """One table for every model that is not the reference."""

    title: str
    tables: tuple[RegressionTable, ...]
    notes: tuple[str, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)


def regression_report(table: Table, evidence: TableEvidence, margin: float) -> RegressionReport:
    """A table of verdicts for every row of `table` but its reference row.

    The tasks of one model are one family under Holm, as in a check of a checkpoint.
    """
    reference = next(row.model for row in table.rows if row.model.is_reference)
    others = [row.model for row in table.rows if not row.model.is_reference]
    return RegressionReport(
        table.title,
        tuple(_table(table.columns, evidence, reference.name, other, margin) for other in others),
        table.notes,
        table.provenance,
    )


def _table(
    columns: Sequence[Column],
    evidence: TableEvidence,
    reference: str,
    model: ModelRow,
    margin: float,
) -> RegressionTable:
    level = evidence.options.level
    versus = compare_with(reference, [model.name], evidence.columns)
    judged = _judged(versus, evidence.columns, model.name, level)
    rows = tuple(
        _row(column, evidence, (model.name, reference), judged, versus, margin)
        for column in columns
    )
    claim = f"Tested against {reference}"
    notes = versus_notes(columns, versus, level, claim=claim, with_mde=False)
    return RegressionTable(reference, model, margin, level, rows, tuple(notes))


def _judged(
    versus: Versus, pairs: Mapping[str, ColumnPairs], model: str, level: float
) -> dict[str, Comparison]:
    """Each task's comparison at the level at which Holm judged it."""
    found = {label: comparison for (_, label), comparison in versus.comparisons.items()}
    tested = [label for label, comparison in found.items() if comparison.p_value is not None]
    levels = holm_levels([found[label].p_value or 0.0 for label in tested], 1 - level)
    for label, alpha in zip(tested, levels, strict=True):
        again = pairs[label].compare(model, versus.base, level=1 - alpha)
        assert isinstance(again, Comparison)
        found[label] = replace(again, p_adjusted=found[label].p_adjusted)
    return found


def _row(
    column: Column,
    evidence: TableEvidence,
    models: tuple[str, str],
    judged: Mapping[str, Comparison],
    versus: Versus,
    margin: float,
) -> RegressionRow:
    new, base = (_estimate(evidence, model, column.label) for model in models)
    comparison = judged.get(column.label)
    if comparison is None:
        missing = [model for model in models if (model, column.label) not in evidence.cells]
        note = versus.refused.get((models[0], column.label))
        note = note or f"{', '.join(missing) or 'one of the two'} has no score"
        return RegressionRow(column, base, new, note=note)
    found, note = _verdict(comparison, column, margin)
    return RegressionRow(column, base, new, comparison, found, note)


def _verdict(
    comparison: Comparison, column: Column, margin: float
) -> tuple[Verdict | None, str | None]:
    """The verdict on a difference turned so that more is better."""
    difference = comparison.difference
    if column.higher_is_better is None:
        return None, "whether larger is better is not known"
    if difference.value is None or difference.low is None or difference.high is None:
        return None, difference.reason or comparison.reason
    if column.higher_is_better:
        return verdict(difference.value, difference.low, difference.high, margin), None
    return verdict(-difference.value, -difference.high, -difference.low, margin), None


def _estimate(evidence: TableEvidence, model: str, label: str) -> Estimate | None:
    """The score with its interval; lm-eval's own value where there are no items."""
    cell = evidence.cells.get((model, label))
    if cell is None:
        return None
    if cell.estimate is not None:
        return cell.estimate
    score = evidence.columns[label].scored[model].score
    options = evidence.options
    return Estimate(score.value, None, None, options.level, 0, "lm-eval's", "no items")
