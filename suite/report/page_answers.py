"""What the page says of models' answers: how alike they are, and whether confidence is earned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from suite.report.page_data import HeatMap, ReliabilityCurve
from suite.results.item_table import answers_of
from suite.results.scored import Scored
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
    codes = _codes([answers[model] for model in known])
    alike = [((codes == own) & (own >= 0)).sum(axis=1).tolist() for own in codes]
    both = [((codes >= 0) & (own >= 0)).sum(axis=1).tolist() for own in codes]
    values = tuple(
        tuple(num / n if n else None for num, n in zip(row, ns, strict=True))
        for row, ns in zip(alike, both, strict=True)
    )
    return HeatMap(tuple(known), values, tuple(map(tuple, both)))


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
    found = [answers_of(table, scored.score.metric) for table in scored.tables]
    known = [answers for answers in found if not isinstance(answers, str)]
    if not known or len(known) < len(found):
        return np.array([], dtype="S1"), np.array([], dtype="S1")
    if len(known) == 1:
        return scored.tables[0].keys, known[0]
    keys = np.concatenate(
        [np.char.add(table.task.encode() + b"\0", table.keys) for table in scored.tables]
    )
    answers = np.concatenate(known)
    order = np.argsort(keys)
    return keys[order], answers[order]


def _codes(answers: Sequence[tuple[NDArray[np.bytes_], NDArray[np.bytes_]]]) -> NDArray[np.int64]:
    """M models' answers to N items as numbers `[M, N]`, equal for equal answers, -1 for none."""
    items = np.unique(np.concatenate([keys for keys, _ in answers]))
    _, numbers = np.unique(np.concatenate([found for _, found in answers]), return_inverse=True)
    codes = np.full((len(answers), len(items)), -1, dtype=np.int64)
    start = 0
    for own, (keys, found) in zip(codes, answers, strict=True):
        is_known = found != b""
        own[np.searchsorted(items, keys[is_known])] = numbers[start : start + len(found)][is_known]
        start += len(found)
    return codes
