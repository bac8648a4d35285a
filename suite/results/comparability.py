"""Whether two scores were measured in the same way, and the items on which they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.errors import NotComparableError
from suite.results.item_scores import ItemScores
from suite.results.item_table import ItemTable
from suite.results.samples_file import group_key, is_group
from suite.results.scored import Scored

# Longer values are cut in sentences.
MAX_VALUE_LENGTH = 60
# Sums of the same numbers in another order.
TOLERANCE = 1e-9

_ITEMS = "item sets"
_PROMPTS = "prompts"
_WHICH_SCORE = ("metric", "filter")


@dataclass(frozen=True)
class Difference:
    """One fact of the measurement that is not the same on both sides.

    `what` names it ("shots"), `first` and `second` say what it is on each side ("5", "0").
    `is_of_items` says that it concerns only some of the items, so that the others can be joined.
    """

    what: str
    first: str
    second: str
    is_of_items: bool = False


@dataclass(frozen=True, eq=False)
class _Prompts:
    """The prompts of the items that both sides have.

    `conflicting` are the keys (those of ItemScores) of items with different prompts, in the order
    of their numbers in the task; `is_told` says for each side whether its files tell any prompt.
    """

    num_shared: int
    conflicting: tuple[bytes, ...]
    example: tuple[str, int, str, str] | None
    is_told: tuple[bool, bool]


def differences(first: Scored, second: Scored) -> tuple[Difference, ...]:
    """Everything known on both sides that differs, conditions first, then items."""
    return _all_differences(first, second, _compare_prompts(first, second))


def unknown_conditions(first: Scored, second: Scored) -> tuple[str, ...]:
    """The conditions that only one side tells, so that nobody can say whether they differ."""
    return _unknown(first, second, _compare_prompts(first, second))


def check_comparable(
    first: Scored, second: Scored, *, shared_items: bool = False
) -> tuple[ItemScores, ItemScores, tuple[str, ...]]:
    """The items on which two scores can be compared, in the same order on both sides.

    Args:
        first: One run's score of a task.
        second: Another run's score of the same task.
        shared_items: Join the items that both have with equal prompts where item sets or single
            prompts differ; anything else that differs stays refused.

    Returns:
        The items of both, and what has to be told beside the comparison, one sentence each.

    Raises:
        NotComparableError: The scores were measured differently, or have no items to join; names
            every difference.
    """
    prompts = _compare_prompts(first, second)
    _refuse(first, second, _all_differences(first, second, prompts), shared_items=shared_items)
    names = side_names(first, second)
    for name, side in zip(names, (first, second), strict=True):
        if side.items is None:
            raise NotComparableError(
                f"{side.record.label}: {name} has no items to pair"
                f" ({side.reason or 'no samples'}); evaluate it again with samples"
            )
    assert first.items is not None
    assert second.items is not None
    shared = _joined(first.items, second.items)
    left, right = (_without(side, prompts.conflicting) for side in shared)
    if len(np.unique(left.strata)) < len(left.stratum_weights):
        raise NotComparableError(
            f"{first.record.label}: {names[0]} and {names[1]} share no item"
            f"{' of some single task' if len(left.stratum_weights) > 1 else ''} that was put to"
            " both with the same prompt; evaluate both on the same items"
        )
    extra = [len(side) - len(shared[0]) for side in (first.items, second.items)]
    reasons = [
        f"{num:,} that only {name} has" for num, name in zip(extra, names, strict=True) if num
    ]
    num_conflicting = len(shared[0]) - len(left)
    reasons += [f"{num_conflicting:,} with different prompts"] * bool(num_conflicting)
    notes = unknown_notes(first, second)
    if reasons:
        label, left_out = first.record.label, ", ".join(reasons)
        notes += (f"{label}: compared on {len(left):,} shared items; left out: {left_out}",)
    return left, right, notes


def check_conditions(first: Scored, second: Scored) -> tuple[str, ...]:
    """Refuse two scores, with or without items, that were measured differently.

    Returns:
        What has to be told beside a comparison of the two aggregates, one sentence each.

    Raises:
        NotComparableError: Names every difference in one sentence, and what to do.
    """
    _refuse(first, second, differences(first, second), shared_items=False)
    return unknown_notes(first, second)


def unknown_notes(first: Scored, second: Scored) -> tuple[str, ...]:
    """The sentence for conditions that only one side tells; nothing where there are none."""
    names = unknown_conditions(first, second)
    if not names:
        return ()
    return (
        f"{first.record.label}: only one of {' and '.join(side_names(first, second))} tells"
        f" {', '.join(names)}, so whether they agree is not known",
    )


def side_names(first: Scored, second: Scored) -> tuple[str, str]:
    """The models' names, told apart where they are the same."""
    names = first.record.model, second.record.model
    return names if names[0] != names[1] else (f"{names[0]} (first)", f"{names[1]} (second)")


