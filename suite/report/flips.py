"""Items on which one of two models is right and the other wrong, and which of them are shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, count

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


def all_changes(runs: Mapping[str, Scored]) -> dict[tuple[str, str], Changes]:
    """The changes between every two models of a task, from the one that is named first.

    Pairs whose items are not 0/1 or not comparable are left out. Runs that tell the same of how and
    on what they were measured are checked once for all of them.
    """
    judged = {name: run for name, run in runs.items() if _is_right_or_wrong(run)}
    kinds = {name: _measured(run) for name, run in judged.items()}
    joined: dict[tuple[bytes, bytes], _Joined | None] = {}
    found = {}
    for first, second in combinations(judged, 2):
        kind = (kinds[first], kinds[second])
        if kind not in joined:
            joined[kind] = _join(judged[first], judged[second])
        items = joined[kind]
        if items is not None:
            before = _values(judged[first])[items.first]
            after = _values(judged[second])[items.second]
            found[first, second] = Changes(items.keys, after < before, after > before)
    return found


def changes(first: Scored, second: Scored) -> Changes | None:
    """The changes from `first` to `second`; None where items are not 0/1 or not comparable."""
    return all_changes({"first": first, "second": second}).get(("first", "second"))


@dataclass(frozen=True, eq=False)
class _Joined:
    """Shared items: their keys, and their places among each side's items."""

    keys: NDArray[np.bytes_]
    first: NDArray[np.int64]
    second: NDArray[np.int64]


def _join(first: Scored, second: Scored) -> _Joined | None:
    try:
        before, _, _ = check_comparable(first, second, shared_items=True)
    except NotComparableError:
        return None
    if not len(before) or first.items is None or second.items is None:
        return None
    places = (np.searchsorted(side.keys, before.keys) for side in (first.items, second.items))
    return _Joined(before.keys, *places)


def _measured(run: Scored) -> bytes:
    """Hash of all that decides whether a run's items can be compared with another's, but scores."""
    assert run.items is not None
    score = run.score
    facts: list[object] = [score.metric, score.filter, score.higher_is_better, run.record.label]
    facts += [run.record.task.task, run.record.conditions, run.items.aggregation]
    facts += [run.items.higher_is_better, [(table.task, table.filter) for table in run.tables]]
    columns = [run.items.keys, run.items.strata, run.items.stratum_weights]
    columns += [c for t in run.tables for c in (t.keys, t.doc_ids, t.prompts)]
    found = hashlib.blake2b(json.dumps(facts, default=repr).encode())
    for column in columns:
        found.update(f"{column.dtype} {column.shape}".encode())
        found.update(np.ascontiguousarray(column).tobytes())
    return found.digest()


def _values(run: Scored) -> NDArray[np.float64]:
    assert run.items is not None
    return run.items.values


def _is_right_or_wrong(scored: Scored) -> bool:
    items = scored.items
    return items is not None and items.is_binary and items.higher_is_better is not False


def count_groups(found: Changes, groupings: Sequence[Grouping]) -> tuple[FlipGroup, ...]:
    """How often answers changed in every group; `groupings` are of the same items."""
    return tuple(
        FlipGroup(
            feature=grouping.feature,
            group=name,
            num_items=num_items,
            num_lost=num_lost,
            num_gained=num_gained,
        )
        for grouping in groupings
        for name, num_items, num_lost, num_gained in zip(
            grouping.groups,
            _sizes(grouping, slice(None)),
            _sizes(grouping, found.is_lost),
            _sizes(grouping, found.is_gained),
            strict=True,
        )
    )


def _sizes(grouping: Grouping, items: NDArray[np.bool_] | slice) -> list[int]:
    """How many of these items are in each group."""
    sizes: list[int] = np.bincount(
        grouping.codes[items] + 1, minlength=len(grouping.groups) + 1
    ).tolist()
    return sizes[1:]


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
