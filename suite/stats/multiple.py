"""Corrections for testing many hypotheses at once.

A family's p-values are adjusted so that each can be held against one level. None stands for a
hypothesis without a test: it stays None and does not count as a member of the family.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from suite.stats.resamples import Counts, resampled_sums

PValue = TypeVar("PValue", float, float | None)


def holm(p_values: Sequence[PValue]) -> list[PValue]:
    """Adjusted p-values of Holm's step-down procedure (1979), in the order given.

    Controls the probability of any false rejection under every dependence between the tests.

    Raises:
        ValueError: a p-value that is NaN or outside 0-1.
    """
    known, order = _tested(p_values)
    remaining = len(order) - np.arange(len(order))
    adjusted = np.maximum.accumulate(remaining * known[order])
    return _placed(p_values, order, adjusted)


def benjamini_hochberg(p_values: Sequence[PValue]) -> list[PValue]:
    """Adjusted p-values of Benjamini and Hochberg's step-up procedure (1995), in the order given.

    Controls the expected share of false rejections under independence or positive dependence: for
    screening, not for claims.

    Raises:
        ValueError: a p-value that is NaN or outside 0-1.
    """
    known, order = _tested(p_values)
    ranks = 1 + np.arange(len(order))
    scaled = known[order] * len(order) / ranks
    adjusted = np.minimum.accumulate(scaled[::-1])[::-1]
    return _placed(p_values, order, adjusted)


def max_t(differences: NDArray[np.float64], counts: Counts) -> list[float | None]:
    """Adjusted two-sided p-values of k mean differences that share their items.

    Westfall and Young's step-down maximum (1993) with a bootstrap null: in every resample each
    mean, centred at the observed one, is divided by its standard error in that resample. Because
    one draw of the items serves all k, the dependence between the hypotheses is used and not
    guarded against, which makes this sharper than Holm where they are alike.

    A resample in which a hypothesis has no spread counts against it. A hypothesis whose differences
    are all equal has no statistic: None.

    Args:
        differences: `[k, n]`, one row of paired differences a hypothesis.
        counts: `[R, n]`, how often each resample draws each item, shared by all hypotheses.

    Raises:
        ValueError: shapes that do not belong together.
    """
    if differences.ndim != 2 or counts.ndim != 2 or differences.shape[1] != counts.shape[1]:
        raise ValueError(
            f"differences [k, n] and counts [R, n] are needed, got {differences.shape} and "
            f"{counts.shape}"
        )
    adjusted: list[float | None] = [None] * len(differences)
    has_spread = np.ptp(differences, axis=1) > 0 if differences.size else np.zeros(0, bool)
    rows = np.flatnonzero(has_spread)
    if not len(rows):
        return adjusted
    values = np.asarray(differences[rows], dtype=np.float64)
    once = np.ones((1, values.shape[1]), dtype=np.uint8)
    observed = _studentised(values, once, np.zeros(len(rows)))[0]
    null = _studentised(values, counts, values.mean(axis=1))
    order = np.argsort(-observed, kind="stable")
    largest_left = np.maximum.accumulate(null[:, order[::-1]], axis=1)[:, ::-1]
    exceeding = (largest_left >= observed[order]).sum(axis=0)
    stepwise = np.maximum.accumulate((1 + exceeding) / (1 + len(counts)))
    for place, p_value in zip(order, stepwise, strict=True):
        adjusted[rows[place]] = float(p_value)
    return adjusted


def _studentised(
    values: NDArray[np.float64], counts: Counts, centre: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`[R, k]`, |mean - centre| over its standard error; infinite without any spread."""
    num = len(values)
    # Centred before squaring: else a small variance beside a large mean would be lost.
    means = values.mean(axis=1)
    around = (values - means[:, None]).T
    columns = np.concatenate([around, around**2, np.ones((len(around), 1))], axis=1)
    sums = resampled_sums(counts, columns)
    drawn = sums[:, -1:]
    shifts = sums[:, :num] / drawn
    variances = np.maximum(sums[:, num:-1] / drawn - shifts**2, 0.0)
    is_flat = variances <= 1e-12 * around.var(axis=0)
    errors = np.sqrt(np.where(is_flat, 1.0, variances) / drawn)
    return np.where(is_flat, np.inf, np.abs(shifts + means - centre) / errors)


def _tested(p_values: Sequence[float | None]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All p-values with NaN for None, and the places of the tested ones from small to large."""
    for p_value in p_values:
        if p_value is not None and not 0 <= p_value <= 1:
            raise ValueError(f"a p-value lies between 0 and 1, got {p_value}")
    known = np.array([np.nan if p is None else p for p in p_values], dtype=np.float64)
    order = np.argsort(known, kind="stable")
    return known, order[: int(np.isfinite(known).sum())]


def _placed(
    p_values: Sequence[PValue], order: NDArray[np.int64], adjusted: NDArray[np.float64]
) -> list[PValue]:
    result = list(p_values)
    for place, value in zip(order, np.minimum(adjusted, 1.0), strict=True):
        result[place] = float(value)
    return result
