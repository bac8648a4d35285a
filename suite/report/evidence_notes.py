"""The sentences below a table, made from the tests that were really run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from suite.records import Column, Comparison, Row, Table
from suite.report.evidence import TableEvidence, Versus
from suite.report.formatting import AVERAGE, RowKind, average_cell, format_score
from suite.report.grouped_notes import Group, grouped, named


def evidence_notes(
    table: Table, evidence: TableEvidence, *, with_ranks: bool = True
) -> tuple[str, ...]:
    """Intervals, ranks, tests against the reference row, MDE, and what was not comparable."""
    notes = _intervals(table, evidence)
    notes += _ranks(evidence) if with_ranks else []
    if (versus := evidence.versus) is not None:
        claim = f"†: differs from {versus.base}"
        notes += versus_notes(table.columns, versus, evidence.options.level, claim=claim)
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
    return [*notes, *_refused(versus), *_joined(versus)]


def _intervals(table: Table, evidence: TableEvidence) -> list[str]:
    methods = {
        column.label: [
            estimate.method
            for (_, label), cell in evidence.cells.items()
            if label == column.label and (estimate := cell.estimate) and estimate.low is not None
        ]
        for column in table.columns
    }
    averages = [
        one.estimate.method
        for row in table.rows
        if row.average is not None
        and (one := evidence.averages.get(row.model.name))
        and one.estimate
        and one.estimate.low is not None
    ]
    methods |= {AVERAGE.label: averages} if averages else {}
    if not any(methods.values()):
        return []
    return [
        f"{100 * evidence.options.level:.4g} % intervals of scores, in brackets where no standard "
        f"error is printed and all of them in table.csv: {_by_column(methods)}"
    ]


def brackets_note(
    rows: Iterable[Row], columns: Sequence[Column], kind: RowKind, where: str
) -> list[str]:
    """How the intervals were made that rows of one kind print."""
    methods: dict[str, list[str]] = {column.label: [] for column in columns}
    for row in rows:
        if row.kind != kind:
            continue
        for column, cell in zip((*columns, AVERAGE), (*row.cells, average_cell(row)), strict=True):
            estimate = cell.evidence.estimate if cell.evidence and cell.value is not None else None
            if estimate is not None and estimate.low is not None:
                methods.setdefault(column.label, []).append(estimate.method)
    if not any(methods.values()):
        return []
    return [
        f"Brackets in {where}: intervals of each difference by itself, not widened for their "
        f"number, by {_by_column(methods)}"
        if kind == "delta"
        else f"Brackets in {where}: percentile intervals by {_by_column(methods)}"
    ]


def bootstrap_note(rows: Iterable[Row], seed: int) -> list[str]:
    """With which seed bootstraps drew, where the rows show the outcome of one."""
    for row in rows:
        for cell in (*row.cells, average_cell(row)):
            evidence = cell.evidence
            if evidence is None or cell.value is None:
                continue
            estimate, versus = evidence.estimate, evidence.versus_reference
            if (estimate and estimate.low is not None and "bootstrap" in estimate.method) or (
                versus and versus.p_value is not None and "bootstrap" in versus.test
            ):
                return [
                    f"Bootstraps draw with seed {seed}, the same resamples for every model of a "
                    "column"
                ]
    return []


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
        f"No rank in {named(labels, 'columns')}: {reason}" for reason, labels in labels_of.items()
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


def _refused(versus: Versus) -> list[str]:
    """Which cells were not compared and why, each reason once."""
    notes = []
    for group in grouped(
        (model, label, _bare(reason, model, versus.base, label))
        for (model, label), reason in versus.refused.items()
    ):
        are = "is" if len(group.models) == 1 else "are"
        notes.append(
            f"{named(group.models, 'models')} {are} not compared with {versus.base} on "
            f"{named(group.labels, 'columns')}: {group.text}{group.ending()}"
        )
    return notes


def _bare(reason: str, model: str, base: str, label: str) -> str:
    """A reason without the names that the sentence around it has already."""
    text = reason.removeprefix(f"{label}: ")
    return text.replace(f"{model} and {base} were ", "").replace(f"{model} and {base} ", "they ")


def _joined(versus: Versus) -> list[str]:
    """What had to be said when items were joined, each text once."""
    both = "{} and " + versus.base
    groups = grouped(
        (model, label, note.removeprefix(f"{label}: ").replace(f"{model} and {versus.base}", both))
        for (model, label), notes in versus.joins.items()
        for note in notes
    )
    return [
        f"{named(group.labels, 'columns')}: {_with_models(group, versus.base)}{group.ending()}"
        for group in groups
    ]


def _with_models(group: Group, base: str) -> str:
    models = named(group.models, "models")
    if "{} and " in group.text:
        models = models if len(group.models) == 1 else f"each of {models}"
        return group.text.replace("{} and " + base, f"{models} and {base}")
    return f"{models} {group.text}"


def _unpaired(columns: Sequence[Column], versus: Versus) -> list[str]:
    """The columns where only aggregates could be compared, together where the models agree."""
    labels_of: dict[tuple[str, ...], list[str]] = {}
    for column in columns:
        models = tuple(
            model
            for (model, label), comparison in versus.comparisons.items()
            if label == column.label and not comparison.paired
        )
        if models:
            labels_of.setdefault(models, []).append(column.label)
    return [
        f"{named(labels, 'columns')}: {named(models, 'models')} unpaired with {versus.base}, from "
        "standard errors alone, which finds only much larger differences"
        for models, labels in labels_of.items()
    ]


def _without_items(columns: Sequence[Column], evidence: TableEvidence) -> list[str]:
    """Why cells have no items, each reason once."""
    groups = grouped(
        (
            model,
            column.label,
            (scored.reason or "no samples").removeprefix(f"{model} · {column.label}: "),
        )
        for column in columns
        for model, scored in evidence.columns[column.label].scored.items()
        if scored.items is None
    )
    return [
        f"No items of {named(group.models, 'models')} for {named(group.labels, 'columns')}, so no "
        f"interval beside lm-eval's standard error: {group.text}{group.ending()}"
        for group in groups
    ]


def _by_column(methods: Mapping[str, Sequence[str]]) -> str:
    """Each method with the columns that it was used on."""
    labels_of: dict[str, list[str]] = {}
    for label, found in methods.items():
        for method in dict.fromkeys(found):
            labels_of.setdefault(method, []).append(label)
    if len(methods) > 1 and list(map(len, labels_of.values())) == [len(methods)]:
        return f"{next(iter(labels_of))} on all columns"
    return "; ".join(
        f"{method} on {named(labels, 'columns')}" for method, labels in labels_of.items()
    )
