from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from toy_models import ToyModel

from suite.ensemble import weights as weights_module
from suite.ensemble.weights import TOLERANCE, check_weights, fit_log_linear, fit_mixture
from suite.errors import ConfigError

SEEDS = st.integers(0, 2**32 - 1)


def random_rows(seed: int, num_members: int, num_rows: int, num_outcomes: int = 12) -> Tensor:
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.normal(0, 2, (num_members, num_rows, num_outcomes))).log_softmax(
        -1
    )


def drawn(rows: Tensor, seed: int = 0) -> Tensor:
    """One outcome from each row, [n, O] -> [n]."""
    return torch.multinomial(rows.exp(), 1, generator=torch.Generator().manual_seed(seed))[:, 0]


def picked(rows: Tensor, targets: Tensor) -> Tensor:
    return rows.gather(2, targets.expand(len(rows), -1)[..., None])[..., 0]


def mixture_value(weights: NDArray[np.float64], log_probs: Tensor) -> float:
    return float(np.log(weights @ log_probs.exp().numpy()).sum())


def log_linear_value(weights: NDArray[np.float64], rows: Tensor, targets: Tensor) -> float:
    total = 0.0
    for place, target in enumerate(targets.tolist()):
        scores = [float(weights @ column) for column in rows[:, place].T.numpy()]
        total += scores[target] - math.log(sum(math.exp(score) for score in scores))
    return total


def grid(num_members: int, steps: int) -> list[NDArray[np.float64]]:
    """Distributions over members, evenly spread."""
    if num_members == 2:
        return [np.array([place, steps - place]) / steps for place in range(steps + 1)]
    return [
        np.array([a, b, steps - a - b]) / steps
        for a in range(steps + 1)
        for b in range(steps + 1 - a)
    ]


def test_a_members_own_texts_give_it_all_the_weight() -> None:
    rows = random_rows(0, 3, 4000)
    targets = drawn(rows[1])
    assert fit_mixture(picked(rows, targets)).weights[1] > 0.97
    assert fit_log_linear(rows, targets).weights[1] > 0.95


def test_a_mixtures_weights_are_recovered() -> None:
    rows = random_rows(1, 3, 20_000)
    true = torch.tensor([0.6, 0.1, 0.3], dtype=torch.float64)
    targets = drawn((rows + true.log()[:, None, None]).logsumexp(0))
    found = fit_mixture(picked(rows, targets))
    assert found.converged
    np.testing.assert_allclose(found.weights, true, atol=0.03)


def test_a_mixture_that_holds_exactly_has_its_weights_exactly() -> None:
    # Each outcome once for every 64th that the mixture of 3/4 and 1/4 gives it.
    probs = torch.tensor([[1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 4, 1 / 2]], dtype=torch.float64)
    counts = (64 * (0.75 * probs[0] + 0.25 * probs[1])).long()
    found = fit_mixture(probs.log().repeat_interleave(counts, dim=1))
    np.testing.assert_allclose(found.weights, [0.75, 0.25], atol=1e-4)


def test_a_log_linear_mixtures_weights_are_recovered() -> None:
    rows = random_rows(2, 3, 8000)
    true = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    targets = drawn(torch.einsum("m,mko->ko", true, rows).log_softmax(-1))
    found = fit_log_linear(rows, targets)
    assert found.converged
    np.testing.assert_allclose(found.weights, true, atol=0.03)


def test_texts_of_a_member_give_it_the_weight_of_the_sequence_mixture() -> None:
    members = [ToyModel(seed=seed) for seed in (1, 2)]
    probs = [math.exp(float(members[0].token_log_probs(text).sum())) for text in members[0].texts]
    random = np.random.default_rng(0)
    texts = random.choice(len(probs), 500, p=np.array(probs) / sum(probs))
    values = torch.tensor(
        [
            [float(member.token_log_probs(members[0].texts[text]).sum()) for text in texts]
            for member in members
        ]
    )
    assert fit_mixture(values).weights[0] > 0.95


@given(seed=SEEDS, num_members=st.integers(2, 3))
@settings(max_examples=20)
def test_no_other_weights_make_items_likelier(seed: int, num_members: int) -> None:
    rows = random_rows(seed, num_members, 30)
    targets = drawn(rows.mean(0).exp())
    log_probs = picked(rows, targets)
    found = fit_mixture(log_probs)
    assert found.converged
    assert found.num_items == 30
    best = max(mixture_value(weights, log_probs) for weights in grid(num_members, 40))
    assert found.log_likelihood >= best - 30 * TOLERANCE
    value = mixture_value(np.array(found.weights), log_probs)
    assert found.log_likelihood == pytest.approx(value, abs=1e-9)


@given(seed=SEEDS, num_members=st.integers(2, 3))
@settings(max_examples=8, deadline=None)
def test_no_other_weights_make_outcomes_likelier(seed: int, num_members: int) -> None:
    rows = random_rows(seed, num_members, 12)
    targets = drawn(rows.mean(0).exp())
    found = fit_log_linear(rows, targets)
    assert found.converged
    best = max(log_linear_value(weights, rows, targets) for weights in grid(num_members, 10))
    assert found.log_likelihood >= best - 12 * TOLERANCE
    value = log_linear_value(np.array(found.weights), rows, targets)
    assert found.log_likelihood == pytest.approx(value, abs=1e-9)


