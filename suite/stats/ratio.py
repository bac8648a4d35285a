"""Ratio metrics (bits per byte, perplexity): sums over documents, so documents are resampled.

With v the log-likelihoods of the documents in nats and w their bytes or words, r = -sum(v) / sum(w)
nats a unit; bits per byte is r / ln 2 and perplexity exp(r). A mean over documents would be another
quantity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from suite.records import Estimate
from suite.results.item_scores import Aggregation, ItemScores
from suite.stats.intervals import MIN_CLUSTERS, Tested, too_few, why_unusable
from suite.stats.resamples import Counts, judge_replicates, resampled_sums


def ratio_value(items: ItemScores) -> float | None:
    """The metric itself; None for no documents, or where their weights sum to 0."""
    if why_no_ratio(items):
        return None
    weights = _weights(items)
    return float(from_nats(-items.values.sum() / weights.sum(), items.aggregation))


def why_no_ratio(items: ItemScores) -> str | None:
    """Why the metric has no value, one clause; None where it has one."""
    weights = _weights(items)
    unusable = why_unusable(items.values) or why_unusable(weights)
    if unusable:
        return unusable.replace("items", "documents")
    if weights.sum() <= 0:
        return "the documents' weights sum to 0"
    return None


def from_nats(
    nats: float | NDArray[np.float64], aggregation: Aggregation
) -> float | NDArray[np.float64]:
    """Nats a unit in the metric's own unit."""
    return np.exp(nats) if aggregation == "perplexity" else nats / math.log(2)


def resampled_ratios(items: ItemScores, counts: Counts) -> NDArray[np.float64]:
    """The metric in every resample of the documents, `[R]`; see `resampled_ratio_columns`."""
    return resampled_ratio_columns([items], counts)[:, 0]


def resampled_ratio_columns(models: Sequence[ItemScores], counts: Counts) -> NDArray[np.float64]:
    """The metric of each of k models in every resample of the documents, `[R, k]`.

    The counts are read once for all models. A resample that drew only documents of weight 0 gives
    NaN.
    """
    columns = [column for items in models for column in (items.values, _weights(items))]
    sums = resampled_sums(counts, np.stack(columns, axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        nats = -sums[:, 0::2] / sums[:, 1::2]
    return np.stack(
        [from_nats(nats[:, k], items.aggregation) for k, items in enumerate(models)], axis=1
    )


def ratio_interval(items: ItemScores, counts: Counts, *, level: float = 0.95) -> Estimate:
    """The metric with its percentile interval over resampled documents.

    Args:
        items: A ratio metric's documents.
        counts: `[R, n]` of `resample_counts`, with the documents' clusters where they have some.
        level: Nominal coverage.
    """
    num_units, unit = num_documents(items)
    method = f"bootstrap over {unit}s ({len(counts):,} resamples)"
    value, reason = ratio_value(items), why_no_ratio(items)
    if value is None or num_units < MIN_CLUSTERS:
        reason = reason or too_few(num_units, unit)
        return Estimate(value, None, None, level, num_units, method, reason)
    replicates = resampled_ratios(items, counts)
    return judge_replicates(replicates, value, level, num_units, method).difference


def ratio_difference(
    new: ItemScores, reference: ItemScores, counts: Counts, *, level: float = 0.95
) -> Tested:
    """The difference new - reference over the same resamples of the documents they share.

    Args:
        new: Documents of one model.
        reference: The same documents of the other.
        counts: `[R, n]` of `resample_counts`, with the documents' clusters where they have some.
        level: Nominal coverage.
    """
    num_units, unit = num_documents(new)
    method = f"bootstrap over {unit}s ({len(counts):,} resamples)"
    first, second = ratio_value(new), ratio_value(reference)
    if first is None or second is None:
        reason = why_no_ratio(new) or why_no_ratio(reference)
        return Tested(Estimate(None, None, None, level, num_units, method, reason), None)
    if num_units < MIN_CLUSTERS:
        reason = too_few(num_units, unit)
        return Tested(Estimate(first - second, None, None, level, num_units, method, reason), None)
    both = resampled_ratio_columns([new, reference], counts)
    return judge_replicates(both[:, 0] - both[:, 1], first - second, level, num_units, method)


def num_documents(items: ItemScores) -> tuple[int, str]:
    """Independent units, and what one is called."""
    if items.clusters is None:
        return len(items), "document"
    return len(np.unique(items.clusters)), "cluster"


def linearised(items: ItemScores) -> NDArray[np.float64]:
    """Each document's share in the metric and in its error, `[n]`; their mean is the metric.

    u_i = f(r) + f'(r) (-(v_i + r w_i)) n / sum(w): the delta method, which makes a ratio a mean
    whose standard error is known far into the tails, where resamples run out.
    """
    weights = _weights(items)
    nats = -float(items.values.sum() / weights.sum())
    slope = math.exp(nats) if items.aggregation == "perplexity" else 1.0 / math.log(2)
    residuals = -(items.values + nats * weights) * (len(items) / weights.sum())
    return np.asarray(from_nats(nats, items.aggregation) + slope * residuals)


def _weights(items: ItemScores) -> NDArray[np.float64]:
    return np.ones(len(items)) if items.weights is None else items.weights
