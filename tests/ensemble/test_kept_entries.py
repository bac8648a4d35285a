from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from suite.ensemble.combine import COMBINERS, posterior_log_weights, renormalised
from suite.ensemble.kept import (
    NUM_KEPT,
    KeptEntries,
    keep,
    mixture_greedy,
    mixture_values,
    renormalised_kept,
)

NUM_OUTCOMES = 60


def random_rows(seed: int, num_members: int, num_rows: int, num_outcomes: int) -> Tensor:
    logits = np.random.default_rng(seed).normal(0, 2.5, (num_members, num_rows, num_outcomes))
    return torch.from_numpy(logits).float().log_softmax(-1)


def kept_of(rows: Tensor, targets: Tensor) -> list[KeptEntries]:
    return [keep(own, targets) for own in rows]


@pytest.mark.parametrize("num_outcomes", [5, 17, 18, 1090, 1100, 5000])
def test_the_largest_entries_are_kept_in_order_without_other(num_outcomes: int) -> None:
    rows = random_rows(0, 1, 7, num_outcomes)[0]
    rows[:, -1] = 0
    targets = torch.arange(7) % num_outcomes
    kept = keep(rows, targets)
    for place, row in enumerate(rows.tolist()):
        best = sorted(range(num_outcomes - 1), key=lambda outcome: -row[outcome])[:NUM_KEPT]
        assert kept.top_outcomes[place].tolist() == best
        assert kept.top_log_probs[place].tolist() == [row[outcome] for outcome in best]
        assert kept.token[place] == row[targets[place]]
        assert kept.other[place] == row[-1]


def test_values_follow_from_the_realised_tokens_alone() -> None:
    rows = random_rows(1, 3, 6, NUM_OUTCOMES)
    targets = torch.tensor([0, 5, 58, 3, 3, 40])
    log_weights = torch.tensor([0.5, 0.2, 0.3]).log()[:, None].expand(-1, 6)
    combined = COMBINERS["mean_probs"].combine(rows, log_weights)
    found = mixture_values(kept_of(rows, targets), log_weights)
    torch.testing.assert_close(found, combined[torch.arange(6), targets])


def test_a_posterior_weights_kept_tokens_as_it_weights_rows() -> None:
    rows = random_rows(2, 2, 6, NUM_OUTCOMES)
    targets = torch.tensor([0, 5, 58, 3, 3, 40])
    kept = kept_of(rows, targets)
    prior = torch.tensor([0.5, 0.5]).log()
    tokens = torch.stack([own.token for own in kept])
    posterior = posterior_log_weights(tokens, prior[:, None], torch.tensor([0, 6]))
    total = 0.0
    log_weights = prior[:, None]
    for place, target in enumerate(targets):
        row = COMBINERS["sequence_mixture"].combine(rows[:, [place]], log_weights)
        total += float(row[0, target])
        tokens = rows[:, place, target, None]
        log_weights = COMBINERS["sequence_mixture"].update(log_weights, tokens)
    assert float(mixture_values(kept, posterior).sum()) == pytest.approx(total, abs=1e-4)


@given(
    seed=st.integers(0, 2**32 - 1),
    shares=st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any),
    sharpness=st.sampled_from([0.3, 1.0, 3.0]),
)
@settings(max_examples=40)
def test_a_decided_flag_is_that_of_the_whole_rows(
    seed: int, shares: list[int], sharpness: float
) -> None:
    rows = (random_rows(seed, 3, 40, NUM_OUTCOMES) * sharpness).log_softmax(-1)
    weights = torch.tensor(shares) / sum(shares)
    log_weights = weights.log()[:, None].expand(-1, 40)
    best = COMBINERS["mean_probs"].combine(rows, log_weights)[:, :-1].argmax(-1)
    random = np.random.default_rng(seed)
    targets = torch.where(
        torch.from_numpy(random.random(40) < 0.5),
        best,
        torch.from_numpy(random.integers(0, NUM_OUTCOMES, 40)),
    )
    found = mixture_greedy(kept_of(rows, targets), log_weights, targets, other=NUM_OUTCOMES - 1)
    expected = (best == targets).to(torch.int8)
    decided = found >= 0
    assert torch.equal(found[decided], expected[decided])