def _all_differences(first: Scored, second: Scored, prompts: _Prompts) -> tuple[Difference, ...]:
    return (*_of_conditions(first, second), *_of_items(first, second, prompts))


def _unknown(first: Scored, second: Scored, prompts: _Prompts) -> tuple[str, ...]:
    left, right = _conditions(first), _conditions(second)
    names = [
        name
        for name in dict.fromkeys((*left, *right))
        if (left.get(name) is None) != (right.get(name) is None)
    ]
    return (*names, *[_PROMPTS] * (prompts.is_told[0] != prompts.is_told[1]))


def _refuse(
    first: Scored, second: Scored, found: tuple[Difference, ...], *, shared_items: bool
) -> None:
    can_join = first.items is not None and second.items is not None
    if not found or (can_join and shared_items and all(one.is_of_items for one in found)):
        return
    names = side_names(first, second)
    told = "; ".join(f"{one.what}: {one.first} against {one.second}" for one in found)
    raise NotComparableError(
        f"{first.record.label}: {names[0]} and {names[1]} were not measured alike ({told});"
        f" {_remedy(found, can_join=can_join)}"
    )


def _remedy(found: tuple[Difference, ...], *, can_join: bool) -> str:
    if can_join and all(one.is_of_items for one in found):
        return "compare the items that both share with --shared-items"
    if all(one.what in _WHICH_SCORE for one in found):
        return "choose a score that both have with --metric and --filter"
    return "evaluate both in the same way"


def _conditions(scored: Scored) -> dict[str, Any]:
    return {"task": scored.record.task.task, **scored.record.conditions}


def _of_conditions(first: Scored, second: Scored) -> Iterator[Difference]:
    for what in _WHICH_SCORE:
        values = getattr(first.score, what), getattr(second.score, what)
        if values[0] != values[1]:
            yield Difference(what, values[0], values[1])
    left, right = _conditions(first), _conditions(second)
    for name in left:
        if name in right and _differs(left[name], right[name]):
            here, there = _texts(left[name], right[name])
            yield Difference(name, here, there)


def _differs(first: Any, second: Any) -> bool:
    """Whether two values are known and not the same; what lies inside may be unknown too."""
    if first is None or second is None:
        return False
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() != second.keys() or any(_differs(first[k], second[k]) for k in first)
    return bool(first != second)


