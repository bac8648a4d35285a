"""How much of a teacher's score a transferred model has, as a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np

from suite.records import Cell, Column, Evidence
from suite.report.evidence import Versus, compare_with, is_significant
from suite.report.pairs import ColumnPairs
from suite.results.item_scores import ItemScores
from suite.stats.recovered import gap_recovered, share_of_teacher

# An interval beyond so many times the gap is that of a division by almost nothing.
MAX_SHARE = 10.0
# Enough for a percentile interval; nothing is tested with it.
NUM_RESAMPLES = 1_000


@dataclass(frozen=True)
class Roles:
    """The models that transferred ones are measured by.

    `teacher` is what they were distilled from, `start` what they began as: without it a share of
    the teacher's score is shown instead of the share of the gap that was closed.
    """

    teacher: str | None = None
    start: str | None = None


def gaps_of(roles: Roles, columns: Mapping[str, ColumnPairs]) -> Versus | None:
    """The gap from start to teacher in every column, as one family of tests."""
    if roles.teacher is None or roles.start is None:
        return None
    return compare_with(roles.teacher, [roles.start], columns)


def recovered_cell(
    pairs: ColumnPairs, student: str, roles: Roles, column: Column, gaps: Versus | None
) -> Cell:
    """The share of the gap from start to teacher that `student` closed, with its interval.

    A dash where the gap is not significant among `gaps`. Without a start, the student's score over
    the teacher's; only where more is better.
    """
    teacher, start = roles.teacher or "", roles.start
    names = [student, teacher, *([start] if start is not None else [])]
    missing = [name for name in names if name not in pairs.scored]
    if missing:
        has = "has" if len(missing) == 1 else "have"
        return Cell(value=None, note=f"{', '.join(missing)} {has} no score")
    if start is None and not column.higher_is_better:
        return Cell(value=None, note="a share of the teacher's score needs a metric to be raised")
    joined = _joined(pairs, names)
    if isinstance(joined, str):
        found = joined.removeprefix(f"{column.label}: ")
        return Cell(value=None, note=f"no share recovered: {found}")
    if gaps is not None and start is not None:
        gap, num = gaps.comparisons.get((start, column.label)), gaps.num_tests
        if not is_significant(gap, pairs.options.level):
            return Cell(
                value=None,
                note=f"no share recovered: the gap from {start} to {teacher} is not distinguishable"
                " from 0" + (f" after Holm over {num} columns" if num > 1 else ""),
            )
    counts, level = pairs.resamples.counts(joined[0])[:NUM_RESAMPLES], pairs.options.level
    if start is None:
        estimate = share_of_teacher(joined[0], joined[1], counts, level=level)
    else:
        estimate = gap_recovered(joined[0], joined[1], joined[2], counts, level=level)
    if max(abs(estimate.low or 0.0), abs(estimate.high or 0.0)) > MAX_SHARE:
        of = "the gap" if start is not None else f"{teacher}'s score"
        return Cell(
            value=None,
            note=f"no share recovered: its interval reaches beyond {MAX_SHARE:g} times {of}",
        )
    note = f"no share recovered: {estimate.reason}" if estimate.value is None else estimate.reason
    return Cell(value=estimate.value, note=note, evidence=Evidence(estimate))


def _joined(pairs: ColumnPairs, names: list[str]) -> list[ItemScores] | str:
    """The items that all of the models have, in the same order."""
    found = []
    student, *others = names
    for other in others:
        both = pairs.join(student, other)
        if isinstance(both, str):
            return both
        found += [both[0], both[1]]
    if all(np.array_equal(items.keys, found[0].keys) for items in found):
        return [found[0], *found[1::2]]
    shared = reduce(np.intersect1d, [items.keys for items in found])
    chosen = [found[0], *found[1::2]]
    return [items.take(np.flatnonzero(np.isin(items.keys, shared))) for items in chosen]
