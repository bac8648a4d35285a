from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from suite.engine.sampling import draw, warp


def kept_by_loop(probs: list[float], top_k: int, top_p: float) -> set[int]:
    """Outcomes that stay, by the definition of top-k, then top-p on what top-k left."""
    order = sorted(range(len(probs)), key=lambda outcome: (-probs[outcome], outcome))
    kept = order[:top_k] if top_k else order
    total = sum(probs[outcome] for outcome in kept)
    mass, nucleus = 0.0, set()
    for outcome in kept:
        if mass < top_p or top_p == 1:
            nucleus.add(outcome)
        mass += probs[outcome] / total
    return nucleus


@given(
    probs=st.lists(st.integers(1, 1000), min_size=2, max_size=8),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.integers(0, 9),
    top_p=st.sampled_from([0.1, 0.523, 0.913, 1.0]),
)
def test_warping_is_temperature_then_top_k_then_top_p(
    probs: list[int], temperature: float, top_k: int, top_p: float
) -> None:
    tempered = [prob ** (1 / temperature) for prob in probs]
    kept = kept_by_loop(tempered, top_k, top_p)
    total = sum(tempered[outcome] for outcome in kept)
    expected = [p / total if outcome in kept else 0.0 for outcome, p in enumerate(tempered)]

    scores = torch.tensor([probs], dtype=torch.float64).log()
    found = warp(scores, temperature=temperature, top_k=top_k, top_p=top_p).softmax(-1)

    torch.testing.assert_close(found[0], torch.tensor(expected, dtype=torch.float64))


def test_rows_are_warped_each_by_itself() -> None:
    scores = torch.tensor([[0.5, 0.3, 0.2], [0.05, 0.05, 0.9]]).log()

    found = warp(scores, top_p=0.75)

    assert found.isneginf().tolist() == [[False, False, True], [True, True, False]]


def test_of_equals_the_first_stay() -> None:
    scores = torch.zeros(1, 5)

    assert warp(scores, top_k=2).isfinite().tolist() == [[True, True, False, False, False]]
    assert warp(scores, top_p=0.55).isfinite().tolist() == [[True, True, True, False, False]]


def test_masked_outcomes_stay_masked() -> None:
    scores = torch.tensor([[-torch.inf, 0.0, -1.0]])

    assert warp(scores, temperature=2.0, top_k=3, top_p=0.99)[0, 0] == -torch.inf


def test_a_nucleus_larger_than_the_first_candidates_is_whole() -> None:
    scores = torch.zeros(2, 5000, dtype=torch.float64)
    scores[0, 7] = 50.0

    assert warp(scores, top_p=0.4999).isfinite().sum(-1).tolist() == [1, 2500]


def test_scores_need_not_sum_to_one() -> None:
    scores = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()

    for top_p in (0.35, 0.65, 0.85):
        found = [warp(scores + constant, top_p=top_p) for constant in (0.0, 7.0)]
        torch.testing.assert_close(found[0].softmax(-1), found[1].softmax(-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_drawing_inverts_the_cumulative_distribution(dtype: torch.dtype) -> None:
    scores = torch.tensor([0.0, 0.25, 0.5, 0.0, 0.25, 0.0], dtype=dtype).log()
    uniform = torch.tensor([0.0, 0.2, 0.26, 0.74, 0.76, 1 - 2**-53], dtype=torch.float64)

    assert draw(scores.expand(6, 6), uniform).tolist() == [1, 1, 2, 2, 4, 4]


def test_the_last_outcome_of_probability_zero_is_never_drawn() -> None:
    almost_one = torch.tensor([math.nextafter(1.0, 0.0)], dtype=torch.float64)
    random = torch.Generator().manual_seed(0)
    for _ in range(50):
        scores = torch.randn(1, 1000, generator=random)
        scores[0, -1] = -torch.inf

        assert draw(scores, almost_one).item() < 999


def chi_square(counts: Tensor, probs: Tensor) -> float:
    expected = probs * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def test_draws_have_the_frequencies_of_the_distribution() -> None:
    probs = torch.tensor([0.02, 0.4, 0.08, 0.3, 0.2], dtype=torch.float64)
    uniform = torch.rand(100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    counts = draw(probs.log().expand(100_000, 5), uniform).bincount(minlength=5)

    # 18.5 is exceeded once in a thousand times with four degrees of freedom.
    assert chi_square(counts, probs) < 18.5