def _texts(first: Any, second: Any) -> tuple[str, str]:
    """Both values as short texts that are not the same; of two mappings what differs."""
    if isinstance(first, dict) and isinstance(second, dict):
        names = [name for name in {**first, **second} if _entry_differs(name, first, second)]
        first, second = ({n: side[n] for n in names if n in side} for side in (first, second))
    texts = [value if isinstance(value, str) else json.dumps(value) for value in (first, second)]
    start = 0
    if max(map(len, texts)) > MAX_VALUE_LENGTH:
        # Long texts are shown from shortly before the place where they begin to differ.
        pairs = zip(*texts, strict=False)
        same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(map(len, texts)))
        start = max(0, same - MAX_VALUE_LENGTH // 3)
    left, right = (_cut(text, start) for text in texts)
    return left, right


def _entry_differs(name: str, first: dict[str, Any], second: dict[str, Any]) -> bool:
    return (name in first) != (name in second) or _differs(first[name], second[name])


def _cut(text: str, start: int) -> str:
    shown = text[start : start + MAX_VALUE_LENGTH]
    whole = f"{'…' * (start > 0)}{shown}{'…' * (start + len(shown) < len(text))}"
    return " ".join(whole.split()) or "nothing"


def _of_items(first: Scored, second: Scored, prompts: _Prompts) -> Iterator[Difference]:
    if prompts.example is not None:
        task, doc_id, left, right = prompts.example
        what = (
            f"{_PROMPTS} of {len(prompts.conflicting)} of {prompts.num_shared} shared items, the"
            f" first of them item {doc_id} of {task}"
        )
        yield Difference(what, f"hash {left}", f"hash {right}", is_of_items=True)
    if first.items is None or second.items is None:
        sizes = first.record.task.num_items, second.record.task.num_items
        if None not in sizes and sizes[0] != sizes[1]:
            yield Difference("number of items", f"{sizes[0]:,}", f"{sizes[1]:,}")
        return
    left_items, right_items = _joined(first.items, second.items)
    extra = [len(side) - len(left_items) for side in (first.items, second.items)]
    if any(extra):
        here, there = (
            f"{num:,} of {len(side):,} items only there"
            for num, side in zip(extra, (first.items, second.items), strict=True)
        )
        yield Difference(_ITEMS, here, there, is_of_items=True)
    yield from _of_weights(
        _without(left_items, prompts.conflicting), _without(right_items, prompts.conflicting)
    )
    if not any(extra) and not _weighs_the_same(first.items, second.items):
        here, there = (
            ", ".join(f"{weight:.4g}" for weight in side.stratum_weights)
            for side in (first.items, second.items)
        )
        yield Difference("weights of the single tasks", here, there)


def _of_weights(first: ItemScores, second: ItemScores) -> Iterator[Difference]:
    """Bytes or words that a ratio metric divides by must be the same for each item."""
    if first.aggregation != second.aggregation:
        yield Difference("aggregation", first.aggregation, second.aggregation)
        return
    if first.weights is None or second.weights is None:
        return
    is_other = ~np.isclose(first.weights, second.weights, rtol=TOLERANCE, atol=0)
    if is_other.any():
        what = f"units scored (bytes or words) of {is_other.sum():,} of {len(first):,} shared items"
        sums = (float(weights[is_other].sum()) for weights in (first.weights, second.weights))
        here, there = (f"{total:,.10g} in all" for total in sums)
        yield Difference(what, here, there)


def _weighs_the_same(first: ItemScores, second: ItemScores) -> bool:
    """Whether every item (the same on both sides) counts as much in both scores."""
    left, right = (
        (side.stratum_weights / np.bincount(side.strata, minlength=len(side.stratum_weights)))[
            side.strata
        ]
        for side in (first, second)
    )
    return bool(np.allclose(left, right, rtol=TOLERANCE, atol=0))


def _joined(first: ItemScores, second: ItemScores) -> tuple[ItemScores, ItemScores]:
    """The items of both; strata, their weights and clusters are the first's on both sides."""
    _, left, right = np.intersect1d(
        first.keys, second.keys, assume_unique=True, return_indices=True
    )
    one, other = first.take(left), second.take(right)
    clusters = other.clusters if one.clusters is None else one.clusters
    better = one.higher_is_better if one.higher_is_better is not None else other.higher_is_better
    one = replace(one, clusters=clusters, higher_is_better=better)
    return one, replace(
        other,
        strata=one.strata,
        stratum_weights=one.stratum_weights,
        clusters=clusters,
        higher_is_better=better,
    )


def _without(items: ItemScores, keys: tuple[bytes, ...]) -> ItemScores:
    if not keys:
        return items
    return items.take(np.flatnonzero(~np.isin(items.keys, np.array(keys))))


def _compare_prompts(first: Scored, second: Scored) -> _Prompts:
    others = {(table.task, table.filter): table for table in second.tables}
    is_of_group = is_group(first.record, first.tables)
    conflicting: list[bytes] = []
    example = None
    num_shared = 0
    is_told = [False, False]
    for table in first.tables:
        other = others.get((table.task, table.filter))
        if other is None:
            continue
        left, right = _shared_rows(table, other)
        num_shared += len(left)
        ours, theirs = table.prompts[left], other.prompts[right]
        is_told[0] |= bool((ours != b"").any())
        is_told[1] |= bool((theirs != b"").any())
        rows = np.flatnonzero((ours != theirs) & (ours != b"") & (theirs != b""))
        rows = rows[np.argsort(table.doc_ids[left[rows]], kind="stable")]
        found: list[bytes] = table.keys[left[rows]].tolist()
        conflicting += [group_key(table.task, key) for key in found] if is_of_group else found
        if len(rows) and example is None:
            here, there = (side[rows[0]].decode()[:8] for side in (ours, theirs))
            example = (table.task, int(table.doc_ids[left[rows[0]]]), here, there)
    return _Prompts(num_shared, tuple(conflicting), example, (is_told[0], is_told[1]))


def _shared_rows(
    first: ItemTable, second: ItemTable
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    _, left, right = np.intersect1d(
        first.keys, second.keys, assume_unique=True, return_indices=True
    )
    return left, right
