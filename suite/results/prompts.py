"""Whether the items that two runs share were put to both models with the same prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suite.results.item_table import ItemTable
from suite.results.samples_file import group_key, is_group
from suite.results.scored import Scored


@dataclass(frozen=True, eq=False)
class Prompts:
    """The prompts of the items that both sides have.

    Attributes:
        num_shared: How many items both have.
        num_told: Of how many of them both tell the prompts.
        conflicting: Keys (those of `ItemScores`) of items with different prompts, in the order of
            their numbers in the task.
        example: The first of them: task, number in the task, and the hash on each side.
        is_told: For each side, whether its files tell any prompt.
    """

    num_shared: int
    num_told: int
    conflicting: tuple[bytes, ...]
    example: tuple[str, int, str, str] | None
    is_told: tuple[bool, bool]

    @property
    def are_all_told(self) -> bool:
        """Whether prompts are known, on both sides, of every shared item."""
        return self.num_told == self.num_shared > 0


def compare_prompts(first: Scored, second: Scored) -> Prompts:
    """The prompts of the items that two runs share, from their tables."""
    others = {(table.task, table.filter): table for table in second.tables}
    is_of_group = is_group(first.record, first.tables)
    conflicting: list[bytes] = []
    example = None
    num_shared = num_told = 0
    is_told = [False, False]
    for table in first.tables:
        other = others.get((table.task, table.filter))
        if other is None:
            continue
        left, right = _shared_rows(table, other)
        ours, theirs = table.prompts[left], other.prompts[right]
        are_told = (ours != b"") & (theirs != b"")
        num_shared += len(left)
        num_told += int(are_told.sum())
        is_told[0] |= bool((ours != b"").any())
        is_told[1] |= bool((theirs != b"").any())
        rows = np.flatnonzero((ours != theirs) & are_told)
        rows = rows[np.argsort(table.doc_ids[left[rows]], kind="stable")]
        found: list[bytes] = table.keys[left[rows]].tolist()
        conflicting += [group_key(table.task, key) for key in found] if is_of_group else found
        if len(rows) and example is None:
            here, there = (side[rows[0]].decode()[:8] for side in (ours, theirs))
            example = (table.task, int(table.doc_ids[left[rows[0]]]), here, there)
    return Prompts(num_shared, num_told, tuple(conflicting), example, (is_told[0], is_told[1]))


def _shared_rows(
    first: ItemTable, second: ItemTable
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    _, left, right = np.intersect1d(
        first.keys, second.keys, assume_unique=True, return_indices=True
    )
    return left, right
