"""The items that two scores share, weighted in the same way on both sides."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from suite.results.item_scores import ItemScores

# Sums of the same numbers in another order.
TOLERANCE = 1e-9

Weighting = Literal["equal", "by size", "other"]


def join(
    first: ItemScores, second: ItemScores, leaving_out: Collection[bytes] = ()
) -> tuple[ItemScores, ItemScores]:
    """The items of both but for some keys, in the same order; swapping the sides swaps the result.

    Single tasks, their weights, clusters and direction are the same on both sides. A group that is
    weighted by size is weighted by how many items of each single task are shared; one of equal
    weights keeps them.
    """
    _, left, right = np.intersect1d(
        first.keys, second.keys, assume_unique=True, return_indices=True
    )
    if leaving_out:
        is_kept = ~np.isin(first.keys[left], np.array(list(leaving_out)))
        left, right = left[is_kept], right[is_kept]
    one, other = first.take(left), second.take(right)
    clusters = other.clusters if one.clusters is None else one.clusters
    better = one.higher_is_better if one.higher_is_better is not None else other.higher_is_better
    weights = one.stratum_weights
    if common_weighting(first, second) == "by size" and len(one):
        weights = np.bincount(one.strata, minlength=len(weights)) / len(one)
    one = replace(one, stratum_weights=weights, clusters=clusters, higher_is_better=better)
    return one, replace(
        other,
        strata=one.strata,
        stratum_weights=weights,
        clusters=clusters,
        higher_is_better=better,
    )


def common_weighting(first: ItemScores, second: ItemScores) -> Weighting | None:
    """How both weigh their single tasks; None where they do it differently."""
    found = weightings(first), weightings(second)
    common = next((one for one in found[0] if one in found[1]), None)
    if common == "other" and not _is_close(first.stratum_weights, second.stratum_weights):
        return None
    return common


def weightings(items: ItemScores) -> tuple[Weighting, ...]:
    """Every reading of the weights of a score's single tasks; "equal" comes first.

    Both readings hold where the single tasks are of one size.
    """
    weights = items.stratum_weights
    sizes = np.bincount(items.strata, minlength=len(weights))
    found: list[Weighting] = []
    if _is_close(weights, np.full(len(weights), 1 / len(weights))):
        found.append("equal")
    if _is_close(weights, sizes / len(items)):
        found.append("by size")
    return tuple(found) or ("other",)


def _is_close(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    return len(first) == len(second) and np.allclose(first, second, rtol=TOLERANCE, atol=0)