def test_most_flags_are_decided() -> None:
    rows = (random_rows(3, 2, 2000, 500) * 2).log_softmax(-1)
    log_weights = torch.full((2, 2000), 0.5).log()
    best = COMBINERS["mean_probs"].combine(rows, log_weights)[:, :-1].argmax(-1)
    found = mixture_greedy(kept_of(rows, best), log_weights, best, other=499)
    assert (found == 1).float().mean() > 0.95
    others = (best + 1) % 499
    found = mixture_greedy(kept_of(rows, others), log_weights, others, other=499)
    assert (found == 0).float().mean() > 0.95


def rows_of(*members: dict[int, float]) -> Tensor:
    """One position: some outcomes' probabilities, the rest spread evenly over the others."""
    rows = torch.empty(len(members), 1, NUM_OUTCOMES)
    for row, probs in zip(rows[:, 0], members, strict=True):
        row[:] = (1 - sum(probs.values())) / (NUM_OUTCOMES - len(probs))
        for outcome, prob in probs.items():
            row[outcome] = prob
    return rows.log()


HALVES = torch.tensor([[0.5], [0.5]]).log()


@pytest.mark.parametrize(
    ("members", "target", "expected"),
    [
        pytest.param([{3: 0.4, 5: 0.35}, {4: 0.4, 5: 0.35}], 5, 1, id="no member's argmax"),
        pytest.param([{3: 0.4, 5: 0.35}, {4: 0.4, 5: 0.35}], 3, 0, id="a member's argmax"),
        pytest.param([{3: 0.5, 5: 0.4}, {3: 0.4, 5: 0.5}], 3, -1, id="a tie"),
        pytest.param([{59: 0.9, 3: 0.05}, {59: 0.9, 3: 0.05}], 3, 1, id="the rest is in other"),
        pytest.param([{59: 0.9, 3: 0.05}, {59: 0.9, 3: 0.05}], 59, 0, id="other is never emitted"),
    ],
)
def test_flags_of_a_mixture(members: list[dict[int, float]], target: int, expected: int) -> None:
    targets = torch.tensor([target])
    kept = kept_of(rows_of(*members), targets)
    assert mixture_greedy(kept, HALVES, targets, other=59).tolist() == [expected]


def test_an_entry_that_a_member_does_not_keep_is_bounded_by_its_smallest_kept_one() -> None:
    firsts = {outcome: 0.02 for outcome in range(20, 40)}
    rows = rows_of({0: 0.30, **firsts}, {1: 0.29, **firsts})
    targets = torch.tensor([0])
    # The first member gives outcome 1, which it does not keep, at most 0.02: then it would win.
    assert mixture_greedy(kept_of(rows, targets), HALVES, targets, other=59).tolist() == [-1]
    rows = rows_of({0: 0.40, **firsts}, {1: 0.29, **firsts})
    assert mixture_greedy(kept_of(rows, targets), HALVES, targets, other=59).tolist() == [1]


def test_a_member_of_weight_0_has_no_say() -> None:
    rows = rows_of({3: 0.6}, {4: 0.9})
    log_weights = torch.tensor([[1.0], [0.0]]).log()
    targets = torch.tensor([3])
    kept = kept_of(rows, targets)
    assert mixture_greedy(kept, log_weights, targets, other=59).tolist() == [1]
    assert float(mixture_values(kept, log_weights)) == pytest.approx(math.log(0.6))


def test_no_positions_have_no_flags() -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    kept = kept_of(torch.empty(2, 0, NUM_OUTCOMES), nothing)
    found = mixture_greedy(kept, torch.empty(2, 0), nothing, other=59)
    assert found.shape == (0,)
    assert found.dtype == torch.int8


def test_kept_entries_are_renormalised_as_rows_are() -> None:
    rows = random_rows(4, 1, 30, NUM_OUTCOMES)[0]
    targets = torch.arange(30)
    found = renormalised_kept(keep(rows, targets))
    expected = keep(renormalised(rows), targets)
    for name in ("token", "other", "top_log_probs", "top_outcomes"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


def test_a_row_that_is_all_other_is_renormalised_to_its_largest_entries() -> None:
    logits = torch.full((1, NUM_OUTCOMES), -30.0)
    logits[0, [2, 7, 59]] = torch.tensor([-20.0, -21.0, 5.0])
    rows = logits.log_softmax(-1)
    assert rows[0, -1] == 0
    targets = torch.tensor([2])
    found = renormalised_kept(keep(rows, targets))
    torch.testing.assert_close(
        found.token, keep(renormalised(rows), targets).token, rtol=0, atol=1e-2
    )
