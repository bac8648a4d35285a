"""What a check says about one task of a checkpoint."""

from __future__ import annotations

import math
from typing import Literal

Verdict = Literal["regressed", "improved", "pass", "inconclusive"]


def verdict(difference: float, low: float, high: float, margin: float) -> Verdict:
    """The verdict on `new - pinned`, oriented so that more is better.

    Both must hold before a change is claimed: the interval lies on one side of 0, and the observed
    difference is at least the margin. Without a claim, "pass" says that a drop as large as the
    margin is excluded; with a margin of 0 nothing can pass without having improved.

    Args:
        difference: The observed difference d; a percentile interval need not hold it.
        low: Lower limit of d's interval at the level that this look spends.
        high: Its upper limit.
        margin: The smallest difference that matters, in the metric's unit, 0 or more.

    Raises:
        ValueError: a negative margin, limits in the wrong order, or NaN among the numbers.
    """
    if not margin >= 0:
        raise ValueError(f"a margin is 0 or more, got {margin}")
    if math.isnan(difference) or not low <= high:
        raise ValueError(f"a difference and its limits are needed, got {difference}, {low}, {high}")
    if high < 0 and difference <= -margin:
        return "regressed"
    if low > 0 and difference >= margin:
        return "improved"
    if low > -margin:
        return "pass"
    return "inconclusive"
