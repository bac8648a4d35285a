"""Items on which one of two models is right and the other wrong, and which of them are shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from suite.errors import NotComparableError
from suite.report.page_data import FlipGroup
from suite.report.page_features import Grouping
from suite.results.comparability import check_comparable
from suite.results.scored import Scored

# What a page shows, over all tasks and pairs of models.
MAX_FLIPS = 5_000
TURN = 20

RULE = (
    f"At most {MAX_FLIPS:,} items are shown: in turns of {TURN} for each task and pair of models, "
    "in each turn the pairs with the reference first, items in the order of their hashes. "
    "The counts are of all items."
)


@dataclass(frozen=True, eq=False)
class Changes:
    """What changes between two models on the n items of a task that both were given.

    Attributes:
        keys: `[n]`, sorted.
        is_lost: bool `[n]`, the first is right and the second wrong.
        is_gained: bool `[n]`, the first is wrong and the second right.
    """

    keys: NDArray[np.bytes_]
    is_lost: NDArray[np.bool_]
    is_gained: NDArray[np.bool_]


def changes(first: Scored, second: Scored) -> Changes | None:
    """The changes from `first` to `second`; None where items are not 0/1 or not comparable."""
    if not (_is_right_or_wrong(first) and _is_right_or_wrong(second)):
        return None
    try:
        before, after, _ = check_comparable(first, second, shared_items=True)
    except NotComparableError:
        return None
    if not len(before):
        return None
    sign = after.values - before.values
    return Changes(before.keys, sign < 0, sign > 0)


def _is_right_or_wrong(scored: Scored) -> bool:
    items = scored.items
    return items is not None and items.is_binary and items.higher_is_better is not False


def count_groups(found: Changes, groupings: Sequence[Grouping]) -> tuple[FlipGroup, ...]:
    """How often answers changed in every group; `groupings` are of the same items."""
    return tuple(
        FlipGroup(
            feature=grouping.feature,
            group=name,
            num_items=int(inside.sum()),
            num_lost=int((inside & found.is_lost).sum()),
            num_gained=int((inside & found.is_gained).sum()),
        )
        for grouping in groupings
        for code, name in enumerate(grouping.groups)
        for inside in [grouping.codes == code]
    )


def group_places(groupings: Sequence[Grouping], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each item's groups as positions in what `count_groups` returns, -1 where one is not known.

    Args:
        groupings: F of them, of the same items.
        positions: `[k]`, which items.

    Returns:
        `[k, F]`.
    """
    places = np.full((len(positions), len(groupings)), -1, dtype=np.int64)
    start = 0
    for feature, grouping in enumerate(groupings):
        codes = grouping.codes[positions]
        places[:, feature] = np.where(codes >= 0, start + codes, -1)
        start += len(grouping.groups)
    return places


def in_turns(sizes: Sequence[int], has_reference: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Every (pair, position of a flip in it) in the order in which flips are shown.

    Args:
        sizes: Flips of each (task, pair of models).
        has_reference: Whether the reference is one of the pair.
    """
    preferred = [i for i, prefer in enumerate(has_reference) if prefer]
    others = [i for i, prefer in enumerate(has_reference) if not prefer]
    longest = max(sizes, default=0)
    for start in count(0, TURN):
        if start >= longest:
            return
        for pairs in (preferred, others):
            for position in range(start, start + TURN):
                yield from ((i, position) for i in pairs if position < sizes[i])