def test_every_step_of_em_raises_the_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(3, 3, 200)
    log_probs = picked(rows, drawn(rows[0]))
    values = []
    for steps in range(12):
        monkeypatch.setattr(weights_module, "MAX_STEPS", steps)
        found = fit_mixture(log_probs)
        assert (found.num_steps, found.converged) == (steps, False)
        values.append(found.log_likelihood)
    assert values == sorted(values)


def test_every_step_of_the_gradient_raises_the_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(4, 3, 200)
    targets = drawn(rows[0])
    num_steps = fit_log_linear(rows, targets).num_steps
    values = []
    for steps in range(num_steps + 1):
        monkeypatch.setattr(weights_module, "MAX_STEPS", steps)
        values.append(fit_log_linear(rows, targets).log_likelihood)
    assert values == sorted(values)


@pytest.mark.parametrize("sharpness", [0.01, 1.0, 20.0, 200.0])
def test_the_gradient_finds_its_step_at_any_scale(sharpness: float) -> None:
    rows = (random_rows(8, 2, 300) * sharpness).log_softmax(-1)
    true = torch.tensor([0.3, 0.7], dtype=torch.float64)
    targets = drawn(torch.einsum("m,mko->ko", true, rows).log_softmax(-1))
    found = fit_log_linear(rows, targets)
    assert found.converged
    assert found.num_steps < 60
    best = max(log_linear_value(weights, rows, targets) for weights in grid(2, 20))
    assert found.log_likelihood >= best - 300 * TOLERANCE


def test_copies_of_a_model_share_the_weight() -> None:
    rows = random_rows(5, 1, 50).expand(2, -1, -1)
    for found in (fit_mixture(rows[..., 0]), fit_log_linear(rows, drawn(rows[0]))):
        assert found.weights == pytest.approx((0.5, 0.5))
        assert (found.num_steps, found.converged) == (0, True)


def test_rows_in_blocks_give_the_weights_of_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(6, 2, 50).float()
    targets = drawn(rows[0])
    whole = fit_log_linear(rows, targets)
    monkeypatch.setattr(weights_module, "_BLOCK_ENTRIES", 7 * 2 * 12)
    np.testing.assert_allclose(fit_log_linear(rows, targets).weights, whole.weights, atol=1e-12)


def test_outcomes_that_a_member_holds_impossible_are_no_obstacle() -> None:
    rows = random_rows(7, 2, 100)
    rows[0, :, 0] = -torch.inf
    rows = rows.log_softmax(-1)
    targets = drawn(rows[1])
    num_possible = int((targets != 0).sum())
    assert num_possible < 100
    found = fit_log_linear(rows, targets)
    assert (found.converged, found.num_items) == (True, num_possible)
    possible = targets != 0
    alone = fit_log_linear(rows[:, possible, 1:], targets[possible] - 1)
    np.testing.assert_allclose(found.weights, alone.weights, atol=1e-9)
    mixture = fit_mixture(picked(rows, targets))
    assert (mixture.converged, mixture.num_items) == (True, 100)


def test_items_that_nobody_can_write_count_for_nothing() -> None:
    log_probs = torch.tensor([[-1.0, -torch.inf, -1.0], [-3.0, -torch.inf, -0.5]])
    assert fit_mixture(log_probs) == fit_mixture(log_probs[:, [0, 2]])
    assert fit_mixture(log_probs[:, 1:2]).weights == (0.5, 0.5)
    rows = log_probs[:, :1, None].expand(-1, -1, 2).log_softmax(-1)
    rows = torch.cat([rows, torch.full_like(rows[:, :, :1], -torch.inf)], dim=2)
    nothing = fit_log_linear(rows, torch.tensor([2]))
    assert (nothing.weights, nothing.num_items) == ((0.5, 0.5), 0)


def test_whole_texts_with_tiny_probabilities_are_fitted() -> None:
    values = torch.tensor([[-900.0, -1200.0, -700.0], [-905.0, -1190.0, -790.0]])
    found = fit_mixture(values)
    assert found.converged
    np.testing.assert_allclose(found.weights, [2 / 3, 1 / 3], atol=0.02)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (
            [0.5, 0.5, 0.0],
            "ensemble 'both': weights: found 3 for 2 members; give one weight per member",
        ),
        (
            [1.2, -0.2],
            "ensemble 'both': weights: -0.2 is not a weight; weights are at least 0 and sum to 1",
        ),
        (
            [math.nan, 1.0],
            "ensemble 'both': weights: nan is not a weight; weights are at least 0 and sum to 1",
        ),
        (
            [0.5, 0.4],
            "ensemble 'both': weights: they sum to 0.9; weights are at least 0 and sum to 1",
        ),
        (
            [0.5, 0.500012],
            "ensemble 'both': weights: they sum to 1.000012; weights are at least 0 and sum to 1",
        ),
    ],
)
def test_weights_that_are_none_are_refused(weights: list[float], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_weights(weights, 2, "both")
    assert str(caught.value) == sentence


@pytest.mark.parametrize("weights", [[1.0, 0.0], [1 / 3, 2 / 3], [0.333333, 0.666666]])
def test_weights_that_sum_to_1_pass(weights: list[float]) -> None:
    check_weights(weights, 2, "both")
