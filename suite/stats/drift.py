"""Slow drift over a series, and jumps that no training makes: flags, never verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Of two differences to the same run, if all runs answer independently: half of each one's variance
# is the shared run's.
SHARED_RUN = 0.5


@dataclass(frozen=True)
class DriftPoint:
    """The moving average at one look.

    Attributes:
        average: Of the standardised differences so far, negative for worse; None where no
            difference is known yet.
        limit: Beyond which |average| is flagged; None with it.
        is_flagged: Whether it is.
    """

    average: float | None
    limit: float | None
    is_flagged: bool


@dataclass(frozen=True)
class StandardisedDifferences:
    """Paired differences of K looks to one pinned run, in standard errors.

    Attributes:
        values: One a look; None where every item differs by the same amount, not 0.
        correlation: `[K, K]`, between looks, from the items; 0 beside one without a difference.
    """

    values: tuple[float | None, ...]
    correlation: NDArray[np.float64]


def standardise(differences: NDArray[np.float64]) -> StandardisedDifferences:
    """Mean differences over their standard errors, and how the looks hang together.

    A look on which no item differs has moved by 0 standard errors.

    Args:
        differences: `[K, n]`, new - pinned of every look on the items that all looks share.
    """
    around = differences - differences.mean(axis=1, keepdims=True)
    spread = np.sqrt((around**2).mean(axis=1))
    unit = np.divide(around, spread[:, None], out=np.zeros_like(around), where=spread[:, None] > 0)
    n = differences.shape[1]
    values = [
        float(mean / deviation * math.sqrt(n - 1)) if deviation > 0 else (None if mean else 0.0)
        for mean, deviation in zip(differences.mean(axis=1), spread, strict=True)
    ]
    return StandardisedDifferences(tuple(values), unit @ unit.T / n)


def ewma(
    values: Sequence[float | None],
    *,
    correlation: float | NDArray[np.float64] = SHARED_RUN,
    weight: float = 0.2,
    width: float = 3.0,
) -> tuple[DriftPoint, ...]:
    """Exponentially weighted moving average (Roberts 1959) of standardised differences.

    E_k = weight z_k + (1 - weight) E_{k-1} from E_0 = 0 has coefficients c_j = weight (1 -
    weight)^(k-j). For independent looks its variance is the familiar weight / (2 - weight) (1 - (1
    - weight)^(2k)). Differences to one pinned run are not independent: luck of the pinned run is in
    all of them, and checkpoints that follow each other answer alike. The limit is therefore
    width * sqrt(c' R c) with R the correlation between looks; limits for independent looks would
    flag more than one unchanging series in four within twenty looks, these about one in eighty.

    Args:
        values: One a look in their order; a None leaves the average as it is.
        correlation: `[K, K]` as `standardise` gives it, or one number for all pairs of looks.
        weight: Of the newest look.
        width: Of the limits, in standard deviations of the average.

    Raises:
        ValueError: a correlation of another shape.
    """
    num = len(values)
    matrix = np.full((num, num), correlation) if np.isscalar(correlation) else np.array(correlation)
    if matrix.shape != (num, num):
        raise ValueError(f"{num} looks need a correlation of their number, got {matrix.shape}")
    if np.isscalar(correlation):
        np.fill_diagonal(matrix, 1.0)
    points = []
    known = np.array([0.0 if value is None else value for value in values])
    coefficients = np.zeros(num)
    for place, value in enumerate(values):
        if value is not None:
            coefficients *= 1 - weight
            coefficients[place] = weight
        if not coefficients.any():
            points.append(DriftPoint(None, None, False))
            continue
        average = float(coefficients @ known)
        limit = width * math.sqrt(max(0.0, float(coefficients @ matrix @ coefficients)))
        points.append(DriftPoint(average, limit, abs(average) > limit))
    return tuple(points)


def implausible_jump(
    difference: float,
    stderr: float | None,
    *,
    is_unit_interval: bool = True,
    largest: float = 0.25,
    num_stderrs: float = 8.0,
) -> str | None:
    """Why a change against the pinned run, up or down, looks like a fault of measuring.

    A quarter of the whole scale between runs that are meant to be alike comes from a broken answer
    extractor, a changed prompt or leaked answers far more often than from training. Eight standard
    errors cannot be chance in any number of looks (p below 1e-14), and say so on large tasks, where
    they are less than a quarter; a model that was still learning when it was pinned can do this
    honestly, which is why it is a flag.

    Args:
        difference: new - pinned, in the metric's unit.
        stderr: Of the paired difference; None where it is not known.
        is_unit_interval: Whether the metric lies in 0-1; `largest` means nothing elsewhere.
        largest: The largest plausible |difference| of such a metric.
        num_stderrs: The largest plausible |difference| in standard errors.

    Returns:
        One clause, None for a plausible change.
    """
    direction = "up" if difference > 0 else "down"
    if is_unit_interval and abs(difference) > largest:
        return f"a jump {direction} by {abs(difference):.3g}, more than {largest:.3g}"
    if stderr is not None and stderr > 0 and abs(difference) > num_stderrs * stderr:
        times = abs(difference) / stderr
        return f"a jump {direction} by {times:.1f} standard errors, more than {num_stderrs:.3g}"
    return None
