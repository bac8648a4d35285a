"""Means over strata and over tasks: plain loops, and Welch's test as a special case."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from suite.errors import NotComparableError
from suite.results.item_scores import ItemScores
from suite.stats.averages import (
    average_difference,
    average_error,
    average_of,
    difference_error,
    has_equal_weights,
    item_weights,
    items_error,
    stratified_error,
)
from suite.stats.intervals import MeanError, mean_error, wilson_interval


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


def test_two_strata_give_welchs_degrees_of_freedom(rng):
    first, second = rng.normal(0.5, 1, 12), rng.normal(0, 3, 30)
    found = average_error([mean_error(first), mean_error(-second)])
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert found.p_value() == pytest.approx(expected.pvalue, rel=1e-12)
    assert found.df == pytest.approx(expected.df, rel=1e-12)


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


def test_average_error_is_the_root_of_squared_weights_times_squared_errors():
    errors = [MeanError(0.5, 0.03, 40.0, 41, "t"), MeanError(0.7, 0.04, math.inf, 9, "t")]
    found = average_error(errors)
    assert found.mean == pytest.approx(0.6)
    assert found.stderr == pytest.approx(0.025)
    weighted = average_error(errors, [3, 1])
    assert weighted.mean == pytest.approx(0.55)
    assert weighted.stderr == pytest.approx(math.hypot(0.75 * 0.03, 0.25 * 0.04))
    assert (found.n, found.method) == (50, "stratified t (2 tasks)")


@pytest.mark.parametrize(
    ("errors", "weights", "mean", "reason"),
    [
        ([], None, None, "there are no tasks"),
        ([MeanError(0.5, 0.1, 9.0, 10, "t")], [0.0], None, "the tasks' weights sum to 0"),
        (
            [MeanError(0.5, 0.1, 9.0, 10, "t"), mean_error([])],
            None,
            None,
            "1 of 2 tasks have no standard error: there are no items",
        ),
        (
            [MeanError(0.5, 0.1, 9.0, 10, "t"), mean_error([0.3])],
            None,
            0.4,
            "1 of 2 tasks have no standard error: one item has no variance",
        ),
    ],
)
def test_an_average_that_tasks_do_not_allow_says_why(errors, weights, mean, reason):
    found = average_error(errors, weights)
    assert (found.mean, found.stderr, found.reason) == (mean, None, reason)


def test_an_average_over_tasks_holds_a_task_without_any_right_answer(rng):
    some, none = scores(rng.random(80) < 0.4), scores(np.zeros(50))
    found = average_of([some, none])
    wilson = wilson_interval(0, 50)
    width = (wilson.high - wilson.low) / 2 / stats.norm.ppf(0.975)
    expected = math.hypot(items_error(some).stderr, width) / 2
    assert found.mean == pytest.approx(some.values.mean() / 2)
    assert found.stderr == pytest.approx(expected, rel=1e-12)


def test_a_paired_average_is_narrower_than_the_two_models_apart(rng):
    reference = [scores(rng.random(200) < 0.5) for _ in range(3)]
    new = [
        scores(np.where(rng.random(200) < 0.05, 1 - task.values, task.values)) for task in reference
    ]
    found = average_difference(new, reference)
    by_task = [n.values - r.values for n, r in zip(new, reference, strict=True)]
    assert found.mean == pytest.approx(np.mean([task.mean() for task in by_task]))
    expected = math.sqrt(sum(task.var(ddof=1) / 200 for task in by_task)) / 3
    assert found.stderr == pytest.approx(expected, rel=1e-12)
    assert found.stderr < average_of(new).stderr


def test_models_that_agree_on_a_whole_task_still_have_an_error_there(rng):
    task, other = scores(rng.random(100) < 0.5), scores(rng.random(100) < 0.5)
    found = average_difference([task, other], [task, scores(1 - other.values)])
    assert found.stderr > difference_error(other, scores(1 - other.values)).stderr / 2


def test_other_items_are_refused():
    longer, shorter = scores(np.zeros(3)), scores(np.zeros(2))
    message = (
        r"^the scores belong to different items \(3 and 2\): join them on the items they share "
        r"first$"
    )
    with pytest.raises(NotComparableError, match=message):
        difference_error(longer, shorter)
