"""One score with its interval, and the difference of two with its test, by the kind of metric.

This is the door to the layer: a table, a gate and a comparison all ask here, so they agree.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np

from suite.records import Comparison, Estimate, MetricScore
from suite.results.item_scores import ItemScores
from suite.stats.averages import (
    check_same_items,
    difference_error,
    has_few_clusters,
    is_plain_binary,
    item_weights,
    items_error,
    satterthwaite,
)
from suite.stats.discordant import Variant, exact_interval
from suite.stats.intervals import MeanError, Tested, wilson_interval
from suite.stats.paired import mcnemar, paired_bootstrap, sign_flip
from suite.stats.power import mde_exact, mde_normal
from suite.stats.ratio import ratio_difference, ratio_interval
from suite.stats.resamples import NUM_RESAMPLES, Counts, resample_counts

Test = Literal["auto", "exact", "mid-p", "t", "bootstrap", "sign-flip"]

# Replicates that lie outside of a limit: with fewer, where it is found is mostly chance.
MIN_OUTSIDE = 10
# Items beyond which a bootstrap gives way to the t test: its resamples would take over 400 MB, and
# with so many items the two are alike.
MAX_DRAWN = 40_000
NOT_BINARY = "McNemar's test needs unclustered items that score 0 or 1 and all count the same"


def estimate(items: ItemScores, *, level: float = 0.95, counts: Counts | None = None) -> Estimate:
    """The score behind a cell with its interval.

    0/1 scores of unclustered items that all count the same: Wilson (of a group, this leaves out
    what strata would gain). Other means: t, stratified over the single tasks of a group, clustered
    where items share a text. Ratio metrics: bootstrap over documents, or t of the linearised ratio
    where the level asks for more resamples than there are, or the documents are very many.

    Args:
        items: The items' scores.
        level: Nominal coverage.
        counts: `[R, n]` of `resample_counts`, shared by all models of a task; used for ratio
            metrics alone, and made where it is None.
    """
    if is_plain_binary(items):
        return wilson_interval(int(items.values.sum()), len(items), level=level)
    if items.aggregation == "mean" or not can_be_drawn(items, level, counts):
        return items_error(items).estimate(level)
    return ratio_interval(items, _drawn(items, counts), level=level)


def compare(
    new: ItemScores,
    reference: ItemScores,
    *,
    level: float = 0.95,
    test: Test = "auto",
    counts: Counts | None = None,
) -> Comparison:
    """The difference new - reference over the same items, in the metric's unit, with its test.

    "auto" takes the exact McNemar test for 0/1 scores of unclustered items that all count the
    same, the bootstrap over documents for ratio metrics, else the paired t test, stratified or
    clustered as the items are. A bootstrap whose level asks for more resamples than there are, or
    of more than `MAX_DRAWN` items, gives way to the t test, of the linearised ratios for a ratio
    metric.

    Args:
        new: Scores of the model in question.
        reference: Scores of the one it is compared with, under the same keys.
        level: Coverage of the interval; 1 - level is the level that the MDE is given for.
        test: Which test; one that the metric does not allow gives a reason in place of a p-value.
            "sign-flip" has the interval of the t test, "mid-p" the MDE of the exact test.
        counts: `[R, n]` of `resample_counts`, shared by all pairs of a task; made where a
            bootstrap needs it and it is None.

    Raises:
        NotComparableError: other items, or another way to aggregate them.
    """
    check_same_items(new, reference)
    if new.clusters is None:
        new = replace(new, clusters=reference.clusters)
    is_plain = is_plain_binary(new) and is_plain_binary(reference)
    if test == "auto":
        test = "bootstrap" if new.aggregation != "mean" else "exact" if is_plain else "t"
    error = difference_error(new, reference)
    if test in ("exact", "mid-p"):
        variant: Variant = "exact" if test == "exact" else "mid-p"
        name = "exact McNemar" if test == "exact" else "McNemar, mid-p"
        if is_plain and len(new) > 0:
            return _mcnemar(new, reference, level, variant, name)
        reason = error.reason if len(new) == 0 else NOT_BINARY
        nothing = Estimate(error.mean, None, None, level, len(new), name, reason)
        return _comparison(new, reference, Tested(nothing, None), name, error)
    if test == "bootstrap" and can_be_drawn(new, level, counts):
        tested = _bootstrap(new, reference, level, _drawn(new, counts))
        return _comparison(new, reference, tested, f"paired {tested.difference.method}", error)
    tested, name = Tested(error.estimate(level), error.p_value()), _t_name(error)
    if test == "sign-flip":
        tested, name = _sign_flip(new, reference, tested), "sign-flip permutation"
    return _comparison(new, reference, tested, name, error)


def compare_aggregates(
    new: MetricScore,
    reference: MetricScore,
    *,
    level: float = 0.95,
    num_items: tuple[int, int] | None = None,
) -> Comparison:
    """The difference new - reference of two aggregates of which no items are known.

    Unpaired, from the runs' own standard errors, so far wider than a paired comparison of the same
    runs: by t with Welch's degrees of freedom where the numbers of items are known, else normal.

    Args:
        new: The metric in one run.
        reference: The same metric in the other.
        level: Coverage of the interval.
        num_items: Of both runs; without them `n` of the estimate is 0.
    """
    name, n = "Welch, unpaired", min(num_items) if num_items else 0
    difference, stderr, df, reason = None, None, math.inf, None
    if new.value is None or reference.value is None:
        reason = "one of the runs has no score"
    else:
        difference = new.value - reference.value
        if new.stderr is None or reference.stderr is None:
            reason = f"{new.metric} has neither items nor a standard error in both runs"
        elif not (new.stderr > 0 and reference.stderr > 0):
            reason = "a standard error of 0 tells nothing about chance, and there are no items"
        else:
            parts = np.array([new.stderr, reference.stderr]) ** 2
            stderr = math.sqrt(parts.sum())
            if n > 1 and num_items:
                df = satterthwaite(parts, np.array(num_items) - 1.0)
    error = MeanError(difference, stderr, df, n, name, reason)
    mde = _mde(error, level)
    return Comparison(error.estimate(level), error.p_value(), name, False, mde=mde, reason=reason)


def can_be_drawn(items: ItemScores, level: float, counts: Counts | None = None) -> bool:
    """Whether a bootstrap of these items is used at this level, or gives way to the t test."""
    return len(items) <= MAX_DRAWN and has_resamples_for(level, counts)


def has_resamples_for(level: float, counts: Counts | None = None) -> bool:
    """Whether enough replicates lie outside of the limits of this level to place them."""
    num = NUM_RESAMPLES if counts is None else len(counts)
    return (1.0 - level) / 2.0 * (num + 1) >= MIN_OUTSIDE


def _drawn(items: ItemScores, counts: Counts | None) -> Counts:
    if counts is not None or len(items) == 0:
        return np.empty((0, 0), dtype=np.uint8) if counts is None else counts
    return resample_counts(len(items), clusters=items.clusters, strata=items.strata)


def _mcnemar(
    new: ItemScores, reference: ItemScores, level: float, variant: Variant, name: str
) -> Comparison:
    n, won = len(new), int(np.count_nonzero(new.values > reference.values))
    lost = int(np.count_nonzero(new.values < reference.values))
    low, high = exact_interval(won, lost, n, level=level, variant=variant)
    mde = mde_exact(n, (won + lost) / n, alpha=1.0 - level)
    no_mde = f"too few items ({n:,}) to find any difference at this level"
    better, worse, unknown = _better_and_worse(new, reference)
    return Comparison(
        difference=Estimate((won - lost) / n, low, high, level, n, name),
        p_value=mcnemar(won, lost, variant=variant),
        test=name,
        paired=True,
        num_better=better,
        num_worse=worse,
        mde=mde,
        reason=_joined(no_mde if mde is None else None, unknown),
    )


def _bootstrap(new: ItemScores, reference: ItemScores, level: float, counts: Counts) -> Tested:
    if new.aggregation != "mean":
        return ratio_difference(new, reference, counts, level=level)
    weights = item_weights(new.strata, new.stratum_weights)
    return paired_bootstrap(
        new.values - reference.values,
        counts,
        weights=np.zeros(len(new)) if weights is None else weights,
        clusters=new.clusters,
        strata=new.strata,
        level=level,
    )


def _sign_flip(new: ItemScores, reference: ItemScores, by_t: Tested) -> Tested:
    if new.aggregation != "mean":
        reason = "a ratio metric is no sum of differences, so their signs cannot be turned"
        nothing = replace(by_t.difference, low=None, high=None, reason=reason)
        return Tested(nothing, None)
    weights = item_weights(new.strata, new.stratum_weights)
    if by_t.difference.value is None or weights is None:
        return by_t
    if has_few_clusters(new.strata, new.clusters, new.stratum_weights):
        return by_t
    turned = (new.values - reference.values) * weights
    return Tested(by_t.difference, sign_flip(turned, clusters=new.clusters))


def _t_name(error: MeanError) -> str:
    """The t test as a reader knows it."""
    if error.method == "t":
        return "paired t"
    kind, _, units = error.method.partition(" t")
    return f"{kind} paired t{units}"


def _comparison(
    new: ItemScores, reference: ItemScores, tested: Tested, name: str, error: MeanError
) -> Comparison:
    better, worse, unknown = _better_and_worse(new, reference)
    mde = _mde(error, tested.difference.level)
    no_mde = error.reason if mde is None else None
    return Comparison(
        difference=tested.difference,
        p_value=tested.p_value,
        test=name,
        paired=True,
        num_better=better,
        num_worse=worse,
        mde=mde,
        reason=_joined(tested.difference.reason, no_mde, unknown),
    )


def _mde(error: MeanError, level: float) -> float | None:
    if error.stderr is None:
        return None
    df = None if math.isinf(error.df) else error.df
    return mde_normal(error.stderr, alpha=1.0 - level, df=df)


def _better_and_worse(
    new: ItemScores, reference: ItemScores
) -> tuple[int | None, int | None, str | None]:
    """Items on which the new model does better and worse, or why that is not known."""
    larger = int(np.count_nonzero(new.values > reference.values))
    smaller = int(np.count_nonzero(new.values < reference.values))
    # A document's log-likelihood, whatever is made of it, is better when it is larger.
    is_up = True if new.aggregation != "mean" else new.higher_is_better
    if is_up is None:
        is_up = reference.higher_is_better
    if is_up is None:
        return None, None, "whether larger is better is not known"
    return (larger, smaller, None) if is_up else (smaller, larger, None)


def _joined(*reasons: str | None) -> str | None:
    """The distinct reasons as one text, or None."""
    told = dict.fromkeys(reason for reason in reasons if reason)
    return "; ".join(told) or None
