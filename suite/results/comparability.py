"""Whether two scores were measured in the same way, and the items on which they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from suite.errors import NotComparableError
from suite.results.differing import differs, texts_of
from suite.results.item_scores import ItemScores
from suite.results.known_conditions import conditions_for, decides_prompts
from suite.results.prompts import Prompts, compare_prompts
from suite.results.scored import Scored
from suite.results.shared_items import (
    TOLERANCE,
    common_weighting,
    join,
    weightings,
)

_ITEMS = "item sets"
_NUM_ITEMS = "number of items"
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


def differences(first: Scored, second: Scored) -> tuple[Difference, ...]:
    """Everything known on both sides that differs, conditions first, then items."""
    return _all_differences(first, second, compare_prompts(first, second))


def unknown_conditions(first: Scored, second: Scored) -> tuple[str, ...]:
    """The conditions that only one side tells, so that nobody can say whether they differ."""
    return _unknown(first, second, compare_prompts(first, second))


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
    prompts = compare_prompts(first, second)
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
    num_shared = len(join(first.items, second.items)[0])
    left, right = join(first.items, second.items, prompts.conflicting)
    num_tasks = max(len(side.stratum_weights) for side in (first.items, second.items))
    if len(np.unique(left.strata)) < num_tasks:
        raise NotComparableError(
            f"{first.record.label}: {names[0]} and {names[1]} share no item"
            f"{' of some single task' if num_tasks > 1 else ''} that was put to"
            " both with the same prompt; evaluate both on the same items"
        )
    extra = [len(side) - num_shared for side in (first.items, second.items)]
    reasons = [
        f"{num:,} that only {name} has" for num, name in zip(extra, names, strict=True) if num
    ]
    num_conflicting = num_shared - len(left)
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


def _all_differences(first: Scored, second: Scored, prompts: Prompts) -> tuple[Difference, ...]:
    return (*_of_conditions(first, second, prompts), *_of_items(first, second, prompts))


def _unknown(first: Scored, second: Scored, prompts: Prompts) -> tuple[str, ...]:
    left, right = (conditions_for(s, has_items=_have_items(first, second)) for s in (first, second))
    names = [
        name
        for name in dict.fromkeys((*left, *right))
        if (left.get(name) is None) != (right.get(name) is None)
        and not (prompts.are_all_told and decides_prompts(name, first.score.metric))
    ]
    return (*names, *[_PROMPTS] * (prompts.is_told[0] != prompts.is_told[1]))


def _have_items(first: Scored, second: Scored) -> bool:
    return first.items is not None and second.items is not None


def _refuse(
    first: Scored, second: Scored, found: tuple[Difference, ...], *, shared_items: bool
) -> None:
    can_join = _have_items(first, second)
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
    if all(one.what == _NUM_ITEMS for one in found):
        return "evaluate both on the same items, or with samples, which can be joined"
    return "evaluate both in the same way"


def _of_conditions(first: Scored, second: Scored, prompts: Prompts) -> Iterator[Difference]:
    for what in _WHICH_SCORE:
        values = getattr(first.score, what), getattr(second.score, what)
        if values[0] != values[1]:
            yield Difference(what, values[0], values[1])
    better = first.score.higher_is_better, second.score.higher_is_better
    if None not in better and better[0] != better[1]:
        here, there = ("more" if side else "less" for side in better)
        yield Difference("which is better", here, there)
    left, right = (conditions_for(s, has_items=_have_items(first, second)) for s in (first, second))
    for name in left:
        if name in right and differs(left[name], right[name]):
            is_of_items = prompts.are_all_told and decides_prompts(name, first.score.metric)
            # Prompts that agree say more than what they were made of.
            if is_of_items and not prompts.conflicting:
                continue
            here, there = texts_of(left[name], right[name])
            yield Difference(name, here, there, is_of_items)


def _of_items(first: Scored, second: Scored, prompts: Prompts) -> Iterator[Difference]:
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
            yield Difference(_NUM_ITEMS, f"{sizes[0]:,}", f"{sizes[1]:,}")
        return
    num_shared = len(join(first.items, second.items)[0])
    extra = [len(side) - num_shared for side in (first.items, second.items)]
    if any(extra):
        here, there = (
            f"{num:,} of {len(side):,} items only there"
            for num, side in zip(extra, (first.items, second.items), strict=True)
        )
        yield Difference(_ITEMS, here, there, is_of_items=True)
    yield from _of_units(*join(first.items, second.items, prompts.conflicting))
    if common_weighting(first.items, second.items) is None:
        here, there = (_weights_text(side) for side in (first.items, second.items))
        yield Difference("weights of the single tasks", here, there)


def _weights_text(items: ItemScores) -> str:
    found = weightings(items)[0]
    return ", ".join(f"{w:.4g}" for w in items.stratum_weights) if found == "other" else found


def _of_units(first: ItemScores, second: ItemScores) -> Iterator[Difference]:
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
