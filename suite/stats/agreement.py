"""How alike two models are on the same items: answers, errors, distributions over options.

Legend: n items, M models, K options of an item.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from suite.records import Estimate
from suite.stats.intervals import clustered_interval, mean_interval, t_quantile, wilson_interval
from suite.stats.option_probabilities import (
    option_probabilities,
    same_length,
    why_no_probabilities,
)

Model = TypeVar("Model")


def agreement(
    first: NDArray[np.bytes_],
    second: NDArray[np.bytes_],
    *,
    level: float = 0.95,
    clusters: NDArray[np.int64] | None = None,
) -> Estimate:
    """Share of items that both models answer alike, right or wrong.

    With Wilson's interval, or a clustered one where items share a text.

    Args:
        first: `[n]`, answers or their hashes; empty where there is none. Items without an answer
            from both are left out.
        second: `[n]`, of the other model, in the same order.
        level: Nominal coverage.
        clusters: `[n]`, equal for items that share a text.
    """
    _check_same_shape(first, second)
    is_answered = (first != b"") & (second != b"")
    is_alike = (first == second)[is_answered]
    if clusters is None:
        return wilson_interval(int(is_alike.sum()), len(is_alike), level=level)
    found = clustered_interval(is_alike, clusters[is_answered], level=level)
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def double_fault(
    first: NDArray[np.bool_], second: NDArray[np.bool_], *, level: float = 0.95
) -> Estimate:
    """Share of items that both models get wrong (Giacinto and Roli 2001), with Wilson's interval.

    Args:
        first: `[n]`, whether the model is right.
        second: `[n]`, of the other model, in the same order.
        level: Nominal coverage.
    """
    _check_same_shape(first, second)
    return wilson_interval(int(np.count_nonzero(~first & ~second)), len(first), level=level)


def oracle_accuracy(correct: NDArray[np.bool_], *, level: float = 0.95) -> Estimate:
    """Share of items that at least one of the models gets right, with Wilson's interval.

    Args:
        correct: `[M, n]`.
        level: Nominal coverage.
    """
    num_solved = int(np.count_nonzero(correct.any(axis=0)))
    return wilson_interval(num_solved, correct.shape[1], level=level)


def error_correlation(
    first: NDArray[np.bool_], second: NDArray[np.bool_], *, level: float = 0.95
) -> Estimate:
    """Correlation (phi) of two models' errors; 0 for independent ones, 1 for the same ones.

    The interval is the delta method's, from each item's influence on the correlation; it makes no
    assumption on the distribution. Undefined where a model has no errors, or nothing but errors.

    Args:
        first: `[n]`, whether the model is right.
        second: `[n]`, of the other model, in the same order.
        level: Nominal coverage.
    """
    _check_same_shape(first, second)
    n, method = len(first), "delta method"
    if n == 0:
        return Estimate(None, None, None, level, 0, method, "there are no items")
    rights = np.stack([first, second]).astype(np.float64)
    for share in rights.mean(axis=1):
        if share in (0.0, 1.0):
            reason = "a model has no errors" if share else "a model has nothing but errors"
            return Estimate(None, None, None, level, n, method, reason)
    one, other = (rights - rights.mean(axis=1, keepdims=True)) / rights.std(axis=1, keepdims=True)
    phi = float(np.clip((one * other).mean(), -1.0, 1.0))
    stderr = float((one * other - phi * (one**2 + other**2) / 2).std()) / math.sqrt(n)
    if stderr < 1e-12:
        reason = f"all errors are {'shared' if phi > 0 else 'opposite'}, so nothing varies"
        return Estimate(phi, None, None, level, n, method, reason)
    distance = t_quantile((1 + level) / 2, math.inf) * stderr
    low, high = max(-1.0, phi - distance), min(1.0, phi + distance)
    return Estimate(phi, low, high, level, n, method)


def label_loyalty(
    teacher: Sequence[NDArray[np.float64]],
    student: Sequence[NDArray[np.float64]],
    *,
    level: float = 0.95,
) -> Estimate:
    """Share of items on which the student prefers the option that the teacher prefers.

    Xu et al. 2021, "Beyond Preserved Accuracy" (arXiv 2109.03228): accuracy with the teacher's
    predictions as labels. Of equally likely options the first counts as preferred.

    Args:
        teacher: `[K]` an item, log-likelihoods of its options.
        student: The same items and options.
        level: Nominal coverage.

    Raises:
        ValueError: other numbers of items or options.
    """
    _check_same_options(teacher, student)
    if reason := why_no_probabilities(teacher) or why_no_probabilities(student):
        return Estimate(None, None, None, level, len(teacher), "Wilson", reason)
    num_alike = sum(
        int(first.argmax() == second.argmax())
        for first, second in zip(teacher, student, strict=True)
    )
    return wilson_interval(num_alike, len(teacher), level=level)


def probability_loyalty(
    teacher: Sequence[NDArray[np.float64]],
    student: Sequence[NDArray[np.float64]],
    *,
    level: float = 0.95,
) -> Estimate:
    """Mean over items of 1 - sqrt(JS), 1 where all distributions are equal, 0 for disjoint ones.

    JS is the Jensen-Shannon divergence, in bits, of both models' distributions over the options
    (Xu et al. 2021, arXiv 2109.03228); the interval is the t interval of the items' values.

    Args:
        teacher: `[K]` an item, log-likelihoods of its options in nats.
        student: The same items and options.
        level: Nominal coverage.

    Raises:
        ValueError: other numbers of items or options.
    """
    _check_same_options(teacher, student)
    if reason := why_no_probabilities(teacher) or why_no_probabilities(student):
        return Estimate(None, None, None, level, len(teacher), "t", reason)
    first, second = option_probabilities(teacher), option_probabilities(student)
    values = np.empty(len(first))
    for places in same_length(first):
        p = np.stack([first[place] for place in places])
        q = np.stack([second[place] for place in places])
        middle = (p + q) / 2
        nats = (special.rel_entr(p, middle) + special.rel_entr(q, middle)).sum(axis=1) / 2
        values[places] = 1 - np.sqrt(np.clip(nats / math.log(2), 0.0, 1.0))
    return mean_interval(values, level=level)


def pairwise(
    models: Sequence[Model], measure: Callable[[Model, Model], Estimate]
) -> list[list[Estimate | None]]:
    """A symmetric measure between all pairs of M models, `[M][M]`, None on the diagonal."""
    matrix: list[list[Estimate | None]] = [[None] * len(models) for _ in models]
    for row, first in enumerate(models):
        for column in range(row):
            matrix[row][column] = matrix[column][row] = measure(first, models[column])
    return matrix


def _check_same_shape(first: NDArray[np.generic], second: NDArray[np.generic]) -> None:
    if first.shape != second.shape:
        raise ValueError(f"both models need the same items, got {len(first)} and {len(second)}")


def _check_same_options(
    teacher: Sequence[NDArray[np.float64]], student: Sequence[NDArray[np.float64]]
) -> None:
    if [len(row) for row in teacher] != [len(row) for row in student]:
        raise ValueError("teacher and student need the same items and options")
