"""The average over tasks: plain loops, Welch's test as a special case, and shared items."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from suite.results.item_scores import ItemScores
from suite.stats.averages import difference_error, items_error
from suite.stats.intervals import MeanError, mean_error, wilson_interval
from suite.stats.task_averages import (
    AveragedTask,
    average_error,
    averaged_difference,
    averaged_task,
)


def scores(values, *, keys=None, strata=None, stratum_weights=(1.0,), clusters=None) -> ItemScores:
    n = len(values)
    return ItemScores(
        keys=np.array([f"{i:04d}" for i in range(n)] if keys is None else keys, dtype="S36"),
        values=np.asarray(values, dtype=float),
        aggregation="mean",
        higher_is_better=True,
        strata=np.zeros(n, dtype=np.int64) if strata is None else np.asarray(strata),
        stratum_weights=np.asarray(stratum_weights, dtype=float),
        clusters=clusters,
    )


def average_of(tasks, names=None) -> MeanError:
    names = names or [f"task {k}" for k in range(len(tasks))]
    return average_error([averaged_task(*pair) for pair in zip(tasks, names, strict=True)])


def average_difference(new, reference) -> MeanError:
    tasks = enumerate(zip(new, reference, strict=True))
    return average_error([averaged_difference(*both, f"task {k}") for k, both in tasks])


@pytest.fixture
def rng():
    return np.random.default_rng(21)


def test_two_strata_give_welchs_degrees_of_freedom(rng):
    first, second = rng.normal(0.5, 1, 12), rng.normal(0, 3, 30)
    found = average_error([AveragedTask(mean_error(first)), AveragedTask(mean_error(-second))])
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert found.p_value() == pytest.approx(expected.pvalue, rel=1e-12)
    assert found.df == pytest.approx(expected.df, rel=1e-12)


def test_average_error_is_the_root_of_squared_weights_times_squared_errors():
    errors = [MeanError(0.5, 0.03, 40.0, 41, "t"), MeanError(0.7, 0.04, math.inf, 9, "t")]
    found = average_error([AveragedTask(error) for error in errors])
    assert found.mean == pytest.approx(0.6)
    assert found.stderr == pytest.approx(0.025)
    weighted = average_error([AveragedTask(error) for error in errors], [3, 1])
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
    found = average_error([AveragedTask(error) for error in errors], weights)
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


def test_a_task_given_twice_counts_its_items_once(rng):
    task, other = scores(rng.random(80)), scores(rng.random(50))
    once, twice = items_error(task), average_of([task, task], ["arc", "arc"])
    assert twice.stderr == pytest.approx(once.stderr, rel=1e-12)
    assert twice.df == pytest.approx(once.df)
    three = average_of([task, task, other], ["arc", "arc", "boolq"])
    expected = math.hypot(2 * once.stderr, items_error(other).stderr) / 3
    assert three.stderr == pytest.approx(expected, rel=1e-12)


def test_equal_keys_of_other_tasks_are_other_items(rng):
    task = scores(rng.random(80))
    apart = average_of([task, task], ["arc", "boolq"])
    assert apart.stderr == pytest.approx(items_error(task).stderr / math.sqrt(2), rel=1e-12)


def test_one_task_under_two_labels_has_the_error_of_the_items_sums(rng):
    first = rng.normal(size=80)
    second = first + rng.normal(size=80)
    found = average_of([scores(first), scores(second)], ["arc", "arc"])
    expected = mean_error((first + second) / 2)
    assert found.stderr == pytest.approx(expected.stderr, rel=1e-12)


def test_a_group_and_one_of_its_tasks_share_that_tasks_items(rng):
    values, strata = rng.random(30), np.repeat([0, 1], [10, 20])
    keys = [(b"a\0" if i < 10 else b"b\0") + f"{i:04d}".encode() for i in range(30)]
    group = scores(values, keys=keys, strata=strata, stratum_weights=[0.5, 0.5])
    single = scores(values[:10], keys=[f"{i:04d}" for i in range(10)])
    found = average_of([group, single], ["group", "a"])
    # The average is 3/4 of a's mean and 1/4 of b's.
    parts = mean_error(values[:10]).stderr * 0.75, mean_error(values[10:]).stderr * 0.25
    assert found.stderr == pytest.approx(math.hypot(*parts), rel=1e-12)


def test_passages_shared_by_two_labels_count_once(rng):
    clusters = np.repeat(np.arange(12), 5)
    values = rng.normal(size=12)[clusters] + rng.normal(size=60)
    task = scores(values, clusters=clusters)
    twice = average_of([task, task], ["boolq", "boolq"])
    assert twice.stderr == pytest.approx(items_error(task).stderr, rel=1e-12)


def test_constant_scores_of_the_same_items_are_as_uncertain_as_one_of_them():
    task = scores(np.ones(50))
    once, twice = averaged_task(task, "arc").error, average_of([task, task], ["arc", "arc"])
    assert twice.stderr == pytest.approx(once.stderr, rel=1e-12)


def test_errors_that_cancel_have_no_standard_error(rng):
    values = rng.random(40)
    found = average_of([scores(values), scores(1 - values)], ["arc", "arc"])
    assert (found.mean, found.stderr) == (pytest.approx(0.5), None)
    assert found.reason == "the errors of the tasks cancel out"
