from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from log_prob_cases import (
    IMPLEMENTATIONS,
    assert_same,
    small_case,
)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("junk", [1e30, float("inf"), float("nan")])
def test_rows_beyond_the_vocabulary_are_never_read_and_get_no_gradient(
    implementation: str, junk: float
) -> None:
    case = small_case(num_entries=11, has_bias=True, vocab_size=8)
    assert case.bias is not None
    weight, bias = case.weight.clone(), case.bias.clone()
    weight[8:], bias[8:] = junk, junk
    found = replace(case, weight=weight, bias=bias).answer(implementation, 5)
    cut = replace(case, weight=weight[:8], bias=bias[:8], boundary_mask=case.boundary_mask[:8])
    expected = replace(cut, vocab_size=None).answer(implementation, 5)
    for output in ("d_weight", "d_bias"):
        assert bool((found[output][8:] == 0).all())
        found[output] = found[output][:8]
    for output, value in expected.items():
        torch.testing.assert_close(found[output], value, rtol=0, atol=0)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_entries_that_a_short_boundary_mask_does_not_reach_are_in_no_set(
    implementation: str,
) -> None:
    case = small_case(num_entries=11)
    assert case.boundary_mask is not None
    short = replace(case, boundary_mask=case.boundary_mask[:6])
    padded = replace(case, boundary_mask=case.boundary_mask & (torch.arange(11) < 6))
    expected = padded.answer(implementation, 4)
    for output, value in short.answer(implementation, 4).items():
        torch.testing.assert_close(value, expected[output], rtol=0, atol=0)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_dead_entries_get_no_gradient_and_do_no_harm(implementation: str) -> None:
    case = small_case(num_entries=11, has_bias=True)
    assert case.bias is not None
    assert case.boundary_mask is not None
    alive = torch.arange(11) % 3 != 2
    targets = torch.tensor([0, 1, 3, 4])
    dead = replace(case, bias=case.bias.masked_fill(~alive, -torch.inf), targets=targets)
    without = replace(
        case,
        weight=case.weight[alive],
        bias=case.bias[alive],
        boundary_mask=case.boundary_mask[alive],
        targets=torch.cumsum(alive, 0)[targets] - 1,
    )
    found = dead.answer(implementation, 3)
    for output in ("d_weight", "d_bias"):
        assert bool((found[output][~alive] == 0).all())
        found[output] = found[output][alive]
    assert_same(found, without.answer("plain"))


@pytest.mark.parametrize("implementation", ["blockwise", "triton"])
def test_a_block_of_dead_entries_does_no_harm(implementation: str) -> None:
    case = small_case(num_entries=9, has_bias=True)
    assert case.bias is not None
    for dead in (slice(0, 3), slice(6, 9)):
        bias = case.bias.clone()
        bias[dead] = -torch.inf
        changed = replace(case, bias=bias, targets=torch.full((4,), 4))
        mask = torch.arange(9) % 2 == 0
        changed = replace(changed, boundary_mask=mask)
        assert_same(changed.answer(implementation, 3), changed.answer("plain"))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_set_of_all_entries_is_certain(implementation: str) -> None:
    case = small_case(num_entries=9)
    everything = replace(case, boundary_mask=torch.ones(9, dtype=torch.bool))
    found = everything.answer(implementation, 4)
    assert bool((found["boundary"] <= 0).all())
    assert bool((found["boundary"] >= -1e-6).all())
    bare = replace(case, boundary_mask=None).answer(implementation, 4)
    for output, value in bare.items():
        torch.testing.assert_close(found[output], value, rtol=0, atol=2e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_rows_give_no_numbers_and_gradients_of_0(implementation: str) -> None:
    case = small_case(num_tokens=0, num_entries=9, has_bias=True)
    found = case.answer(implementation, 4)
    assert found["token"].shape == found["boundary"].shape == (0,)
    assert found["d_hidden"].shape == (0, 8)
    assert bool((found["d_weight"] == 0).all())
    assert bool((found["d_bias"] == 0).all())


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_only_entry_of_a_vocabulary_is_certain(implementation: str) -> None:
    found = small_case(num_tokens=2, num_entries=1).answer(implementation)
    assert found["token"].tolist() == found["boundary"].tolist() == [0, 0]
    assert bool((found["d_hidden"] == 0).all())
    assert bool((found["d_weight"] == 0).all())
