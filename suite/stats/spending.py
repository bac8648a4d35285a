"""How much of the allowed error a look spends, and how its tasks share it.

Every look at a growing series is another chance of a false alarm. The levels of all looks together
sum to at most alpha, and Holm's procedure divides a look's level among its tasks, so a series in
which nothing ever changes raises any alarm with probability at most alpha, whatever the dependence
between looks (they share the pinned run and the items) and between tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from suite.errors import ConfigError


def look_alpha(look: int, *, alpha: float = 0.05, planned_looks: int | None = None) -> float:
    """The level of the look with this number, counted from 1.

    With planned looks each gets the same share. Without, look k gets alpha * 6 / (pi^2 k^2), which
    sums to alpha over an endless series.

    Raises:
        ConfigError: a look below 1, or one beyond the planned ones, whose level is spent.
    """
    if look < 1:
        raise ConfigError(f"looks are counted from 1, got {look}")
    if planned_looks is None:
        return alpha * 6 / (math.pi * look) ** 2
    if planned_looks < 1:
        raise ConfigError(f"at least one look must be planned, got {planned_looks}")
    if look > planned_looks:
        raise ConfigError(
            f"look {look} is beyond the {planned_looks} planned ones, which have spent the whole "
            f"level: pin a new reference, or check without planned looks"
        )
    return alpha / planned_looks


def holm_levels(p_values: Sequence[float], alpha: float) -> list[float]:
    """The level at which Holm's procedure finally judges each task of a look, in their order.

    Holm goes through the m p-values from small to large, holds the i-th against alpha / (m - i + 1)
    and stops at the first that is not below. A rejected task was judged at its own step's level.
    The task that stopped the procedure was judged at level L = alpha / (m - i + 1); every later one
    has a p-value at least as large, so it is not below L either, and L is its level too.

    So p < level holds exactly for the tasks Holm rejects, and an interval that agrees with its test
    (it excludes 0 exactly where p < 1 - coverage, as `exact_interval` does) excludes 0 at coverage
    1 - level exactly for these. Equality does not reject, because the interval's limit is then 0.

    Raises:
        ValueError: a p-value that is NaN or outside 0-1.
    """
    for p_value in p_values:
        if not 0 <= p_value <= 1:
            raise ValueError(f"a p-value lies between 0 and 1, got {p_value}")
    levels = [0.0] * len(p_values)
    level = 0.0
    has_stopped = False
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    for step, place in enumerate(order):
        if not has_stopped:
            level = alpha / (len(p_values) - step)
            has_stopped = not p_values[place] < level
        levels[place] = level
    return levels
