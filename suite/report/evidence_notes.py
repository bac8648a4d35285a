"""The sentences below a table, made from the tests that were really run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from suite.records import Column, Comparison, Table
from suite.report.evidence import TableEvidence, Versus
from suite.report.formatting import format_score

# As many labels as a sentence names one by one.
MAX_NAMED = 4


def evidence_notes(
    table: Table, evidence: TableEvidence, *, with_ranks: bool = True
) -> tuple[str, ...]:
    """Intervals, ranks, tests against the reference row, MDE, and what was not comparable."""
    notes = _intervals(table.columns, evidence)
    notes += _ranks(evidence) if with_ranks else []
    if (versus := evidence.versus) is not None:
        claim = f"†: differs from {versus.base}"
        notes += versus_notes(table.columns, versus, evidence.options.level, claim=claim)
    if any("bootstrap" in method for method in _methods(evidence)):
        options = evidence.options
        notes.append(
            f"Bootstraps draw {options.num_resamples:,} resamples with seed {options.seed}, the "
            "same ones for every model of a column"
        )
    return (*notes, *_without_items(table.columns, evidence))


def versus_notes(
    columns: Sequence[Column],
    versus: Versus,
    level: float,
    *,
    claim: str,
    with_mde: bool = True,
) -> list[str]:
    """How one row was compared with others: tests, correction, MDE, and refusals.

    `claim` begins the sentence on the tests: what holds at this level.
    """
    notes = []
    tests = {
        column.label: [
            comparison.test
            for (_, label), comparison in versus.comparisons.items()
            if label == column.label and comparison.p_value is not None
        ]
        for column in columns
    }
    if versus.num_tests:
        num = f"{versus.num_tests} comparison{'s' if versus.num_tests > 1 else ''}"
        notes.append(
            f"{claim} at level {1 - level:.4g} after Holm over {num} ({_by_column(tests)})"
        )
    notes += _mde(columns, versus, level) if with_mde else []
    notes += _unpaired(columns, versus)
    for (model, label), reason in versus.refused.items():
        notes.append(f"{model} is not compared with {versus.base} on {label}: {reason}")
    notes += dict.fromkeys(note for found in versus.joins.values() for note in found)
    return notes


def _intervals(columns: Sequence[Column], evidence: TableEvidence) -> list[str]:
    methods = {
        column.label: [
            estimate.method
            for (_, label), cell in evidence.cells.items()
            if label == column.label and (estimate := cell.estimate) and estimate.low is not None
        ]
        for column in columns
    }
    if not any(methods.values()):
        return []
    return [f"Intervals hold {100 * evidence.options.level:.4g} % each: {_by_column(methods)}"]


def _ranks(evidence: TableEvidence) -> list[str]:
    ranks, level = evidence.ranks, evidence.options.level
    notes = []
    if ranks.family_sizes:
        sizes = sorted(set(ranks.family_sizes.values()))
        pairs = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        pairs += " pair" if sizes[-1] == 1 else " pairs"
        notes.append(
            "Bold: better than every other row of its block; underlined: the second, better than "
            f"every row after it; by paired tests at level {1 - level:.4g} after Holm over all "
            f"pairs of a block's rows in a column ({pairs})"
        )
    labels_of: dict[str, list[str]] = {}
    for (_, label), reason in ranks.untested.items():
        labels_of.setdefault(reason, []).append(label)
    notes += [
        f"No rank in {_named(labels, 'columns')}: {reason}" for reason, labels in labels_of.items()
    ]
    return notes


def _mde(columns: Sequence[Column], versus: Versus, level: float) -> list[str]:
    """What could have been found in each column where nothing was."""
    parts = []
    for column in columns:
        silent = [
            comparison.mde
            for (_, label), comparison in versus.comparisons.items()
            if label == column.label and _is_silent(comparison, level)
        ]
        known = [mde for mde in silent if mde is not None]
        if known:
            parts.append(f"{column.label} {_range(known, column)}")
        elif silent:
            parts.append(f"{column.label} none")
    if not parts:
        return []
    return [
        f"Where no difference from {versus.base} was found, the smallest true one that the test "
        "finds with 80 % power at the level that Holm leaves, in the column's unit: "
        + "; ".join(parts)
    ]


def _is_silent(comparison: Comparison, level: float) -> bool:
    return comparison.p_adjusted is not None and comparison.p_adjusted > 1 - level


def _range(values: Sequence[float], column: Column) -> str:
    def show(value: float) -> str:
        return format_score(value, percent=column.unit_interval)

    low, high = show(min(values)), show(max(values))
    if low == high:
        return low
    return f"{show(median(values))} (median of {len(values)}, {low} to {high})"


def _unpaired(columns: Sequence[Column], versus: Versus) -> list[str]:
    """The columns where only aggregates could be compared."""
    notes = []
    for column in columns:
        models = [
            model
            for (model, label), comparison in versus.comparisons.items()
            if label == column.label and not comparison.paired
        ]
        if models:
            notes.append(
                f"{column.label}: {_named(models, 'models')} unpaired with {versus.base}, from "
                "standard errors alone, which finds only much larger differences"
            )
    return notes


def _without_items(columns: Sequence[Column], evidence: TableEvidence) -> list[str]:
    """Why cells have no items."""
    models_of: dict[str, list[str]] = {}
    for column in columns:
        for model, scored in evidence.columns[column.label].scored.items():
            if scored.items is None:
                reason = scored.reason or "no samples"
                models_of.setdefault(f"{column.label}: {reason}", []).append(model)
    return [
        f"No items of {_named(models, 'models')} for {text}" for text, models in models_of.items()
    ]


def _methods(evidence: TableEvidence) -> set[str]:
    cells = evidence.cells.values()
    methods = {cell.estimate.method for cell in cells if cell.estimate}
    return methods | {cell.versus_reference.test for cell in cells if cell.versus_reference}


def _by_column(methods: Mapping[str, Sequence[str]]) -> str:
    """Each method with the columns that it was used on."""
    labels_of: dict[str, list[str]] = {}
    for label, found in methods.items():
        for method in dict.fromkeys(found):
            labels_of.setdefault(method, []).append(label)
    if len(labels_of) == 1 and len(methods) > 1:
        (method, labels), *_ = labels_of.items()
        return f"{method} on {'all' if len(labels) == len(methods) else len(labels)} columns"
    return "; ".join(
        f"{method} on {_named(labels, 'columns')}" for method, labels in labels_of.items()
    )


def _named(names: Iterable[str], what: str) -> str:
    known = list(dict.fromkeys(names))
    return ", ".join(known) if len(known) <= MAX_NAMED else f"{len(known)} {what}"
