"""Adapters on tiny random models, and the source model inside a student that was trained."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import chain

import pytest
import torch
from adapted_models import (
    FAMILIES,
    LORA,
    SIZES,
    TOKENIZER,
    build,
    logits,
    start_of,
    train_steps,
    trained,
    with_new_vocabulary,
)
from transformers import BertConfig, BertLMHeadModel, LlamaConfig, LlamaForCausalLM

from suite.align.collate import BatchSide
from suite.distill.lora import LoraConfig, add_adapters
from suite.distill.shared_trunk import original_ends, shared_trunk_teacher
from suite.distill.signals import TeacherSignal
from suite.distill.teacher import LiveTeacher, live_teacher
from suite.errors import ModelError
from suite.likelihood.heads import head_of
from suite.models.trunk import hidden_states, trunk_of

SEVEN = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
DOCUMENTS = ("The quick brown fox jumps over dogs.", "a", "It was the best of times.\n", "No, no")


def batch(rows: Sequence[Sequence[int]] = ((0, 1, 2), (3,), (2, 0))) -> BatchSide:
    """Rows of documents by number; positions restart at each of them."""
    encoded = [TOKENIZER.encode(text).ids.tolist() for text in DOCUMENTS]
    ids = [list(chain(*(encoded[n] for n in row))) for row in rows]
    places = [list(chain(*(range(len(encoded[n])) for n in row))) for row in rows]
    width = max(map(len, ids))
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in ids])
    return BatchSide(
        ids=torch.tensor([row + [0] * (width - len(row)) for row in ids]),
        position_ids=torch.tensor([[*row, *range(width - len(row))] for row in places]),
        token_mask=mask,
        loss_mask=mask,
        chunk_index=torch.full(mask.shape, -1),
        chunk_last=torch.zeros(len(rows), 1, dtype=torch.int64),
    )


def signal(teacher: LiveTeacher) -> TeacherSignal:
    side = batch()
    return teacher.signal(side, range(len(side.ids)))


def assert_same(found: TeacherSignal, expected: TeacherSignal) -> None:
    assert found.hidden is not None
    assert expected.hidden is not None
    assert torch.equal(found.log_probs.token, expected.log_probs.token)
    assert torch.equal(found.log_probs.boundary, expected.log_probs.boundary)
    assert torch.equal(found.hidden, expected.hidden)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_seven_matrices_of_each_block_get_adapters_and_nothing_else(family):
    model = add_adapters(build(family), LORA, trains_ends=False)
    names = [name for name, _ in model.named_modules() if name.endswith(".lora_A.default")]
    assert len(names) == 2 * len(SEVEN)
    assert {name.removesuffix(".lora_A.default").rpartition(".")[2] for name in names} == SEVEN
    free = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert free == {
        f"{name.removesuffix('.lora_A.default')}.lora_{x}.default.weight"
        for name in names
        for x in "AB"
    }


def test_layers_by_other_names_get_adapters_too():
    model = add_adapters(build("gpt2"), LORA, trains_ends=False)
    names = {name.rpartition(".lora_A")[0] for name, _ in model.named_modules()} - {""}
    inside = {name.rpartition(".h.")[2].partition(".")[2] for name in names}
    assert {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"} <= inside
    train_steps(model)
    expected = logits(model)
    torch.testing.assert_close(logits(model.merge_and_unload()), expected, rtol=1e-5, atol=1e-5)


def test_a_model_whose_blocks_are_not_found_is_refused():
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, is_decoder=True
    )
    with pytest.raises(ModelError) as error:
        add_adapters(BertLMHeadModel(config), LORA, trains_ends=False)
    assert str(error.value) == (
        "BertLMHeadModel has no transformer blocks with linear layers that adapters could be put"
        " on; set train to full"
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_adapters_change_no_logits(family):
    expected = logits(build(family))
    model = build(family)
    assert torch.equal(logits(add_adapters(model, LORA, trains_ends=True)), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_moves_adapters_and_ends_and_leaves_the_rest(family):
    before = dict(start_of(family).named_parameters())
    model = trained(family)
    moved = {
        name.replace(".base_layer", "")
        for name, weight in model.get_base_model().named_parameters()
        if "lora_" not in name and not torch.equal(weight, before[name.replace(".base_layer", "")])
    }
    ends = {"model.embed_tokens.weight"} | ({"lm_head.weight"} if family == "llama" else set())
    assert moved == ends
    adapters = [weight for name, weight in model.named_parameters() if "lora_B" in name]
    assert all(weight.abs().max() > 0 for weight in adapters)


def test_tied_ends_stay_tied():
    model = trained("gemma3")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    folded = model.merge_and_unload()
    assert folded.lm_head.weight is folded.model.embed_tokens.weight
    assert folded.config.tie_word_embeddings


def test_what_is_trained_is_in_float32():
    model = add_adapters(build("llama").bfloat16(), LORA, trains_ends=False)
    for name, weight in model.named_parameters():
        assert weight.dtype == (torch.float32 if weight.requires_grad else torch.bfloat16), name


def test_new_ends_on_bfloat16_layers_are_refused():
    with pytest.raises(ModelError) as error:
        add_adapters(build("llama").bfloat16(), LORA, trains_ends=True)
    assert str(error.value) == (
        "LlamaForCausalLM is in bfloat16, but its new embedding and head are trained in float32"
        " and need the layers between them in float32, too; load it with dtype: float32"
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_trunk_and_head_of_an_adapted_model_make_its_logits(family):
    model = trained(family).eval()
    head = head_of(model, name="it")
    ids = torch.arange(10)[None]
    with torch.no_grad():
        states = hidden_states(trunk_of(model), ids, ids)
        expected = model(input_ids=ids).logits
    assert head.weight is model.get_output_embeddings().weight
    torch.testing.assert_close(states @ head.weight.T * head.scale, expected)


@pytest.mark.parametrize("packing", ["isolated", "concatenated"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_teacher_inside_a_student_is_the_source_model_to_the_last_bit(family, dropout, packing):
    source = build(family)
    settings = {"name": "it", "packing": packing, "wants_hidden": True}
    expected = signal(live_teacher(copy.deepcopy(source), TOKENIZER, **settings))
    ends = original_ends(source, TOKENIZER, name="it")
    student = add_adapters(
        with_new_vocabulary(source), LoraConfig(rank=4, dropout=dropout), trains_ends=True
    )
    teacher = shared_trunk_teacher(student, ends, **settings)
    assert_same(signal(teacher), expected)
    train_steps(student)
    student.train()
    assert_same(signal(teacher), expected)
    assert not torch.equal(logits(student)[..., :250], logits(build(family))[..., :250])


def test_a_vocabulary_of_the_same_size_keeps_the_original_ends():
    source = build("llama")
    expected = signal(
        live_teacher(copy.deepcopy(source), TOKENIZER, name="it", packing="none", wants_hidden=True)
    )
    ends = original_ends(source, TOKENIZER, name="it")
    with torch.no_grad():
        source.get_input_embeddings().weight.mul_(-1.5)
        source.get_output_embeddings().weight.mul_(-1.5)
    student = add_adapters(source, LORA, trains_ends=True)
    teacher = shared_trunk_teacher(student, ends, name="it", packing="none", wants_hidden=True)
    assert_same(signal(teacher), expected)


def test_dropout_of_the_model_itself_is_off_for_its_teacher():
    torch.manual_seed(0)
    source = LlamaForCausalLM(LlamaConfig(**SIZES, attention_dropout=0.5))
    settings = {"name": "it", "packing": "none", "wants_hidden": True}
    expected = signal(live_teacher(copy.deepcopy(source), TOKENIZER, **settings))
    ends = original_ends(source, TOKENIZER, name="it")
    student = add_adapters(with_new_vocabulary(source), LORA, trains_ends=True)
    teacher = shared_trunk_teacher(student, ends, **settings)
    student.train()
    assert_same(signal(teacher), expected)


def test_a_signal_leaves_the_student_as_it_was():
    source = build("gemma3")
    ends = original_ends(source, TOKENIZER, name="it")
    config = LoraConfig(rank=4, dropout=0.5)
    student = add_adapters(with_new_vocabulary(source), config, trains_ends=True)
    teacher = shared_trunk_teacher(student, ends, name="it", packing="none")
    train_steps(student)
    student.train()
    student.get_base_model().lm_head.eval()
    modes = {name: module.training for name, module in student.named_modules()}
    free = {name: weight.requires_grad for name, weight in student.named_parameters()}
    weights = {name: weight.clone() for name, weight in student.named_parameters()}
    found = signal(teacher)
    assert not found.log_probs.token.requires_grad
    assert {name: module.training for name, module in student.named_modules()} == modes
    assert {name: w.requires_grad for name, w in student.named_parameters()} == free
    assert all(torch.equal(w, weights[name]) for name, w in student.named_parameters())


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated")
def test_gradient_checkpointing_changes_no_signal():
    source = build("gemma3")
    settings = {"name": "it", "packing": "none", "wants_hidden": True}
    expected = signal(live_teacher(copy.deepcopy(source), TOKENIZER, **settings))
    ends = original_ends(source, TOKENIZER, name="it")
    with_new_vocabulary(source).gradient_checkpointing_enable({"use_reentrant": False})
    student = add_adapters(source, LORA, trains_ends=True)
    teacher = shared_trunk_teacher(student, ends, **settings)
    train_steps(student)
    student.train()
    assert_same(signal(teacher), expected)


def test_a_signal_between_two_passes_changes_no_gradient():
    source = build("llama")
    ends = original_ends(source, TOKENIZER, name="it")
    student = add_adapters(with_new_vocabulary(source), LORA, trains_ends=True)
    teacher = shared_trunk_teacher(student, ends, name="it", packing="none")
    train_steps(student)
    ids = torch.arange(8)[None]
    gradients = []
    for asks in (False, True):
        student.zero_grad()
        loss = student(input_ids=ids, labels=ids).loss
        if asks:
            signal(teacher)
        loss.backward()
        gradients.append({n: w.grad for n, w in student.named_parameters() if w.requires_grad})
    assert all(torch.equal(gradients[1][name], own) for name, own in gradients[0].items())


def test_a_student_is_whole_again_where_its_teacher_fails():
    source = build("llama")
    ends = original_ends(source, TOKENIZER, name="it")
    student = add_adapters(with_new_vocabulary(source), LORA, trains_ends=True)
    train_steps(student)
    expected = logits(student)
    teacher = shared_trunk_teacher(student, ends, name="it", packing="none")
    side = batch()
    side.ids[0, 0] = 10**6
    with pytest.raises(IndexError):
        teacher.signal(side, range(3))
    assert torch.equal(logits(student), expected)


def test_only_the_ends_are_kept_twice():
    source = build("gemma3")
    ends = original_ends(source, TOKENIZER, name="it")
    assert ends.head.weight is ends.embedding.weight
    moved = ends.to("cpu")
    assert moved.head.weight is moved.embedding.weight
    student = add_adapters(with_new_vocabulary(source), LORA, trains_ends=True)
    num_before = sum(weight.numel() for weight in student.parameters())
    shared_trunk_teacher(student, ends, name="it", packing="none")
    assert sum(weight.numel() for weight in student.parameters()) == num_before


def test_a_trunk_that_mixes_documents_is_refused():
    source = build("gpt2")
    ends = original_ends(source, TOKENIZER, name="it")
    source.config._attn_implementation = "flash_attention_2"
    student = add_adapters(source, LORA, trains_ends=True)
    with pytest.raises(ModelError) as error:
        shared_trunk_teacher(student, ends, name="it", packing="isolated")
    assert str(error.value) == (
        "it: flash_attention_2 does not keep the documents of a row apart in batches;"
        " load the model with attn_implementation: sdpa, or set packing to none or concatenated"
    )
