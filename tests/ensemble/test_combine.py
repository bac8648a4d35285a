from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from suite.ensemble import combine
from suite.ensemble.combine import COMBINERS, posterior_log_weights, renormalised

RULES = sorted(COMBINERS)
MIXTURES = sorted(name for name, rule in COMBINERS.items() if rule.is_mixture)


def random_rows(seed: int, num_members: int, num_rows: int, num_outcomes: int) -> Tensor:
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.full(num_outcomes, 0.5), (num_members, num_rows))
    return torch.from_numpy(probs).clamp_min(1e-300).log()


def combined(name: str, rows: Tensor, weights: list[float] | NDArray[np.float64]) -> Tensor:
    """[M, n, O] and the members' weights -> [n, O]."""
    log_weights = torch.tensor(weights, dtype=rows.dtype).log()
    return COMBINERS[name].combine(rows, log_weights[:, None].expand(-1, rows.shape[1]))


def oracle(name: str, probs: NDArray[np.float64], weights: list[float]) -> list[float]:
    """One row of each member, [M, O], combined in probability space by loops."""
    totals = []
    for outcome in range(probs.shape[1]):
        if name == "mean_log_probs":
            total = math.prod(
                own[outcome] ** weight for own, weight in zip(probs, weights, strict=True) if weight
            )
        else:
            total = sum(w * own[outcome] for own, w in zip(probs, weights, strict=True))
        totals.append(total)
    return [math.log(total / sum(totals)) if total else -math.inf for total in totals]


def weights_of(num_members: int) -> st.SearchStrategy[list[float]]:
    shares = st.lists(st.integers(0, 9), min_size=num_members, max_size=num_members)
    return shares.filter(any).map(lambda own: [share / sum(own) for share in own])


SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("name", RULES)
@given(seed=SEEDS, weights=weights_of(3))
@settings(max_examples=20)
def test_a_rule_gives_what_its_formula_says(name: str, seed: int, weights: list[float]) -> None:
    rows = random_rows(seed, 3, 2, 5)
    found = combined(name, rows, weights)
    for place in range(2):
        expected = oracle(name, rows[:, place].exp().numpy(), weights)
        np.testing.assert_allclose(found[place], expected, atol=1e-9)


