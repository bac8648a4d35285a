"""Log-probabilities of padded rows against plain loops over a model's own logits in float64."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from suite.errors import ShapeError
from suite.likelihood.heads import OutputHead, head_of
from suite.likelihood.options import LogProbOptions, TokenLogProbs
from suite.likelihood.sequences import sequence_log_probs
from suite.models.trunk import hidden_states, trunk_of

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.4,
    "pad_token_id": 0,
}
BOUNDARY = torch.arange(40) % 3 == 1
LENGTHS = [7, 1, 4]
EXACT = {"rtol": 0.0, "atol": 1e-10}


def llama() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).double().eval()


def padded(lengths: list[int], size: int = 40, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random ids, positions and the mask of rows of these lengths."""
    width = max(1, *lengths)
    ids = torch.randint(size, (len(lengths), width), generator=torch.Generator().manual_seed(seed))
    places = torch.arange(width)
    return ids, places.repeat(len(lengths), 1), places < torch.tensor(lengths)[:, None]


def loop(
    model: Any, ids: Tensor, mask: Tensor, boundary: Tensor | None, num_entries: int
) -> tuple[list[list[Tensor | float]], list[list[Tensor | float]]]:
    """Token and boundary log-probs of every place, 0 where there is none; from the definition."""
    tokens: list[list[Tensor | float]] = []
    boundaries: list[list[Tensor | float]] = []
    for row, real in zip(ids, mask, strict=True):
        length = int(real.sum())
        tokens.append([0.0] * len(row))
        boundaries.append([0.0] * len(row))
        if not length:
            continue
        logits = model(input_ids=row[None, :length]).logits[0, :, :num_entries]
        for place in range(length):
            total = logits[place].exp().sum()
            if place + 1 < length:
                tokens[-1][place + 1] = (logits[place, row[place + 1]].exp() / total).log()
            if boundary is not None:
                inside = boundary[:num_entries].nonzero()[:, 0]
                boundaries[-1][place] = (logits[place, inside].exp().sum() / total).log()
    return tokens, boundaries


def found_of(
    model: Any, head: OutputHead, lengths: list[int], boundary: Tensor | None = BOUNDARY
) -> TokenLogProbs:
    ids, positions, mask = padded(lengths, head.options.vocab_size or 40)
    hidden = hidden_states(trunk_of(model), ids, positions)
    return sequence_log_probs(hidden, ids, mask, head, boundary_mask=boundary)


def as_tensor(rows: list[list[Tensor | float]]) -> Tensor:
    return torch.tensor([[float(value) for value in row] for row in rows], dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["plain", "blockwise"])
def test_values_are_those_of_a_loop_over_the_models_logits(implementation):
    model = llama()
    head = head_of(model, name="it", options=LogProbOptions(implementation=implementation))
    found = found_of(model, head, LENGTHS)
    ids, _, mask = padded(LENGTHS)
    token, boundary = loop(model, ids, mask, BOUNDARY, 40)
    assert torch.allclose(found.token, as_tensor(token), **EXACT)
    assert torch.allclose(found.boundary, as_tensor(boundary), **EXACT)
    assert found.token[0, 1:].max() < 0
    assert found.boundary[0].max() < 0


@torch.no_grad()
def test_padding_and_first_places_are_0():
    model = llama()
    found = found_of(model, head_of(model, name="it"), LENGTHS)
    _, _, mask = padded(LENGTHS)
    assert found.token[:, 0].tolist() == [0, 0, 0]
    assert found.token[~mask].abs().sum() == 0
    assert found.boundary[~mask].abs().sum() == 0


@torch.no_grad()
def test_a_tokenizer_smaller_than_the_head_brings_its_own_mask():
    model = llama()
    head = head_of(model, 35, name="it")
    found = found_of(model, head, LENGTHS, BOUNDARY[:35])
    ids, _, mask = padded(LENGTHS, 35)
    token, boundary = loop(model, ids, mask, BOUNDARY[:35], 35)
    assert torch.allclose(found.token, as_tensor(token), **EXACT)
    assert torch.allclose(found.boundary, as_tensor(boundary), **EXACT)


@torch.no_grad()
def test_a_soft_cap_and_a_scale_are_applied():
    torch.manual_seed(0)
    config = Gemma2Config(**SIZES, final_logit_softcapping=2.0)
    model = Gemma2ForCausalLM(config).double().eval()
    head = head_of(model, name="it")
    ids, _, mask = padded(LENGTHS)
    token, _ = loop(model, ids, mask, None, 40)
    assert torch.allclose(found_of(model, head, LENGTHS).token, as_tensor(token), **EXACT)
    halved = replace(head, weight=head.weight / 2, scale=2.0)
    assert torch.allclose(found_of(model, halved, LENGTHS).token, as_tensor(token), **EXACT)


@torch.no_grad()
def test_without_a_mask_there_is_no_boundary_mass():
    model = llama()
    head = head_of(model, name="it")
    found = found_of(model, head, LENGTHS, None)
    assert found.boundary is None
    assert torch.allclose(found.token, found_of(model, head, LENGTHS).token, **EXACT)


