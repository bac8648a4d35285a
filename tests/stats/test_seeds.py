"""Training runs with several seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from suite.stats.seeds import Drawn, seeds_difference, seeds_interval

FEW = Drawn(num_resamples=4_000)


@pytest.fixture
def rng():
    return np.random.default_rng(31)


def runs(rng, num_seeds, n, *, seed_spread) -> np.ndarray:
    """Scores with chance in items, in seeds and in each pair of them, all of mean 0."""
    items, seeds = rng.normal(0, 1, n), rng.normal(0, seed_spread, (num_seeds, 1))
    return items + seeds + rng.normal(0, 0.5, (num_seeds, n))


def stderr_of(interval, df) -> float:
    from scipy import stats

    return (interval.high - interval.low) / 2 / stats.t.ppf(0.975, df)


def test_without_items_chance_the_error_is_that_of_the_seeds_means(rng):
    means = rng.normal(size=6)
    # Items that differ by hardly anything: only seeds vary.
    values = means[:, None] + np.linspace(0, 1e-9, 50)
    found = seeds_interval(values, drawn=Drawn(num_resamples=20_000))
    assert found.value == pytest.approx(means.mean())
    assert stderr_of(found, 5) == pytest.approx(means.std(ddof=1) / math.sqrt(6), rel=0.03)


def test_without_seeds_chance_the_error_is_that_of_the_items(rng):
    items = rng.normal(size=300)
    found = seeds_interval(np.tile(items, (4, 1)), drawn=FEW)
    assert stderr_of(found, 299) == pytest.approx(items.std(ddof=1) / math.sqrt(300), rel=0.05)


def test_chance_of_seeds_and_of_items_adds_up(rng):
    items, seeds = rng.normal(size=200), rng.normal(0, 0.1, 8)
    found = seeds_interval(seeds[:, None] + items, drawn=Drawn(num_resamples=20_000))
    by_items, by_seeds = items.var(ddof=1) / 200, seeds.var(ddof=1) / 8
    df = (by_items + by_seeds) ** 2 / (by_items**2 / 199 + by_seeds**2 / 7)
    assert stderr_of(found, df) == pytest.approx(math.sqrt(by_items + by_seeds), rel=0.03)


def test_chance_that_items_and_seeds_have_only_together_counts_once(rng):
    values = (rng.random((5, 400)) < 0.6).astype(float)
    found = seeds_interval(values, drawn=FEW)
    of_seeds, of_items = values.mean(axis=1).var(ddof=1) / 5, values.mean(axis=0).var(ddof=1) / 400
    apart = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    of_both = (apart**2).sum() / (4 * 399) / (5 * 400)
    variance = max(of_seeds + of_items - of_both, of_seeds, of_items)
    df = variance**2 / (of_seeds**2 / 4 + of_items**2 / 399)
    assert stderr_of(found, df) == pytest.approx(math.sqrt(variance), rel=0.05)


def test_intervals_of_right_and_wrong_answers_are_not_far_too_wide(rng):
    widths, found = [], []
    for _ in range(60):
        chances = np.clip(rng.normal(0.6, 0.15, 200), 0.02, 0.98)
        one, other = ((rng.random((5, 200)) < chances).astype(float) for _ in range(2))
        tested = seeds_difference(one, other, drawn=Drawn(num_resamples=300)).difference
        widths.append(tested.high - tested.low)
        found.append(tested.low <= 0 <= tested.high)
    chance = math.sqrt(2 * 0.6 * 0.4 / (5 * 200))
    # Before the correction about 1.8; what is left above 1 is t for few seeds.
    assert np.mean(widths) / 2 / (1.96 * chance) < 1.5
    assert np.mean(found) >= 0.9


def test_the_same_random_seed_gives_the_same_interval(rng):
    values = runs(rng, 3, 60, seed_spread=0.1)
    assert seeds_interval(values, drawn=FEW) == seeds_interval(values, drawn=FEW)


def test_the_interval_moves_with_the_values(rng):
    values = runs(rng, 3, 60, seed_spread=0.1)
    here, there = seeds_interval(values, drawn=FEW), seeds_interval(values + 2, drawn=FEW)
    assert (there.low - here.low, there.high - here.high) == pytest.approx((2, 2), abs=1e-9)


def test_a_difference_sees_the_same_items_and_mirrors_its_value(rng):
    items = rng.normal(0, 5, 100)
    new = items + rng.normal(0, 0.1, (3, 1)) + rng.normal(0, 0.1, (3, 100)) + 0.5
    reference = items + rng.normal(0, 0.1, (4, 1)) + rng.normal(0, 0.1, (4, 100))
    here = seeds_difference(new, reference, drawn=FEW)
    there = seeds_difference(reference, new, drawn=FEW)
    assert here.difference.value == pytest.approx(-there.difference.value)
    # The spread of items, 5, would alone give an error of 0.5.
    assert here.difference.high - here.difference.low < 0.8
    assert here.p_value < 0.05


def test_a_single_reference_model_adds_no_chance_of_seeds(rng):
    items = rng.normal(size=80)
    new = items + rng.normal(0, 0.2, (5, 1))
    found = seeds_difference(new, items, drawn=Drawn(num_resamples=20_000))
    alone = seeds_interval(new - items + np.linspace(0, 1e-9, 80), drawn=Drawn(20_000))
    assert found.difference.value == pytest.approx((new - items).mean())
    width = found.difference.high - found.difference.low
    assert width == pytest.approx(alone.high - alone.low, rel=0.05)


def test_clusters_widen_the_interval(rng):
    clusters = np.repeat(np.arange(20), 10)
    values = rng.normal(size=20)[clusters] + rng.normal(0, 0.1, (3, 200))
    plain = seeds_interval(values, drawn=FEW)
    clustered = seeds_interval(values, drawn=Drawn(num_resamples=4_000, clusters=clusters))
    assert clustered.n == 20
    assert clustered.high - clustered.low > 2 * (plain.high - plain.low)


@pytest.mark.parametrize(
    ("values", "value", "reason"),
    [
        (np.ones((1, 20)) * np.arange(20), 9.5, "one seed tells nothing about other seeds"),
        (np.ones((3, 20)), 1.0, "all 20 values are equal"),
        (np.ones((3, 1)), 1.0, "one item has no variance"),
        (np.ones((3, 0)), None, "there are no items"),
        (np.array([[1.0, np.nan], [1.0, 2.0]]), None, "no finite number for 1 of 4 items"),
    ],
)
def test_what_seeds_do_not_tell_is_none_with_a_reason(values, value, reason):
    found = seeds_interval(values, drawn=FEW)
    assert (found.value, found.low, found.high, found.reason) == (value, None, None, reason)
    assert seeds_difference(values, values * 0, drawn=FEW).p_value is None


@pytest.mark.slow
@pytest.mark.parametrize(("num_seeds", "nominal"), [(3, 0.92), (5, 0.92)])
@pytest.mark.parametrize("seed_spread", [0.0, 0.1, 0.4])
def test_intervals_hold_the_truth(num_seeds, nominal, seed_spread):
    rng, held = np.random.default_rng(1), []
    for _ in range(400):
        values = runs(rng, num_seeds, 100, seed_spread=seed_spread)
        found = seeds_interval(values, drawn=Drawn(num_resamples=500))
        held.append(found.low <= 0 <= found.high)
    assert np.mean(held) >= nominal - 0.03