@pytest.mark.parametrize("name", RULES)
@given(seed=SEEDS, weights=weights_of(3))
@settings(max_examples=20)
def test_copies_of_one_model_are_that_model(name: str, seed: int, weights: list[float]) -> None:
    row = random_rows(seed, 1, 2, 5)
    found = combined(name, row.expand(3, -1, -1), weights)
    torch.testing.assert_close(found, row[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alone", [0, 1])
def test_weight_1_is_the_member_itself_whatever_the_other_says(
    name: str, dtype: torch.dtype, alone: int
) -> None:
    rows = random_rows(0, 2, 3, 6).to(dtype).log_softmax(-1)
    rows[1 - alone, :, :5] = -torch.inf
    rows[1 - alone, :, 5] = 0
    found = combined(name, rows, [1.0 - alone, float(alone)])
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found, rows[alone], rtol=eps, atol=eps)


@pytest.mark.parametrize("name", RULES)
def test_duplicates_are_one_member_with_their_weights_summed(name: str) -> None:
    p, q = random_rows(1, 2, 3, 5)
    thirds = combined(name, torch.stack([p, p, q]), [1 / 3, 1 / 3, 1 / 3])
    merged = combined(name, torch.stack([p, q]), [2 / 3, 1 / 3])
    torch.testing.assert_close(thirds, merged, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
@given(seed=SEEDS, weights=weights_of(3), order=st.permutations(range(3)))
@settings(max_examples=20)
def test_the_order_of_members_does_not_matter(
    name: str, seed: int, weights: list[float], order: list[int]
) -> None:
    rows = random_rows(seed, 3, 2, 5)
    found = combined(name, rows[order], [weights[place] for place in order])
    torch.testing.assert_close(found, combined(name, rows, weights), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
@given(seed=SEEDS, weights=weights_of(2))
@settings(max_examples=20)
def test_the_combined_distribution_sums_to_1(name: str, seed: int, weights: list[float]) -> None:
    rows = random_rows(seed, 2, 3, 40).float().log_softmax(-1)
    torch.testing.assert_close(
        combined(name, rows, weights).exp().sum(-1), torch.ones(3), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("name", RULES)
def test_rows_may_have_weights_of_their_own(name: str) -> None:
    rows = random_rows(2, 2, 2, 5)
    weights = torch.tensor([[0.9, 0.0], [0.1, 1.0]], dtype=torch.float64)
    found = COMBINERS[name].combine(rows, weights.log())
    torch.testing.assert_close(found[0], combined(name, rows[:, :1], [0.9, 0.1])[0])
    torch.testing.assert_close(found[1], rows[1, 1])


@pytest.mark.parametrize("name", MIXTURES)
@given(seed=SEEDS, weights=weights_of(3))
@settings(max_examples=20)
def test_a_mixture_lies_between_its_members_and_above_their_mean(
    name: str, seed: int, weights: list[float]
) -> None:
    rows = random_rows(seed, 3, 2, 5)
    found = combined(name, rows, weights)
    taking_part = rows[torch.tensor(weights) > 0]
    assert (found >= taking_part.amin(0) - 1e-12).all()
    assert (found <= taking_part.amax(0) + 1e-12).all()
    mean = torch.einsum("m,mno->no", torch.tensor(weights, dtype=torch.float64), rows)
    assert (found >= mean - 1e-12).all()


@given(seed=SEEDS, weights=weights_of(3))
@settings(max_examples=20)
def test_the_log_linear_rule_lies_above_the_mean_of_log_probs(
    seed: int, weights: list[float]
) -> None:
    rows = random_rows(seed, 3, 2, 5)
    mean = torch.einsum("m,mno->no", torch.tensor(weights, dtype=torch.float64), rows)
    assert (combined("mean_log_probs", rows, weights) >= mean - 1e-12).all()


@given(seed=SEEDS, weights=weights_of(3))
@settings(max_examples=20)
def test_entropy_is_the_mean_entropy_plus_a_bounded_divergence(
    seed: int, weights: list[float]
) -> None:
    rows = random_rows(seed, 3, 1, 5)[:, 0]
    mixture = combined("mean_probs", rows[:, None], weights)[0]
    entropies = -(rows.exp() * rows).sum(-1)
    mean = float(entropies @ torch.tensor(weights, dtype=torch.float64))
    divergence = float(-(mixture.exp() * mixture).sum()) - mean
    of_weights = -sum(weight * math.log(weight) for weight in weights if weight)
    assert -1e-12 <= divergence <= of_weights + 1e-12


@given(seed=SEEDS, weights=weights_of(3), shift=st.floats(-50, 50))
@settings(max_examples=20)
def test_the_log_linear_rule_is_the_softmax_of_averaged_logits(
    seed: int, weights: list[float], shift: float
) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (3, 2, 5)))
    mean = torch.einsum("m,mno->no", torch.tensor(weights, dtype=torch.float64), logits)
    logits[1] += shift
    found = combined("mean_log_probs", logits.log_softmax(-1), weights)
    torch.testing.assert_close(found, mean.log_softmax(-1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", MIXTURES)
def test_probabilities_that_underflow_are_averaged(name: str) -> None:
    rows = torch.tensor([[[0.0, -120.0, -95.0]], [[0.0, -110.0, -92.0]]])
    found = combined(name, rows, [0.5, 0.5])[0]
    np.testing.assert_allclose(found[1:], [-110.693, -92.645], atol=1e-3)
    assert (0.5 * rows[0].exp() + 0.5 * rows[1].exp()).log()[0, 1] == -torch.inf


def test_a_uniform_member_adds_its_share_to_every_probability() -> None:
    row = random_rows(3, 1, 1, 8)
    uniform = torch.full_like(row, -math.log(8))
    found = combined("mean_probs", torch.cat([row, uniform]), [0.7, 0.3])
    torch.testing.assert_close(found.exp(), 0.7 * row[0].exp() + 0.3 / 8, rtol=0, atol=1e-15)


@given(seed=SEEDS)
@settings(max_examples=20)
def test_a_uniform_member_leaves_the_log_linear_argmax(seed: int) -> None:
    row = random_rows(seed, 1, 1, 8)
    uniform = torch.full_like(row, -math.log(8))
    found = combined("mean_log_probs", torch.cat([row, uniform]), [0.7, 0.3])
    assert found.argmax() == row.argmax()


@pytest.mark.parametrize("name", RULES)
def test_what_is_empty_for_one_member_is_empty_only_in_the_geometric_mean(name: str) -> None:
    rows = torch.tensor([[[0.5, 0.5, 0.0]], [[0.2, 0.3, 0.5]]], dtype=torch.float64).log()
    found = combined(name, rows, [0.5, 0.5])[0]
    assert not found.isnan().any()
    assert bool(found[2].isneginf()) == (name == "mean_log_probs")
    nobody = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]]).log()
    assert combined(name, nobody, [0.5, 0.5]).tolist() == [[0.0, -math.inf]]


def test_renormalising_spreads_what_the_last_bin_held() -> None:
    rows = torch.tensor([[0.1, 0.3, 0.2, 0.4], [0.0, 0.5, 0.5, 0.0]], dtype=torch.float64)
    expected = [[1 / 6, 3 / 6, 2 / 6, 0.0], [0.0, 0.5, 0.5, 0.0]]
    np.testing.assert_allclose(renormalised(rows.log()).exp(), expected, atol=1e-15)


def posterior_of_one(tokens: Tensor, log_weights: Tensor) -> Tensor:
    return posterior_log_weights(tokens, log_weights[:, None], torch.tensor([0, tokens.shape[1]]))


@given(seed=SEEDS, sizes=st.lists(st.integers(0, 5), min_size=1, max_size=6))
@settings(max_examples=30)
def test_posterior_weights_of_many_texts_are_those_of_each_alone(
    seed: int, sizes: list[int]
) -> None:
    tokens = random_rows(seed, 2, 1, sum(sizes) + 1)[:, 0, : sum(sizes)].clone()
    priors = random_rows(seed + 1, len(sizes), 1, 2)[:, 0].T
    offsets = [0, *itertools.accumulate(sizes)]
    if sizes[0] > 1:  # an impossible text in front of others
        tokens[:, 0] = -torch.inf
    found = posterior_log_weights(tokens, priors, torch.tensor(offsets))
    for text, (start, stop) in enumerate(itertools.pairwise(offsets)):
        alone = posterior_of_one(tokens[:, start:stop], priors[:, text])
        torch.testing.assert_close(found[:, start:stop], alone)


def test_posterior_weights_do_not_depend_on_how_texts_are_put_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = [3, 0, 40, 1, 7, 3]
    tokens = random_rows(0, 2, 1, sum(sizes))[:, 0]
    priors = random_rows(1, len(sizes), 1, 2)[:, 0].T
    offsets = torch.tensor([0, *itertools.accumulate(sizes)])
    whole = posterior_log_weights(tokens, priors, offsets)
    monkeypatch.setattr(combine, "_BLOCK_TOKENS", 8)
    torch.testing.assert_close(posterior_log_weights(tokens, priors, offsets), whole)


@given(seed=SEEDS, weights=weights_of(3), num_tokens=st.integers(0, 9))
@settings(max_examples=20)
def test_posterior_weights_are_those_of_bayes_rule(
    seed: int, weights: list[float], num_tokens: int
) -> None:
    log_probs = random_rows(seed, 3, 1, num_tokens + 1)[:, 0, :num_tokens]
    found = posterior_of_one(log_probs, torch.tensor(weights, dtype=torch.float64).log())
    assert found.shape == (3, num_tokens)
    for place in range(num_tokens):
        joint = [
            weight * math.prod(math.exp(value) for value in own[:place])
            for weight, own in zip(weights, log_probs.tolist(), strict=True)
        ]
        expected = [own / sum(joint) for own in joint]
        np.testing.assert_allclose(found[:, place].exp(), expected, atol=1e-9)


def test_posterior_weights_are_the_updated_ones_step_by_step() -> None:
    log_probs = random_rows(4, 3, 1, 6)[:, 0]
    log_weights = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log()
    found = posterior_of_one(log_probs, log_weights)
    current = log_weights[:, None]
    for place in range(6):
        torch.testing.assert_close(found[:, place], current[:, 0], rtol=0, atol=1e-12)
        current = COMBINERS["sequence_mixture"].update(current, log_probs[:, place, None])


def test_a_token_that_no_member_could_write_teaches_nothing() -> None:
    log_weights = torch.tensor([[0.25], [0.75]]).log()
    impossible = torch.full((2, 1), -torch.inf)
    assert torch.equal(COMBINERS["sequence_mixture"].update(log_weights, impossible), log_weights)
    tokens = torch.tensor([[-1.0, -torch.inf, -1.0], [-2.0, -torch.inf, -1.0]])
    found = posterior_of_one(tokens, log_weights[:, 0])
    assert not found.isnan().any()
    torch.testing.assert_close(found[:, 2], log_weights[:, 0].double())


def test_only_the_sequence_mixture_learns_from_tokens() -> None:
    log_weights = torch.tensor([[0.25], [0.75]]).log()
    token = torch.tensor([[-1.0], [-3.0]])
    for name in ("mean_probs", "mean_log_probs"):
        assert torch.equal(COMBINERS[name].update(log_weights, token), log_weights)
    learnt = COMBINERS["sequence_mixture"].update(log_weights, token).exp()[:, 0]
    odds = 0.25 * math.exp(-1) / (0.75 * math.exp(-3))
    assert float(learnt[0] / learnt[1]) == pytest.approx(odds, rel=1e-5)
