"""Means over strata against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from suite.errors import NotComparableError
from suite.results.item_scores import ItemScores
from suite.stats.averages import (
    difference_error,
    has_equal_weights,
    item_weights,
    stratified_error,
)
from suite.stats.intervals import clustered_error, mean_error


def scores(values, strata=None, stratum_weights=(1.0,), clusters=None) -> ItemScores:
    n = len(values)
    return ItemScores(
        keys=np.array([f"{i:04d}" for i in range(n)], dtype="S36"),
        values=np.asarray(values, dtype=float),
        aggregation="mean",
        higher_is_better=True,
        strata=np.zeros(n, dtype=np.int64) if strata is None else np.asarray(strata),
        stratum_weights=np.asarray(stratum_weights, dtype=float),
        clusters=clusters,
    )


@pytest.fixture
def rng():
    return np.random.default_rng(21)


def test_items_share_the_weight_of_their_stratum():
    weights = item_weights(np.array([0, 1, 1, 1, 0]), np.array([0.4, 0.6]))
    assert weights == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.2])
    assert has_equal_weights(weights)
    assert not has_equal_weights(item_weights(np.array([0, 1, 1]), np.array([0.5, 0.5])))


def test_a_stratum_without_items_leaves_the_mean_undefined():
    assert item_weights(np.array([0, 0]), np.array([0.5, 0.5])) is None
    found = stratified_error(np.ones(2), np.array([0, 0]), np.array([0.5, 0.5]))
    assert (found.mean, found.reason) == (None, "one of the single tasks has no items")


def test_stratified_error_equals_plain_loops(rng):
    strata = np.repeat([0, 1, 2], [5, 9, 20])
    values, weights = rng.normal(size=34), [0.5, 0.3, 0.2]
    mean = variance = uncertain = 0.0
    for stratum, weight in enumerate(weights):
        inside = [v for v, s in zip(values, strata, strict=True) if s == stratum]
        n, middle = len(inside), sum(inside) / len(inside)
        part = weight**2 * sum((v - middle) ** 2 for v in inside) / (n - 1) / n
        mean, variance, uncertain = (
            mean + weight * middle,
            variance + part,
            uncertain + part**2 / (n - 1),
        )
    found = stratified_error(values, strata, np.array(weights))
    assert found.mean == pytest.approx(mean, rel=1e-12)
    assert found.stderr == pytest.approx(math.sqrt(variance), rel=1e-12)
    assert found.df == pytest.approx(variance**2 / uncertain, rel=1e-12)
    assert found.method == "stratified t (3 single tasks)"


def test_one_stratum_gives_the_plain_mean(rng):
    values = rng.normal(size=15)
    assert stratified_error(values, np.zeros(15, int), np.ones(1)) == mean_error(values)


def test_a_stratum_of_weight_zero_counts_for_nothing(rng):
    values = rng.normal(size=20)
    strata = np.repeat([0, 1], 10)
    found = stratified_error(values, strata, np.array([1.0, 0.0]))
    assert found == mean_error(values[:10])


def test_clusters_may_reach_over_strata(rng):
    strata = np.repeat([0, 1], [24, 16])
    clusters = np.concatenate([np.arange(24) % 12, np.arange(16) % 12])
    values, weights = rng.normal(size=40), [0.5, 0.5]
    means = [values[:24].mean(), values[24:].mean()]
    sums = dict.fromkeys(range(12), 0.0)
    for value, stratum, cluster in zip(values, strata, clusters, strict=True):
        sums[int(cluster)] += weights[stratum] / (24, 16)[stratum] * (value - means[stratum])
    stderr = math.sqrt(12 / 11 * sum(total**2 for total in sums.values()))
    found = stratified_error(values, strata, np.array(weights), clusters)
    assert found.mean == pytest.approx(sum(means) / 2, rel=1e-12)
    assert found.stderr == pytest.approx(stderr, rel=1e-12)


def nested(rng, num_clusters, size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, strata and clusters of a group whose tasks have so many passages each."""
    num = sum(num_clusters)
    passages = np.repeat(np.arange(num), size)
    strata = np.repeat(np.arange(len(num_clusters)), np.array(num_clusters) * size)
    values = rng.normal(size=num)[passages] + rng.normal(0, 0.5, num * size)
    return values, strata, passages


def test_clusters_within_strata_are_strata_of_clusters(rng):
    values, strata, clusters = nested(rng, (12, 15), 4)
    weights = np.array([0.7, 0.3])
    first, second = (clustered_error(values[strata == s], clusters[strata == s]) for s in (0, 1))
    parts = (0.7 * first.stderr) ** 2, (0.3 * second.stderr) ** 2
    found = stratified_error(values, strata, weights, clusters)
    assert found.mean == pytest.approx(0.7 * first.mean + 0.3 * second.mean, rel=1e-12)
    assert found.stderr == pytest.approx(math.sqrt(sum(parts)), rel=1e-12)
    assert found.df == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 11 + parts[1] ** 2 / 14))
    assert (found.n, found.method) == (27, "clustered t (27 clusters in 2 single tasks)")


def test_a_single_task_with_few_clusters_leaves_the_group_without_an_interval(rng):
    values, strata, clusters = nested(rng, (2,) * 20, 5)
    found = stratified_error(values, strata, np.full(20, 0.05), clusters)
    assert found.mean == pytest.approx(values.mean())
    assert (found.stderr, found.reason) == (
        None,
        "in 20 of 20 single tasks 2 clusters are too few for an interval: at least 10 are needed",
    )


def test_a_single_task_without_passages_needs_no_ten_items(rng):
    values, strata, clusters = nested(rng, (12,), 4)
    values, strata = np.append(values, [0.1, 0.5, 0.2]), np.append(strata, [1, 1, 1])
    clusters = np.append(clusters, [100, 101, 102])
    found = stratified_error(values, strata, np.array([0.5, 0.5]), clusters)
    parts = clustered_error(values[:48], clusters[:48]), mean_error(values[48:])
    assert found.stderr == pytest.approx(math.hypot(*(0.5 * part.stderr for part in parts)))


def test_intervals_of_clusters_within_strata_hold_the_truth():
    rng, held = np.random.default_rng(0), []
    for _ in range(400):
        values, strata, clusters = nested(rng, (10,) * 5, 4)
        found = stratified_error(values, strata, np.full(5, 0.2), clusters).estimate(0.95)
        held.append(found.low <= 0 <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(
    ("values", "strata", "reason"),
    [
        ([1.0, 0.0, 1.0], [0, 0, 1], "1 single task has only one item"),
        ([1.0, 0.0], [0, 1], "no single task has any variance"),
        ([1.0, 1.0, 0.0, 0.0], [0, 0, 1, 1], "no single task has any variance"),
        ([], [], "there are no items"),
    ],
)
def test_strata_that_tell_no_variance_say_why(values, strata, reason):
    found = stratified_error(np.array(values), np.array(strata, dtype=int), np.array([0.5, 0.5]))
    assert (found.stderr, found.reason) == (None, reason)


def test_other_items_are_refused():
    longer, shorter = scores(np.zeros(3)), scores(np.zeros(2))
    message = (
        r"^the scores belong to different items \(3 and 2\): join them on the items they share "
        r"first$"
    )
    with pytest.raises(NotComparableError, match=message):
        difference_error(longer, shorter)
