"""What the items behind a table allow to say about its cells: intervals, differences, ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from suite.records import Column, Comparison, Estimate, Evidence, ModelRow
from suite.report.average_evidence import average_evidence, cut
from suite.report.pairs import ColumnPairs, EvidenceOptions, Resamples
from suite.results.scored import Scored
from suite.stats.multiple import holm
from suite.stats.spending import holm_levels

Rank = Literal["best", "second"]


@dataclass(frozen=True)
class Versus:
    """All cells of some models compared with those of one row, as one family of tests.

    Attributes:
        base: The row's model.
        comparisons: By (model, label), with `p_adjusted` by Holm over all of them. Only those that
            found nothing have an `mde`, at the level at which Holm finally judged them.
        refused: Why cells were not compared, by (model, label).
        joins: What had to be said when items were joined, by (model, label).
        num_tests: Size of the family.
    """

    base: str
    comparisons: Mapping[tuple[str, str], Comparison]
    refused: Mapping[tuple[str, str], str]
    joins: Mapping[tuple[str, str], tuple[str, ...]]
    num_tests: int


@dataclass(frozen=True)
class RankTests:
    """How the ranks of a table were tested.

    Attributes:
        ranks: By (model, label), only of cells that have one.
        family_sizes: How many pairs each (section, label) had, where all could be tested.
        untested: Why a (section, label) has no rank.
    """

    ranks: Mapping[tuple[str, str], Rank]
    family_sizes: Mapping[tuple[str, str], int]
    untested: Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class TableEvidence:
    """Everything that was estimated and tested for one table.

    Attributes:
        columns: The joined runs by label, for further comparisons.
        cells: By (model, label).
        averages: By model, of the columns that are averaged.
        versus: The comparison with the reference row, None without one.
        ranks: The tests behind "best" and "second".
        options: Level, resamples and seed.
    """

    columns: Mapping[str, ColumnPairs]
    cells: Mapping[tuple[str, str], Evidence]
    averages: Mapping[str, Evidence]
    versus: Versus | None
    ranks: RankTests
    options: EvidenceOptions


def gather_evidence(
    scored: Mapping[tuple[str, str], Scored],
    models: Sequence[ModelRow],
    columns: Sequence[Column],
    options: EvidenceOptions,
) -> TableEvidence:
    """Intervals of all cells, differences from the reference row, and ranks within the blocks.

    Args:
        scored: The runs by (model, label), with the metric that the column shows.
        models: The rows that are ranked and compared, in the order of the table.
        columns: Its tasks.
        options: How intervals and tests are made.
    """
    resamples = Resamples(options)
    num_tests = max(1, (len(models) - 1) * len(columns))
    pairs = {
        column.label: ColumnPairs(
            column.label,
            {m.name: found for m in models if (found := scored.get((m.name, column.label)))},
            options,
            resamples,
            num_tests,
        )
        for column in columns
    }
    reference = next((model.name for model in models if model.is_reference), None)
    versus = None
    if reference is not None:
        versus = compare_with(reference, [m.name for m in models if m.name != reference], pairs)
    ranks = rank_cells(models, columns, pairs)
    cells = {}
    for column in columns:
        label, one = column.label, pairs[column.label]
        for model in one.scored:
            comparison = versus.comparisons.get((model, label)) if versus else None
            cells[model, label] = Evidence(
                estimate=_estimate(one, model, column),
                versus_reference=comparison,
                rank=ranks.ranks.get((model, label)),
                is_significant=is_significant(comparison, options.level),
            )
    averaged = [pairs[column.label] for column in columns if column.unit_interval]
    averages = average_evidence([m.name for m in models], averaged, reference, options.level)
    return TableEvidence(pairs, cells, averages, versus, ranks, options)


def _estimate(pairs: ColumnPairs, model: str, column: Column) -> Estimate | None:
    found = pairs.estimate(model)
    return cut(found, 0.0, 1.0) if found is not None and column.unit_interval else found


def is_significant(comparison: Comparison | None, level: float) -> bool:
    """Whether a difference holds after the correction over its family."""
    adjusted = comparison.p_adjusted if comparison else None
    return adjusted is not None and adjusted <= 1 - level


def compare_with(base: str, models: Sequence[str], columns: Mapping[str, ColumnPairs]) -> Versus:
    """Every cell of `models` against that of `base`, with Holm over all of them."""
    found: dict[tuple[str, str], Comparison] = {}
    refused: dict[tuple[str, str], str] = {}
    joins: dict[tuple[str, str], tuple[str, ...]] = {}
    for label, pairs in columns.items():
        for model in models:
            if model not in pairs.scored or base not in pairs.scored:
                continue
            if not has_value(pairs.scored[model]) or not has_value(pairs.scored[base]):
                continue
            comparison = pairs.compare(model, base)
            if isinstance(comparison, str):
                refused[model, label] = comparison
                continue
            found[model, label] = comparison
            if notes := pairs.joins.get((model, base)):
                joins[model, label] = notes
    tested = [key for key, comparison in found.items() if comparison.p_value is not None]
    adjusted = holm([found[key].p_value or 0.0 for key in tested])
    for key, p_adjusted in zip(tested, adjusted, strict=True):
        found[key] = replace(found[key], p_adjusted=p_adjusted)
    spent = _levels_spent(tested, found)
    for key in tested:
        if key not in spent:
            found[key] = replace(found[key], mde=None)
            continue
        # The smallest difference that this test could have shown as one of so many.
        model, label = key
        again = columns[label].compare(model, base, level=1 - spent[key])
        assert isinstance(again, Comparison)
        found[key] = replace(found[key], mde=again.mde, mde_alpha=spent[key])
    return Versus(base, found, refused, joins, len(tested))


def _levels_spent(
    tested: Sequence[tuple[str, str]], found: Mapping[tuple[str, str], Comparison]
) -> dict[tuple[str, str], float]:
    """The level of Holm's last step for each comparison that found nothing."""
    if not tested:
        return {}
    level = found[tested[0]].difference.level
    levels = holm_levels([found[key].p_value or 0.0 for key in tested], 1 - level)
    return {
        key: alpha
        for key, alpha in zip(tested, levels, strict=True)
        if not is_significant(found[key], level)
    }


