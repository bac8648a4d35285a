"""How much of a teacher's score a transferred model has, as a cell."""

from __future__ import annotations

from functools import reduce

import numpy as np

from suite.records import Cell, Column, Evidence
from suite.report.pairs import ColumnPairs
from suite.results.item_scores import ItemScores
from suite.stats.recovered import gap_recovered, share_of_teacher

# A share beyond this is a division by almost nothing.
MAX_SHARE = 1e6
# Enough for a percentile interval; nothing is tested with it.
NUM_RESAMPLES = 1_000


def recovered_cell(
    pairs: ColumnPairs, student: str, teacher: str, start: str | None, column: Column
) -> Cell:
    """The share of the gap from `start` to `teacher` that `student` closed, with its interval.

    Without a start, the student's score over the teacher's; only where more is better.
    """
    names = [student, teacher, *([start] if start is not None else [])]
    missing = [name for name in names if name not in pairs.scored]
    if missing:
        return Cell(value=None, note=f"{', '.join(missing)} has no score")
    if start is None and not column.higher_is_better:
        return Cell(value=None, note="a share of the teacher's score needs a metric to be raised")
    joined = _joined(pairs, names)
    if isinstance(joined, str):
        return Cell(value=None, note=f"no share recovered: {joined}")
    counts, level = pairs.resamples.counts(joined[0])[:NUM_RESAMPLES], pairs.options.level
    if start is None:
        estimate = share_of_teacher(joined[0], joined[1], counts, level=level)
    else:
        estimate = gap_recovered(joined[0], joined[1], joined[2], counts, level=level)
    if max(abs(estimate.low or 0.0), abs(estimate.high or 0.0)) > MAX_SHARE:
        return Cell(value=None, note="no share recovered: the gap is too close to 0")
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
