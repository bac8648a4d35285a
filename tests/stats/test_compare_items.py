"""Which interval and which test a score gets, and what is said where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from suite.errors import NotComparableError
from suite.records import Estimate, MetricScore
from suite.results.item_scores import ItemScores
from suite.stats.averages import items_error
from suite.stats.compare import compare, compare_aggregates, estimate
from suite.stats.discordant import exact_interval
from suite.stats.intervals import clustered_interval, mean_interval, wilson_interval
from suite.stats.paired import mcnemar, paired_bootstrap, paired_t, sign_flip
from suite.stats.power import mde_exact, mde_normal
from suite.stats.ratio import linearised, ratio_difference, ratio_interval
from suite.stats.resamples import resample_counts


def scores(values, aggregation="mean", *, higher=True, **columns) -> ItemScores:
    n = len(values)
    columns = {"strata": np.zeros(n, dtype=np.int64), "stratum_weights": np.ones(1)} | columns
    return ItemScores(
        keys=np.array([f"{i:04d}" for i in range(n)], dtype="S36"),
        values=np.asarray(values, dtype=float),
        aggregation=aggregation,
        higher_is_better=higher,
        **columns,
    )


@pytest.fixture
def rng():
    return np.random.default_rng(77)


@pytest.fixture
def binary(rng):
    reference = rng.random(120) < 0.6
    return np.where(rng.random(120) < 0.15, ~reference, reference), reference


@pytest.fixture
def documents(rng):
    weights = rng.integers(50, 500, 60).astype(float)
    reference = -weights * rng.normal(0.8, 0.1, 60)
    return reference + weights * rng.normal(0.02, 0.03, 60), reference, weights


def test_binary_scores_have_wilsons_interval(binary):
    new, _ = binary
    assert estimate(scores(new), level=0.9) == wilson_interval(int(new.sum()), 120, level=0.9)


def test_other_means_have_a_t_interval(rng):
    values = rng.random(40)
    assert estimate(scores(values)) == mean_interval(values)


def test_clustered_binary_scores_have_a_clustered_interval(binary):
    new, _ = binary
    clusters = np.arange(120) // 5
    assert estimate(scores(new, clusters=clusters)) == clustered_interval(new, clusters)


def test_a_group_whose_items_count_the_same_is_one_binary_sample(binary):
    new, reference = binary
    group = {"strata": np.repeat([0, 1], [90, 30]), "stratum_weights": np.array([0.75, 0.25])}
    assert estimate(scores(new, **group)).method == "Wilson"
    assert compare(scores(new, **group), scores(reference, **group)).test == "exact McNemar"


def test_a_group_whose_items_count_differently_is_stratified(binary):
    new, reference = binary
    group = {"strata": np.repeat([0, 1], [90, 30]), "stratum_weights": np.array([0.5, 0.5])}
    found = estimate(scores(new, **group))
    assert found.value == pytest.approx((new[:90].mean() + new[90:].mean()) / 2)
    assert found.method == "stratified t (2 single tasks)"
    compared = compare(scores(new, **group), scores(reference, **group))
    assert compared.test == "stratified paired t (2 single tasks)"
    assert compared.difference == items_error(
        scores(new.astype(float) - reference, **group)
    ).estimate(0.95)


def test_binary_scores_are_compared_by_mcnemars_exact_test(binary):
    new, reference = binary
    won, lost = int((new & ~reference).sum()), int((~new & reference).sum())
    found = compare(scores(new), scores(reference), level=0.9)
    assert found.p_value == mcnemar(won, lost)
    limits = exact_interval(won, lost, 120, level=0.9)
    assert (found.difference.low, found.difference.high) == limits
    assert found.difference.value == (won - lost) / 120
    assert (found.num_better, found.num_worse, found.paired) == (won, lost, True)
    assert found.mde == mde_exact(120, (won + lost) / 120, alpha=1 - 0.9)
    assert found.test == "exact McNemar"


def test_mid_p_has_its_own_interval_and_name(binary):
    new, reference = binary
    won, lost = int((new & ~reference).sum()), int((~new & reference).sum())
    found = compare(scores(new), scores(reference), test="mid-p")
    assert found.p_value == mcnemar(won, lost, variant="mid-p")
    limits = exact_interval(won, lost, 120, level=0.95, variant="mid-p")
    assert (found.difference.low, found.difference.high) == limits
    assert found.test == "McNemar, mid-p"


@given(
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(1, 30),
    st.sampled_from(["auto", "mid-p", "t", "sign-flip"]),
)
def test_exchanging_the_models_mirrors_the_comparison(won, lost, neither, test):
    new = scores([1.0] * won + [0.0] * (lost + neither))
    reference = scores([0.0] * won + [1.0] * lost + [0.0] * neither)
    here, there = compare(new, reference, test=test), compare(reference, new, test=test)
    assert here.difference.value == pytest.approx(-there.difference.value)
    assert here.p_value == there.p_value
    assert (here.num_better, here.num_worse) == (there.num_worse, there.num_better)
    assert here.reason == there.reason
    if here.difference.low is not None:
        assert here.difference.low <= here.difference.value <= here.difference.high
        assert here.difference.low == pytest.approx(-there.difference.high, abs=1e-12)


def test_other_means_are_compared_by_paired_t(rng):
    new, reference = rng.random(30), rng.random(30)
    found, expected = compare(scores(new), scores(reference)), paired_t(new - reference)
    assert (found.difference, found.p_value) == (expected.difference, expected.p_value)
    stderr = (new - reference).std(ddof=1) / math.sqrt(30)
    assert found.mde == pytest.approx(mde_normal(stderr, alpha=0.05, df=29))
    assert found.test == "paired t"


def test_clusters_of_either_side_are_used(binary):
    new, reference = binary
    clusters = np.arange(120) // 6
    found = compare(scores(new), scores(reference, clusters=clusters))
    expected = paired_t(new.astype(float) - reference, clusters=clusters)
    assert (found.difference, found.p_value) == (expected.difference, expected.p_value)
    assert found.test == "clustered paired t (20 clusters)"


def test_a_bootstrap_of_clusters_within_strata_is_as_wide_as_the_t_test(rng):
    # Passages of unequal length, in two tasks whose levels differ far more than passages do.
    clusters = np.repeat(np.arange(80), rng.integers(1, 9, 80))
    strata = (clusters >= 40).astype(np.int64)
    values = 5.0 * strata + rng.normal(size=80)[clusters]
    group = {"strata": strata, "stratum_weights": np.array([0.5, 0.5]), "clusters": clusters}
    new, reference = scores(values, **group), scores(values * 0, **group)
    by_t, drawn = (compare(new, reference, test=test).difference for test in ("t", "bootstrap"))
    assert drawn.value == pytest.approx(by_t.value)
    assert drawn.high - drawn.low == pytest.approx(by_t.high - by_t.low, rel=0.08)


@pytest.mark.parametrize("test", ["t", "bootstrap", "sign-flip"])
def test_a_single_task_of_few_clusters_has_no_interval_under_any_test(rng, test):
    clusters = np.repeat(np.arange(40), 3)
    strata = (clusters >= 36).astype(np.int64)
    group = {"strata": strata, "stratum_weights": np.array([0.5, 0.5]), "clusters": clusters}
    found = compare(scores(rng.random(120), **group), scores(rng.random(120), **group), test=test)
    assert (found.difference.low, found.p_value) == (None, None)
    assert "too few" in found.reason


def test_fewer_than_ten_clusters_give_a_reason(binary):
    new, reference = (scores(values, clusters=np.arange(120) % 4) for values in binary)
    reason = "4 clusters are too few for an interval: at least 10 are needed"
    for test in ("auto", "bootstrap", "sign-flip"):
        found = compare(new, reference, test=test)
        assert (found.p_value, found.difference.low, found.mde) == (None, None, None)
        assert found.reason == reason
        assert found.difference.value is not None
    assert estimate(new).reason == reason


def test_bootstrap_draws_both_models_together(binary):
    new, reference = binary
    counts = resample_counts(120, 800, seed=3)
    found = compare(scores(new), scores(reference), test="bootstrap", counts=counts)
    weights = np.full(120, 1 / 120)
    expected = paired_bootstrap(new.astype(float) - reference, counts, weights=weights)
    assert (found.difference, found.p_value) == (expected.difference, expected.p_value)
    assert found.test == "paired bootstrap over items (800 resamples)"


def test_sign_flips_have_the_interval_of_the_t_test(binary):
    new, reference = binary
    found = compare(scores(new), scores(reference), test="sign-flip")
    differences = new.astype(float) - reference
    assert found.p_value == pytest.approx(sign_flip(differences))
    assert found.difference == paired_t(differences).difference
    assert found.test == "sign-flip permutation"


@pytest.mark.parametrize("aggregation", ["bits_per_byte", "perplexity"])
def test_ratio_metrics_are_bootstrapped_over_documents(documents, aggregation):
    *pair, weights = documents
    new, reference = (scores(v, aggregation, higher=False, weights=weights) for v in pair)
    counts = resample_counts(60, 900)
    assert estimate(new, counts=counts) == ratio_interval(new, counts)
    found = compare(new, reference, counts=counts)
    expected = ratio_difference(new, reference, counts)
    assert (found.difference, found.p_value) == (expected.difference, expected.p_value)
    assert found.test == "paired bootstrap over documents (900 resamples)"
    assert found.difference.value < 0
    assert found.num_better == int((new.values > reference.values).sum())
    assert found.num_better > found.num_worse


def test_levels_beyond_the_resamples_use_the_linearised_ratio(documents):
    *pair, weights = documents
    new, reference = (scores(v, "bits_per_byte", higher=False, weights=weights) for v in pair)
    found = compare(new, reference, level=0.9999)
    expected = paired_t(linearised(new) - linearised(reference), level=0.9999)
    assert found.test == "linearised paired t"
    assert found.p_value == expected.p_value
    assert found.difference.high == expected.difference.high
    assert estimate(new, level=0.9999).method == "linearised t"


@pytest.mark.parametrize("level", [0.95, 0.9999])
def test_few_documents_have_neither_interval_nor_p_value(level):
    new = scores(-np.arange(1.0, 6.0), "bits_per_byte", weights=np.full(5, 3.0))
    reference = scores(-(np.arange(1.0, 6.0) ** 1.1), "bits_per_byte", weights=np.full(5, 3.0))
    reason = "5 documents are too few for an interval: at least 10 are needed"
    found = compare(new, reference, level=level)
    assert found.difference.value == pytest.approx(
        estimate(new, level=level).value - estimate(reference, level=level).value
    )
    assert (found.difference.low, found.p_value, found.mde, found.reason) == (
        None,
        None,
        None,
        reason,
    )
    assert estimate(new, level=level).reason == reason


def test_bootstrap_and_linearised_intervals_of_many_documents_agree(rng):
    weights = rng.integers(50, 500, 2000).astype(float)
    reference = -weights * rng.normal(0.8, 0.1, 2000)
    new = reference + weights * rng.normal(0.0, 0.03, 2000)
    pair = [scores(v, "bits_per_byte", weights=weights) for v in (new, reference)]
    counts = resample_counts(2000, 4000)
    by_t, drawn = compare(*pair, test="t").difference, compare(*pair, counts=counts).difference
    width = by_t.high - by_t.low
    assert drawn.low == pytest.approx(by_t.low, abs=0.06 * width)
    assert drawn.high == pytest.approx(by_t.high, abs=0.06 * width)


def test_smaller_may_be_better(binary):
    new, reference = (scores(values, higher=False) for values in binary)
    up = compare(*(scores(values) for values in binary))
    down = compare(new, reference)
    assert (down.num_better, down.num_worse) == (up.num_worse, up.num_better)
    assert down.difference == up.difference


def test_without_a_known_direction_items_are_not_counted_as_better(binary):
    new, reference = (scores(values, higher=None) for values in binary)
    found = compare(new, reference)
    assert (found.num_better, found.num_worse) == (None, None)
    assert found.reason == "whether larger is better is not known"
    assert found.p_value is not None


def test_equal_binary_models_have_the_interval_of_the_share_of_discordant_items():
    items = scores([1.0, 0.0] * 50)
    found = compare(items, items)
    assert (found.difference.value, found.p_value) == (0.0, 1.0)
    assert found.difference.high == pytest.approx(1 - 0.025**0.01)


@pytest.mark.parametrize(
    ("values", "value", "reason"),
    [
        ([], None, "there are no items"),
        ([0.4], 0.0, "one item has no variance"),
        ([0.4] * 20, 0.0, "all 20 values are equal"),
        ([0.4, math.nan], None, "no finite number for 1 of 2 items"),
    ],
)
@pytest.mark.parametrize("test", ["t", "sign-flip"])
def test_degenerate_samples_are_none_with_a_reason(values, value, reason, test):
    items = scores(values)
    found = compare(items, items, test=test)
    assert (found.difference.value, found.difference.low, found.mde) == (value, None, None)
    assert found.reason == reason
    assert estimate(items).low is None


def test_the_exact_test_of_scores_it_does_not_fit_gives_a_reason(rng):
    found = compare(scores(rng.random(20)), scores(rng.random(20)), test="exact")
    assert (found.p_value, found.difference.low) == (None, None)
    assert found.reason == (
        "McNemar's test needs unclustered items that score 0 or 1 and all count the same"
    )


def test_sign_flips_of_a_ratio_metric_give_a_reason(documents):
    *pair, weights = documents
    found = compare(*(scores(v, "perplexity", weights=weights) for v in pair), test="sign-flip")
    assert (found.p_value, found.difference.low) == (None, None)
    assert found.reason == (
        "a ratio metric is no sum of differences, so their signs cannot be turned"
    )


def test_too_few_items_for_any_difference_say_so():
    found = compare(scores([1.0] * 3), scores([0.0] * 3))
    assert (found.p_value, found.mde) == (0.25, None)
    assert found.reason == "too few items (3) to find any difference at this level"


def test_other_items_and_other_aggregations_are_refused():
    bits = scores([-1.0], "bits_per_byte", weights=np.ones(1))
    message = "^one score is a mean and the other a bits_per_byte: compare the same metric$"
    with pytest.raises(NotComparableError, match=message):
        compare(scores([1.0]), bits)
    with pytest.raises(NotComparableError, match="different items"):
        compare(scores([1.0]), scores([1.0, 0.0]))


def aggregate(value, stderr) -> MetricScore:
    return MetricScore("acc", "none", value, stderr, True)


def test_aggregates_are_compared_unpaired_with_welchs_degrees_of_freedom(rng):
    first, second = rng.normal(0, 1, 20), rng.normal(0.5, 2, 35)
    found = compare_aggregates(
        aggregate(first.mean(), stats.sem(first)),
        aggregate(second.mean(), stats.sem(second)),
        num_items=(20, 35),
    )
    expected = stats.ttest_ind(first, second, equal_var=False)
    limits = expected.confidence_interval()
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-12)
    assert (found.difference.low, found.difference.high) == pytest.approx(tuple(limits), rel=1e-12)
    assert (found.paired, found.test, found.num_better) == (False, "Welch, unpaired", None)


def test_aggregates_of_unknown_size_are_compared_by_the_normal_distribution():
    found = compare_aggregates(aggregate(0.5, 0.03), aggregate(0.4, 0.04))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(2.0), rel=1e-12)
    assert found.mde == pytest.approx(mde_normal(0.05, alpha=0.05))


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (aggregate(None, 0.1), "one of the runs has no score"),
        (aggregate(0.5, None), "acc has neither items nor a standard error in both runs"),
        (
            aggregate(0.0, 0.0),
            "a standard error of 0 tells nothing about chance, and there are no items",
        ),
    ],
)
def test_aggregates_without_errors_are_not_tested(new, reason):
    found = compare_aggregates(new, aggregate(0.4, 0.04))
    value = None if new.value is None else pytest.approx(new.value - 0.4)
    assert (found.p_value, found.mde, found.reason) == (None, None, reason)
    expected = Estimate(value, None, None, 0.95, 0, "Welch, unpaired", reason)
    assert found.difference == expected


def test_more_documents_than_resamples_fit_are_judged_by_t(documents, monkeypatch):
    new, reference, weights = documents
    monkeypatch.setattr("suite.stats.compare.MAX_DRAWN", 59)
    monkeypatch.setattr("suite.stats.compare.resample_counts", None)
    left, right = (scores(v, "bits_per_byte", weights=weights) for v in (new, reference))
    assert compare(left, right).test == "linearised paired t"
    assert estimate(left).method == "linearised t"
