"""Drift over looks: what is kept of each look, and when it is told."""

from __future__ import annotations

import numpy as np
import pytest
from gated_items import binary_pair, items_of, pair_of

from suite.track.history import LookTerms, drift_flag, look_terms, past_terms, terms_to_json


def looks(drop: float, num: int, seed: int = 0) -> list[LookTerms]:
    """Differences of 400 items that fall by `drop` a look, with noise of their own."""
    rng = np.random.default_rng(seed)
    return [LookTerms("i", rng.normal(-drop * look, 1.0, 400)) for look in range(num)]


def test_a_slow_fall_is_told_and_standing_still_is_not() -> None:
    falling = looks(0.04, 8)
    assert drift_flag(falling[:-1], falling[-1]) == (
        "slow drift down: the moving average of 8 looks is -3.5 standard errors from the pinned"
        " run, beyond 1.0"
    )
    still = looks(0.0, 8)
    assert drift_flag(still[:-1], still[-1]) is None


def test_two_looks_are_no_drift() -> None:
    falling = looks(5.0, 2)
    assert drift_flag(falling[:-1], falling[-1]) is None


def test_looks_at_other_items_are_left_out() -> None:
    falling = looks(0.1, 6)
    others = [LookTerms("other", terms.values) for terms in falling[:-1]]
    assert drift_flag(others, falling[-1]) is None


def test_the_mean_of_the_terms_is_the_difference_turned_to_better() -> None:
    pair = binary_pair(50, 10, 4)
    assert look_terms(pair).values.mean() == pytest.approx(6 / 50)
    worse = pair_of(
        items_of(pair.new.values, better=False), items_of(pair.pinned.values, better=False)
    )
    assert look_terms(worse).values.mean() == pytest.approx(-6 / 50)


def test_items_of_one_cluster_are_one_term() -> None:
    pair = binary_pair(60, 10, 4)
    clusters = np.arange(60) // 4
    grouped = pair_of(
        items_of(pair.new.values, clusters=clusters),
        items_of(pair.pinned.values, clusters=clusters),
    )
    terms = look_terms(grouped)
    assert len(terms.values) == 15
    assert terms.values.mean() == pytest.approx(6 / 60)


def test_terms_of_a_group_weigh_its_tasks() -> None:
    strata, weights = np.array([0] * 30 + [1] * 10), np.array([0.5, 0.5])
    facts = {"strata": strata, "stratum_weights": weights}
    new, old = [1.0] * 30 + [0.0] * 10, [0.0] * 30 + [0.5] * 10
    terms = look_terms(pair_of(items_of(new, **facts), items_of(old, **facts)))
    assert terms.values.mean() == pytest.approx(0.5 * 1.0 + 0.5 * -0.5)


def test_terms_are_kept_in_a_check_and_damaged_ones_are_passed_over() -> None:
    terms = look_terms(binary_pair(50, 10, 4))
    kept = {"terms": {"t": terms_to_json(terms)}}
    damaged = {"terms": {"t": {"items": "i", "values": {"kind": "<f8"}}}}
    [back] = past_terms([damaged, kept, {}], "t")
    assert back.items == terms.items
    np.testing.assert_array_equal(back.values, terms.values)
