"""What the page says of models' answers: how alike they are, and whether confidence is earned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from suite.report.page_data import HeatMap, ReliabilityCurve
from suite.results.scored import Scored
from suite.stats.agreement import agreement
from suite.stats.calibration import (
    brier_score_of_choice,
    expected_calibration_error,
    reliability_bins,
)
from suite.stats.resamples import Counts, resample_counts

# Enough for the two digits that the page shows of an interval's ends.
NUM_RESAMPLES = 1_000
NUM_BINS = 10


def agreement_map(models: Sequence[str], scored: Mapping[str, Scored]) -> HeatMap | None:
    """Share of equal answers for every two models of one task; None with fewer than two.

    Args:
        models: In the order of the map; those without answers are left out.
        scored: By model.
    """
    answers = {model: _answers(scored[model]) for model in models if model in scored}
    known = [model for model, (_, found) in answers.items() if (found != b"").any()]
    if len(known) < 2:
        return None
    size = len(known)
    values: list[list[float | None]] = [[None] * size for _ in known]
    counts = [[0] * size for _ in known]
    for i, first in enumerate(known):
        for j in range(i, size):
            left, right = _joined(answers[first], answers[known[j]])
            found = agreement(left, right)
            values[i][j] = values[j][i] = found.value
            counts[i][j] = counts[j][i] = found.n
    return HeatMap(tuple(known), tuple(map(tuple, values)), tuple(map(tuple, counts)))


def pooled_map(models: Sequence[str], maps: Sequence[HeatMap]) -> HeatMap | None:
    """The agreement over the items of all tasks together; None with fewer than two models."""
    known = [model for model in models if any(model in one.labels for one in maps)]
    if len(known) < 2:
        return None
    place = {model: i for i, model in enumerate(known)}
    equal = np.zeros((len(known), len(known)))
    total = np.zeros((len(known), len(known)), dtype=np.int64)
    for one in maps:
        for i, first in enumerate(one.labels):
            for j, second in enumerate(one.labels):
                value = one.values[i][j]
                if value is not None:
                    equal[place[first], place[second]] += value * one.counts[i][j]
                    total[place[first], place[second]] += one.counts[i][j]
    values = tuple(
        tuple(float(e / n) if n else None for e, n in zip(row, ns, strict=True))
        for row, ns in zip(equal, total, strict=True)
    )
    return HeatMap(tuple(known), values, tuple(tuple(map(int, row)) for row in total))


def reliability(label: str, scored: Scored) -> ReliabilityCurve | None:
    """A model's reliability on a task of choices; None where it chose nothing, or all unscored.

    Confidence is of the option of the largest summed log-likelihood, so it is judged by `acc`,
    whatever the column shows.
    """
    parts = [table for table in scored.tables if "acc" in table.metrics]
    if not parts:
        return None
    confidence = np.concatenate([table.confidence for table in parts])
    right = np.concatenate([table.metrics["acc"] for table in parts])
    is_known = ~np.isnan(confidence) & np.isin(right, (0.0, 1.0))
    if not is_known.any():
        return None
    confidence, is_right = confidence[is_known], right[is_known] == 1.0
    bins = reliability_bins(confidence, is_right, num_bins=NUM_BINS)
    return ReliabilityCurve(
        label=label,
        confidences=tuple(one.mean_confidence for one in bins),
        accuracies=tuple(one.accuracy.value or 0.0 for one in bins),
        counts=tuple(one.accuracy.n for one in bins),
        calibration_error=expected_calibration_error(
            confidence, is_right, num_bins=NUM_BINS, counts=_counts(len(confidence))
        ),
        brier=brier_score_of_choice(confidence, is_right),
    )


@lru_cache(maxsize=2)
def _counts(n: int) -> Counts:
    """One matrix for all models of a task, which mostly have the same number of items."""
    return resample_counts(n, NUM_RESAMPLES)


def _answers(scored: Scored) -> tuple[NDArray[np.bytes_], NDArray[np.bytes_]]:
    """Sorted keys and answers; items of the members of a group stay apart."""
    if not scored.tables:
        return np.array([], dtype="S1"), np.array([], dtype="S1")
    if len(scored.tables) == 1:
        return scored.tables[0].keys, scored.tables[0].answers
    keys = np.concatenate(
        [np.char.add(table.task.encode() + b"\0", table.keys) for table in scored.tables]
    )
    answers = np.concatenate([table.answers for table in scored.tables])
    order = np.argsort(keys)
    return keys[order], answers[order]


def _joined(
    first: tuple[NDArray[np.bytes_], NDArray[np.bytes_]],
    second: tuple[NDArray[np.bytes_], NDArray[np.bytes_]],
) -> tuple[NDArray[np.bytes_], NDArray[np.bytes_]]:
    if np.array_equal(first[0], second[0]):
        return first[1], second[1]
    _, left, right = np.intersect1d(first[0], second[0], assume_unique=True, return_indices=True)
    return first[1][left], second[1][right]
