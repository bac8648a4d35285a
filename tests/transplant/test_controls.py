from __future__ import annotations

import numpy as np
import torch
from tiny_models import kept, kept_plan
from trained_tokenizers import opened

from suite.transplant.contract import Composition, Part, mean_row
from suite.transplant.controls import mean, random, zeros
from suite.transplant.registry import TRANSPLANTS

OLD = opened("marked")
PLAN = kept_plan(OLD, kept(OLD, "byte-level"))
ROWS = torch.randn(len(OLD.vocabulary) + 3, 6, generator=torch.Generator().manual_seed(0)) + 2
REGULAR = [n for n, entry in enumerate(OLD.vocabulary.token_bytes) if entry]


def drawn(seed: int, part: Part = "input") -> torch.Tensor:
    return random(Composition(old=OLD, plan=PLAN, seed=seed))(ROWS, part)


def test_methods_go_by_the_names_of_their_files() -> None:
    assert list(TRANSPLANTS) == ["fvt", "omp", "mean", "zeros", "random"]


def test_mean_rows_are_the_mean_of_the_regular_rows() -> None:
    found = mean(Composition(old=OLD, plan=PLAN))(ROWS, "input")
    expected = sum(ROWS[n].double() for n in REGULAR) / len(REGULAR)
    np.testing.assert_allclose(found, np.tile(expected, (len(PLAN.composed), 1)), atol=1e-6)


def test_zero_rows_are_zero() -> None:
    found = zeros(Composition(old=OLD, plan=PLAN))(ROWS, "input")
    assert found.shape == (len(PLAN.composed), 6)
    assert not found.any()


def test_random_rows_are_spread_like_the_old_ones() -> None:
    found, known = drawn(0), ROWS[REGULAR]
    assert found.shape == (len(PLAN.composed), 6)
    error = known.std(dim=0) / len(found) ** 0.5
    assert ((found.mean(dim=0) - known.mean(dim=0)).abs() < 5 * error).all()
    torch.testing.assert_close(found.std(dim=0), known.std(dim=0), rtol=0.2, atol=0)


def test_random_rows_depend_on_the_seed_and_the_embedding_only() -> None:
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert not torch.equal(drawn(1), drawn(1, "output"))


def test_the_mean_row_takes_at_most_an_even_share_of_the_probability() -> None:
    states = torch.randn(50, 6, generator=torch.Generator().manual_seed(3)) * 4
    logits = states @ ROWS[REGULAR].T
    share = (states @ mean_row(ROWS, OLD) - logits.logsumexp(dim=1)).exp()
    assert share.max() <= 1 / len(REGULAR) + 1e-6
