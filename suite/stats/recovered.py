"""How much of a teacher a student has: share of the gap closed, and share of the score.

Both are ratios of scores over the same items, so one resample of the items serves all models and
what is common to them cancels. Whether more of the metric is better makes no difference.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from suite.records import Estimate
from suite.results.item_scores import ItemScores
from suite.stats.averages import check_same_items, has_few_clusters, item_weights
from suite.stats.intervals import MIN_CLUSTERS, too_few, why_unusable
from suite.stats.ratio import num_documents, ratio_value, resampled_ratios
from suite.stats.resamples import Counts, judge_replicates, resampled_means

# Farther than any ratio, and still a number.
FAR = 1e300


def gap_recovered(
    student: ItemScores,
    teacher: ItemScores,
    start: ItemScores,
    counts: Counts,
    *,
    level: float = 0.95,
) -> Estimate:
    """The share of the gap between start and teacher that the student closed.

    (student - start) / (teacher - start): 0 where nothing was learnt, 1 where the teacher is
    reached, beyond both possible. Undefined where the gap's own interval contains 0, because the
    denominator may then have either sign.

    Args:
        student: Scores of the trained model.
        teacher: The teacher's, over the same items.
        start: The student's before training, over the same items.
        counts: `[R, n]` of `resample_counts`, with the items' clusters and strata.
        level: Nominal coverage of the interval, a percentile one.

    Raises:
        NotComparableError: other items, or another way to aggregate them.
    """
    check_same_items(student, teacher)
    check_same_items(student, start)
    return _ratio((student, start), (teacher, start), counts, level, "the gap to the teacher")


def share_of_teacher(
    student: ItemScores, teacher: ItemScores, counts: Counts, *, level: float = 0.95
) -> Estimate:
    """The student's score over the teacher's; 1 where they are equal.

    Guessing counts as if it were learnt, so this flatters a student on tasks with few options;
    `gap_recovered` does not. Undefined where the interval of the teacher's score contains 0.

    Args:
        student: Scores of the trained model.
        teacher: The teacher's, over the same items.
        counts: `[R, n]` of `resample_counts`, with the items' clusters and strata.
        level: Nominal coverage of the interval, a percentile one.

    Raises:
        NotComparableError: other items, or another way to aggregate them.
    """
    check_same_items(student, teacher)
    return _ratio((student,), (teacher,), counts, level, "the teacher's score")


def _ratio(
    upper: tuple[ItemScores, ...],
    lower: tuple[ItemScores, ...],
    counts: Counts,
    level: float,
    lower_name: str,
) -> Estimate:
    """The ratio of two scores, or of two differences of scores, first minus second."""
    n, unit = num_documents(upper[0])
    unit = "item" if unit == "document" and upper[0].aggregation == "mean" else unit
    method = f"bootstrap over {unit}s ({len(counts):,} resamples)"
    nothing = Estimate(None, None, None, level, n, method)
    for items in upper + lower:
        if reason := why_unusable(items.values):
            return replace(nothing, reason=reason)
    if n < MIN_CLUSTERS:
        return replace(nothing, reason=too_few(n, unit))
    if has_few_clusters(upper[0].strata, upper[0].clusters, upper[0].stratum_weights):
        reason = "a single task has too few clusters for an interval: at least "
        return replace(nothing, reason=f"{reason}{MIN_CLUSTERS} are needed")
    above, below = _signed(upper, counts), _signed(lower, counts)
    if above is None or below is None:
        return replace(nothing, reason="one of the models has no score")
    gap = judge_replicates(below[1:], float(below[0]), level, n, method).difference
    if gap.low is None or gap.high is None:
        return replace(nothing, reason=f"{lower_name} has no interval: {gap.reason}")
    if gap.low <= 0 <= gap.high:
        reason = f"{lower_name} cannot be told from 0: its interval is {gap.low:.4g} to "
        return replace(nothing, reason=f"{reason}{gap.high:.4g}")
    value = float(above[0] / below[0])
    # The few resamples without a gap, or with one the other way, have a meaningless ratio. They
    # count as extreme, on the side on which they miss the line through 0 and the estimate.
    has_gap = below[1:] * below[0] > 0
    missed = (above[1:] - value * below[1:]) * np.sign(below[0])
    replicates = np.where(missed > 0, FAR, -FAR)
    np.divide(above[1:], below[1:], out=replicates, where=has_gap)
    return judge_replicates(replicates, value, level, n, method).difference


def _signed(scores: tuple[ItemScores, ...], counts: Counts) -> NDArray[np.float64] | None:
    """First score minus the others: its value, then its replicates, `[1 + R]`."""
    found = [_score(items, counts) for items in scores]
    known = [values for values in found if values is not None]
    return known[0] - sum(known[1:], np.zeros(1)) if len(known) == len(found) else None


def _score(items: ItemScores, counts: Counts) -> NDArray[np.float64] | None:
    if items.aggregation != "mean":
        value = ratio_value(items)
        return None if value is None else np.append(value, resampled_ratios(items, counts))
    weights = item_weights(items.strata, items.stratum_weights)
    if weights is None:
        return None
    replicates = resampled_means(counts, items.values, weights, items.strata)
    return np.append(weights @ items.values, replicates)
