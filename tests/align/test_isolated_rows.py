"""Isolated rows in real models: every document has the log-probabilities it has alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from packed import packed, texts_of
from torch import Tensor
from trained_tokenizers import opened
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from suite.align.collate import collate
from suite.align.cut import PackConfig
from suite.align.rows import Row

SIDES = opened("byte-level"), opened("bytes:byte-level")
# Longer than a window, shorter, of one token, and one that is cut.
TEXTS = ["The quick brown fox jumps.", "a", "dogs and cats", "It was the best of times. " * 5]
WINDOW = 8
EXACT = 1e-10

Model = LlamaForCausalLM | Gemma3ForCausalLM


def tiny_model(family: str, attention: str) -> Model:
    """Two layers with random weights, float64; Gemma's first layer has a sliding window."""
    settings = {
        "vocab_size": max(len(opened(family).vocabulary) for family in ("byte-level", "marked")),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "attn_implementation": attention,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**settings)).double().eval()
    layers = ["sliding_attention", "full_attention"]
    config = Gemma3TextConfig(**settings, sliding_window=WINDOW, layer_types=layers)
    return Gemma3ForCausalLM(config).double().eval()


@pytest.fixture(params=["eager", "sdpa"])
def attention(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    # Eager attention rounds its weights to float32, which would hide a small leak.
    softmax = torch.nn.functional.softmax
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim, dtype: softmax(x, dim=dim))
    return request.param


@pytest.fixture(params=["llama", "gemma3"])
def model(request: pytest.FixtureRequest, attention: str) -> Model:
    return tiny_model(request.param, attention)


def token_log_probs(model: Model, ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
    """Of each token but the first, [B, T - 1], as training reads them: no mask and no cache."""
    with torch.no_grad():
        logits = model(input_ids=ids, position_ids=position_ids, use_cache=False).logits
    log_probs = logits[:, :-1].log_softmax(-1)
    return log_probs.gather(-1, ids[:, 1:, None]).squeeze(-1)


def differences(model: Model, rows: list[Row], name: str, multiple_of: int = 1) -> list[float]:
    """How far the log-probs of each piece are from those it has when it is run alone."""
    batch = collate(rows, teacher_pad_id=3, student_pad_id=5, multiple_of=multiple_of)
    side = getattr(batch, name)
    found = token_log_probs(model, side.ids, side.position_ids)
    gaps = []
    for number, row in enumerate(rows):
        for start, stop in pieces_of(row, name):
            alone = token_log_probs(model, side.ids[number : number + 1, start:stop])[0]
            gaps.append((found[number, start : stop - 1] - alone).abs().max().item())
    return gaps


def pieces_of(row: Row, name: str) -> list[tuple[int, int]]:
    """Where a side's pieces begin and end: each has a begin token."""
    ids = getattr(row, name).ids
    starts = np.flatnonzero(ids == SIDES[name == "student"].begin_id).tolist()
    return list(pairwise([*starts, len(ids)]))


def packed_rows(packing: str, texts: Sequence[str] = TEXTS) -> list[Row]:
    return packed(texts_of(texts), SIDES, PackConfig(length=56, packing=packing))


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_isolated_documents_have_the_log_probs_they_have_alone(model, name):
    rows = packed_rows("isolated")
    assert [len(row.pieces) for row in rows] == [4, 1]
    found = differences(model, rows, name)
    assert len(found) == 5
    assert max(found) < EXACT


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_concatenated_documents_see_those_before_them(model, name):
    first, *later, alone = differences(model, packed_rows("concatenated"), name)
    assert max(first, alone) < EXACT
    assert len(later) == 3
    assert min(later) > 0.01


@pytest.mark.parametrize("packing", ["isolated", "concatenated", "none"])
def test_padding_changes_nothing(model, packing):
    rows = packed_rows(packing, [TEXTS[0]])
    assert max(differences(model, rows, "teacher", multiple_of=64)) < EXACT
    assert max(differences(model, rows, "student", multiple_of=64)) < EXACT


def test_rows_of_one_document_each_are_those_documents(model):
    rows = packed_rows("none")
    assert [len(row.pieces) for row in rows] == [1] * 4
    assert max(differences(model, rows, "teacher")) < EXACT


def test_a_row_of_several_documents_is_right_alone_in_its_batch_too(model):
    assert max(differences(model, packed_rows("isolated")[:1], "teacher")) < EXACT


def test_documents_of_one_token_without_begin_token_do_not_see_each_other(model):
    sides = tuple(replace(side, begin_id=None) for side in SIDES)
    (row,) = packed(texts_of(["a", "b", "c", "dog"]), sides, PackConfig())
    assert row.student.position_ids.tolist() == [0, 0, 0, 0, 1, 2]
    batch = collate([row]).student
    found = token_log_probs(model, batch.ids, batch.position_ids)[0, 3:]
    assert torch.allclose(found, token_log_probs(model, batch.ids[:, 3:])[0], rtol=0, atol=EXACT)


def test_a_row_that_the_student_cannot_read_disturbs_no_other_row(model):
    sides = SIDES[0], opened("marked")
    unread, read = (packed(texts_of([text]), sides, PackConfig()) for text in ("a ▁ b", "The fox"))
    batch = collate([*unread, *read]).student
    found = token_log_probs(model, batch.ids, batch.position_ids)
    alone = token_log_probs(model, batch.ids[1:])
    assert torch.allclose(found[1], alone[0], rtol=0, atol=EXACT)
    assert found.isfinite().all()
