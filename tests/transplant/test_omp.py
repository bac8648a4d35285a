from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import kept, kept_plan, replaced_plan
from trained_tokenizers import opened

from suite.errors import ConfigError, ModelError
from suite.transplant.contract import Composition, DonorRows
from suite.transplant.omp import matching_pursuit, omp


def plain_pursuit(target: np.ndarray, rows: np.ndarray, k: int) -> tuple[list[int], np.ndarray]:
    """By the definition, one target, plain loops: picks and weights."""
    target, rows = target.astype(np.float64), rows.astype(np.float64)
    picks: list[int] = []
    rest, weights = target, np.zeros(0)
    for _ in range(k):
        best, most = -1, -1.0
        for place, row in enumerate(rows):
            size = np.sqrt((row * row).sum())
            match = abs((row / size * rest).sum()) if size and place not in picks else -1.0
            if match > most:
                best, most = place, match
        picks.append(best)
        weights = np.linalg.lstsq(rows[picks].T, target, rcond=None)[0]
        rest = target - weights @ rows[picks]
    return picks, weights


def random_rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=10)
@given(
    num=st.integers(1, 5),
    num_rows=st.integers(8, 20),
    size=st.integers(9, 20),
    k=st.integers(1, 8),
    seed=st.integers(0, 999),
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_picks_and_weights_are_those_of_the_definition(
    dtype: torch.dtype, num: int, num_rows: int, size: int, k: int, seed: int
) -> None:
    targets = random_rows(num, size, seed=seed, dtype=dtype)
    rows = random_rows(num_rows, size, seed=seed + 1, dtype=dtype)
    # Lengths must not matter for the choice.
    rows *= torch.arange(1, num_rows + 1)[:, None] ** 2
    found = matching_pursuit(targets, rows, k)
    tolerance = 1e-3 if dtype == torch.float32 else 1e-9
    for target, picks, weights in zip(targets, found.picks, found.weights, strict=True):
        expected_picks, expected = plain_pursuit(target.numpy(), rows.numpy(), k)
        assert picks.tolist() == expected_picks
        scale = np.abs(expected).max()
        np.testing.assert_allclose(weights / scale, expected / scale, atol=tolerance)


def test_a_row_of_a_shared_token_is_met_at_once() -> None:
    rows = random_rows(50, 16)
    found = matching_pursuit(3 * rows[[7, 20]], rows, 5)
    assert found.picks[:, 0].tolist() == [7, 20]
    expected = torch.tensor([[3.0, 0, 0, 0, 0]] * 2)
    torch.testing.assert_close(found.weights, expected, atol=1e-5, rtol=0)


def test_more_picks_than_dimensions_meet_the_target_and_stay_finite() -> None:
    rows, targets = random_rows(40, 6), random_rows(9, 6, seed=1)
    found = matching_pursuit(targets, rows, 20)
    torch.testing.assert_close(found.of(rows), targets, atol=1e-4, rtol=0)
    assert (found.weights != 0).sum(dim=1).max() <= 7


def test_rows_that_are_equal_or_zero_do_no_harm() -> None:
    rows = random_rows(30, 12)
    rows[5], rows[6], rows[9] = rows[4], -2 * rows[4], 0
    found = matching_pursuit(random_rows(8, 12, seed=2), rows, 10)
    assert found.weights.isfinite().all()
    for picks in found.picks.tolist():
        assert len(set(picks)) == len(picks)
    zero = matching_pursuit(torch.zeros(2, 12), rows, 10)
    assert not zero.weights.any()


def test_blocks_and_progress_change_nothing() -> None:
    rows, targets = random_rows(60, 10), random_rows(23, 10, seed=3)
    steps: list[tuple[int, int]] = []
    whole = matching_pursuit(targets, rows, 4)
    cut = matching_pursuit(
        targets, rows, 4, lambda done, total: steps.append((done, total)), block_bytes=60 * 4 * 5
    )
    assert torch.equal(whole.picks, cut.picks)
    torch.testing.assert_close(whole.weights, cut.weights)
    assert steps == [(done, 20) for done in range(1, 21)]


def problem(k: int = 4, *, donor_rows: int | None = None, ties_donor: bool = False) -> Composition:
    old = opened("marked")
    plan = kept_plan(old, kept(old, "byte-level"))
    number = donor_rows or len(opened("byte-level").vocabulary)
    given = random_rows(number, 12, seed=5)
    output = given if ties_donor else random_rows(number, 12, seed=6)
    return Composition(old=old, plan=plan, donor=DonorRows(given, output), k=k)


@pytest.mark.parametrize("part", ["input", "output"])
def test_new_rows_are_the_donors_sums_of_the_models_rows(part: str) -> None:
    composition = problem()
    rows = random_rows(len(composition.old.vocabulary), 9, seed=7)
    found = omp(composition)(rows, part)
    donor = getattr(composition.donor, part).numpy()
    new, old = composition.plan.shared.T
    for place in (0, 17, len(found) - 1):
        number = composition.plan.composed[place]
        picks, weights = plain_pursuit(donor[number], donor[new], 4)
        expected = weights @ rows.numpy().astype(np.float64)[old[picks]]
        np.testing.assert_allclose(found[place], expected, atol=1e-4)


def test_a_tied_donor_is_fitted_once() -> None:
    steps: list[int] = []
    composition = problem(ties_donor=True)
    composition = Composition(
        **{name: getattr(composition, name) for name in ("old", "plan", "donor", "k")},
        on_step=lambda done, total: steps.append(done),
    )
    compose = omp(composition)
    rows = random_rows(len(composition.old.vocabulary), 9)
    assert torch.equal(compose(rows, "input"), compose(rows, "output"))
    assert steps == [1, 2, 3, 4]


def test_fewer_shared_tokens_than_picks_are_refused() -> None:
    shared = len(problem().plan.shared)
    with pytest.raises(ConfigError) as error:
        omp(problem(shared + 1))
    assert str(error.value) == (
        f"k is {shared + 1}, but the two tokenizers share only {shared} tokens; give a smaller k,"
        " or take fvt"
    )


def test_without_a_donor_it_is_refused() -> None:
    composition = problem()
    with pytest.raises(ConfigError) as error:
        omp(Composition(old=composition.old, plan=composition.plan))
    assert str(error.value) == "omp needs the model that owns the tokenizer; give its source"


def test_a_new_token_without_row_in_the_donor_is_refused() -> None:
    old = opened("marked")
    plan = replaced_plan(old, opened("byte-level"))
    last = int(plan.composed[-1])
    donor = DonorRows(torch.zeros(last, 4), torch.zeros(last, 4))
    with pytest.raises(ModelError) as error:
        omp(Composition(old=old, plan=plan, donor=donor))
    assert str(error.value) == (
        f"the model that owns the tokenizer has no row for its token {last}; take fvt, or keep the"
        " special tokens"
    )


def test_a_shared_token_without_row_in_the_donor_is_refused() -> None:
    old = opened("marked")
    plan = replace(kept_plan(old, kept(old, "byte-level")), composed=np.zeros(0, np.int64))
    last = int(plan.shared[:, 0].max())
    donor = DonorRows(torch.zeros(last, 4), torch.zeros(last, 4))
    with pytest.raises(ModelError) as error:
        omp(Composition(old=old, plan=plan, donor=donor, k=4))
    assert str(error.value) == (
        f"the model that owns the tokenizer has no row for its token {last}; take fvt"
    )


@pytest.mark.gpu
def test_a_gpu_picks_the_same() -> None:
    targets, rows = random_rows(20, 64), random_rows(500, 64, seed=1)
    expected = matching_pursuit(targets, rows, 8)
    found = matching_pursuit(targets.cuda(), rows.cuda(), 8)
    assert torch.equal(found.picks, expected.picks)
    torch.testing.assert_close(found.weights, expected.weights, atol=1e-4, rtol=1e-3)