def test_gradients_of_states_and_head_are_those_of_the_loop():
    model = llama()
    head = head_of(model, name="it")
    ids, _, mask = padded(LENGTHS)
    generator = torch.Generator().manual_seed(1)
    upstream = torch.randn(2, *ids.shape, generator=generator, dtype=torch.float64)
    embedding, weight = model.get_input_embeddings().weight, model.lm_head.weight

    found = found_of(model, head, LENGTHS)
    value = (upstream[0] * found.token + upstream[1] * found.boundary).sum()
    grads = torch.autograd.grad(value, [embedding, weight])

    token, boundary = loop(model, ids, mask, BOUNDARY, 40)
    pairs = zip(upstream.flatten().tolist(), chain(*token, *boundary), strict=True)
    expected = torch.autograd.grad(
        sum(scale * value for scale, value in pairs), [embedding, weight]
    )
    for grad, wanted in zip(grads, expected, strict=True):
        assert wanted.norm() > 0.1
        assert torch.allclose(grad, wanted, **EXACT)


def test_neither_padding_nor_a_last_token_that_predicts_nothing_gets_a_gradient():
    model = llama()
    head = head_of(model, name="it")
    ids, positions, mask = padded(LENGTHS)
    hidden = hidden_states(trunk_of(model), ids, positions).detach().requires_grad_()
    sequence_log_probs(hidden, ids, mask, head).token.sum().backward()
    is_used = hidden.grad.norm(dim=-1) > 0
    assert is_used.sum(dim=1).tolist() == [length - 1 for length in LENGTHS]
    sequence_log_probs(hidden, ids, mask, head, boundary_mask=BOUNDARY).boundary.sum().backward()
    assert torch.equal(hidden.grad.norm(dim=-1) > 0, mask)


@torch.no_grad()
def test_ids_and_states_of_padding_are_never_read():
    model = llama()
    head = head_of(model, name="it")
    ids, positions, mask = padded(LENGTHS)
    hidden = hidden_states(trunk_of(model), ids, positions)
    clean = sequence_log_probs(hidden, ids, mask, head, boundary_mask=BOUNDARY)
    junk_ids, junk_hidden = ids.masked_fill(~mask, -100), hidden.clone()
    junk_hidden[~mask] = torch.nan
    junk = sequence_log_probs(junk_hidden, junk_ids, mask, head, boundary_mask=BOUNDARY)
    assert torch.equal(junk.token, clean.token)
    assert torch.equal(junk.boundary, clean.boundary)


def test_rows_without_any_token_are_all_0():
    head = head_of(llama(), name="it")
    ids, _, mask = padded([0, 0])
    hidden = torch.zeros(2, 1, 16, dtype=torch.float64, requires_grad=True)
    found = sequence_log_probs(hidden, ids, mask, head, boundary_mask=BOUNDARY)
    assert found.token.tolist() == found.boundary.tolist() == [[0], [0]]
    (found.token.sum() + found.boundary.sum()).backward()
    assert hidden.grad.abs().sum() == 0


@settings(max_examples=30)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_further_padding_change_nothing(lengths, random):
    head = OutputHead(
        torch.randn(40, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64),
        1.0,
        LogProbOptions(),
    )
    ids, _, mask = padded(lengths)
    hidden = torch.randn(*ids.shape, 16, generator=torch.Generator().manual_seed(3)).double()
    found = sequence_log_probs(hidden, ids, mask, head, boundary_mask=BOUNDARY)
    order = random.sample(range(len(lengths)), len(lengths))
    wider = [torch.cat([part[order]] * 2, dim=1) for part in (hidden, ids, mask)]
    wider[2][:, ids.shape[1] :] = False
    again = sequence_log_probs(*wider, head, boundary_mask=BOUNDARY)
    for values, expected in ((again.token, found.token), (again.boundary, found.boundary)):
        assert torch.allclose(values[:, : ids.shape[1]], expected[order], **EXACT)
        assert values[:, ids.shape[1] :].abs().sum() == 0


@torch.no_grad()
def test_probabilities_of_a_row_of_two_tokens_sum_to_one():
    model = llama()
    head = head_of(model, name="it")
    ids = torch.stack([torch.full((40,), 7), torch.arange(40)], dim=1)
    hidden = hidden_states(trunk_of(model), ids, torch.arange(2).repeat(40, 1))
    mask = torch.ones_like(ids, dtype=torch.bool)
    found = sequence_log_probs(hidden, ids, mask, head, boundary_mask=BOUNDARY)
    assert found.token[:, 1].exp().sum().item() == pytest.approx(1)
    mass = found.token[BOUNDARY, 1].exp().sum().item()
    assert mass == pytest.approx(math.exp(found.boundary[0, 0]))


def test_tensors_that_do_not_belong_together_are_named():
    head = head_of(llama(), name="it")
    ids, _, mask = padded([3])
    with pytest.raises(ShapeError) as refusal:
        sequence_log_probs(torch.zeros(1, 4, 16), ids, mask, head)
    assert str(refusal.value) == (
        "sequence_log_probs: expected hidden [B, T, D], ids [B, T], token_mask [B, T]; got hidden"
        " [1, 4, 16], ids [1, 3], token_mask [1, 3]"
    )