def rank_cells(
    models: Sequence[ModelRow], columns: Sequence[Column], pairs: Mapping[str, ColumnPairs]
) -> RankTests:
    """Best and second of each section and column, only where paired tests tell them apart.

    All pairs of a block are one family under Holm, so that choosing the best by the data is paid
    for. The best must beat every other row, the second every row after it.
    """
    ranks: dict[tuple[str, str], Rank] = {}
    sizes: dict[tuple[str, str], int] = {}
    untested: dict[tuple[str, str], str] = {}
    for section in dict.fromkeys(model.section for model in models):
        names = [m.name for m in models if m.section == section and not is_unranked(m)]
        for column in columns:
            one, place = pairs[column.label], (section, column.label)
            block = [n for n in names if n in one.scored and _is_ranked(one.scored[n])]
            if len(block) < 2 or column.higher_is_better is None:
                continue
            lacking = [name for name in block if one.scored[name].items is None]
            p_values = {} if lacking else one.p_values(block)
            if lacking:
                untested[place] = f"no items of {', '.join(lacking)}"
            elif any(p_value is None for p_value in p_values.values()):
                untested[place] = "not all of its rows could be compared"
            else:
                sizes[place] = len(p_values)
                order = _best_first(block, one, higher_is_better=column.higher_is_better)
                found = _ranks(order, _differing(p_values, one.options.level))
                ranks |= {(name, column.label): rank for name, rank in found.items()}
    return RankTests(ranks, sizes, untested)


def _is_ranked(scored: Scored) -> bool:
    """Scores computed from the samples of other rows (best member, any member) do not compete."""
    return has_value(scored) and scored.record.file is not None


def is_unranked(model: ModelRow) -> bool:
    """Controls show what chance or a broken model gives; they compete with nothing."""
    return model.section == "controls"


def _best_first(models: Sequence[str], pairs: ColumnPairs, *, higher_is_better: bool) -> list[str]:
    sign = 1 if higher_is_better else -1
    return sorted(models, key=lambda model: -sign * _value(pairs.scored[model]))


def _differing(
    p_values: Mapping[tuple[str, str], float | None], level: float
) -> set[frozenset[str]]:
    """The pairs that differ after Holm over all of them."""
    adjusted = holm([p_value or 0.0 for p_value in p_values.values()])
    pairs = zip(p_values, adjusted, strict=True)
    return {frozenset(pair) for pair, p_adjusted in pairs if p_adjusted <= 1 - level}


def _ranks(order: Sequence[str], differing: set[frozenset[str]]) -> dict[str, Rank]:
    """Ranks of models in order of their scores, best first."""
    best, *others = order
    if any(frozenset((best, other)) not in differing for other in others):
        return {}
    ranks: dict[str, Rank] = {best: "best"}
    second, *rest = others
    if rest and all(frozenset((second, other)) in differing for other in rest):
        ranks[second] = "second"
    return ranks


def has_value(scored: Scored) -> bool:
    """Whether lm-eval gave a number."""
    value = scored.score.value
    return value is not None and math.isfinite(value)


def _value(scored: Scored) -> float:
    assert scored.score.value is not None
    return scored.score.value
