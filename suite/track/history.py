"""Slow drift over the looks of a series: a flag beside the verdicts.

Each check keeps what every item adds to a task's difference, so that later looks know how the looks
hang together, whether or not the runs are still there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.stats.averages import item_weights
from suite.stats.drift import ewma, standardise
from suite.stats.ratio import linearised
from suite.track.columns import pack, unpack
from suite.track.regress import TaskPair

# An average over fewer looks is no slow drift.
FEWEST_LOOKS = 3


@dataclass(frozen=True, eq=False)
class LookTerms:
    """What the items add to one task's difference at one look.

    Attributes:
        items: Hash of which items they are.
        values: `[n]`, positive where the checkpoint is better; their mean is the difference. Items
            of one cluster are one term.
    """

    items: str
    values: NDArray[np.float64]


def look_terms(pair: TaskPair) -> LookTerms:
    """The terms of one task, from its paired items."""
    new, pinned = pair.new, pair.pinned
    if new.aggregation == "mean":
        weights = item_weights(new.strata, new.stratum_weights)
        shares = np.zeros(len(new)) if weights is None else weights * len(new)
        values = (new.values - pinned.values) * shares
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            values = linearised(new) - linearised(pinned)
    if new.clusters is not None:
        _, members = np.unique(new.clusters, return_inverse=True)
        sums = np.bincount(members, values)
        values = sums * len(sums) / len(values)
    sign = 1.0 if new.higher_is_better else -1.0
    return LookTerms(hashlib.sha256(new.keys.tobytes()).hexdigest()[:32], sign * values)


def terms_to_json(terms: LookTerms) -> dict[str, Any]:
    """Plain data of the terms; single precision is enough for a flag."""
    return {"items": terms.items, "values": pack(terms.values.astype(np.float32))}


def past_terms(checks: Sequence[Mapping[str, Any]], task: str) -> list[LookTerms]:
    """The terms of one task in earlier checks, in their order; damaged ones are left out."""
    found = []
    for check in checks:
        data = check.get("terms", {}).get(task)
        if data is None:
            continue
        try:
            values = unpack(data["values"]).astype(np.float64)
        except (KeyError, TypeError, ValueError):
            continue
        found.append(LookTerms(str(data.get("items")), values))
    return found


def drift_flag(past: Sequence[LookTerms], now: LookTerms) -> str | None:
    """Whether the differences of a task have been drifting, as a clause.

    Args:
        past: Earlier looks in their order; those at other items are left out.
        now: This look.
    """
    looks = [one.values for one in past if _fits(one, now)] + [now.values]
    if len(looks) < FEWEST_LOOKS or not all(np.isfinite(values).all() for values in looks):
        return None
    found = standardise(np.stack(looks))
    point = ewma(found.values, correlation=found.correlation)[-1]
    if not point.is_flagged or point.average is None or point.limit is None:
        return None
    direction = "down" if point.average < 0 else "up"
    return (
        f"slow drift {direction}: the moving average of {len(looks)} looks is {point.average:+.1f}"
        f" standard errors from the pinned run, beyond {point.limit:.1f}"
    )


def _fits(one: LookTerms, now: LookTerms) -> bool:
    return one.items == now.items and len(one.values) == len(now.values)
