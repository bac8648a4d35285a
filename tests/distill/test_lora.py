"""Adapters on tiny random models, and the source model inside a student that was trained."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from trained_tokenizers import opened
from transformers import (
    BertConfig,
    BertLMHeadModel,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from suite.align.collate import BatchSide
from suite.distill.lora import LoraConfig, add_adapters, fold, load_adapter, save_adapter
from suite.distill.shared_trunk import original_ends, shared_trunk_teacher
from suite.distill.signals import TeacherSignal
from suite.distill.teacher import LiveTeacher, live_teacher
from suite.errors import ModelError
from suite.likelihood.heads import head_of
from suite.models.trunk import hidden_states, trunk_of

TOKENIZER = opened("byte-level")
NUM_ROWS = len(TOKENIZER.vocabulary) + 7
# Of another tokenizer's vocabulary.
NEW_ROWS = 300
SIZES = {
    "vocab_size": NUM_ROWS,
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
SEVEN = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
LORA = LoraConfig(rank=4, alpha=8)
FAMILIES = ("llama", "gemma3")
DOCUMENTS = ("The quick brown fox jumps over dogs.", "a", "It was the best of times.\n", "No, no")


def build(family: str) -> Any:
    """Random weights; Gemma's embedding is scaled and tied, Llama's is neither."""
    torch.manual_seed(0)
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    if family == "gpt2":
        sizes = {"vocab_size": NUM_ROWS, "n_embd": 32, "n_layer": 2, "n_head": 2}
        return GPT2LMHeadModel(GPT2Config(**sizes, n_positions=128)).eval()
    model = Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, **WINDOW)).eval()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    return model


def with_new_vocabulary(model: Any) -> Any:
    """Other rows, and another number of them, in place."""
    model.resize_token_embeddings(NEW_ROWS, mean_resizing=False)
    with torch.no_grad():
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            torch.nn.init.normal_(module.weight, std=0.3)
    return model


def train_steps(model: Any, num_steps: int = 3) -> None:
    model.train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.3)
    ids = torch.randint(0, 250, (2, 12), generator=torch.Generator().manual_seed(1))
    for _ in range(num_steps):
        optimiser.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()


def trained(family: str, *, trains_ends: bool = True, config: LoraConfig = LORA) -> Any:
    model = build(family)
    if trains_ends:
        with_new_vocabulary(model)
    model = add_adapters(model, config, trains_ends=trains_ends)
    train_steps(model)
    return model


def start_of(family: str, *, trains_ends: bool = True) -> Any:
    """What `trained` began with."""
    model = build(family)
    return with_new_vocabulary(model) if trains_ends else model


@torch.no_grad()
def logits(model: Any) -> Tensor:
    ids = torch.arange(3, 43).reshape(2, 20)
    found: Tensor = model.eval()(input_ids=ids, use_cache=False).logits
    return found


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
    torch.testing.assert_close(logits(fold(model)), expected, rtol=1e-5, atol=1e-5)


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
    folded = fold(model)
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


def folded_by_hand(model: Any, alpha: int, rank: int) -> dict[str, Tensor]:
    """Each W + alpha / rank * B A, in float64."""
    state = model.get_base_model().state_dict()
    found = {}
    for name, weight in state.items():
        if ".lora_" in name:
            continue
        plain = name.replace(".base_layer", "")
        found[plain] = weight.double()
        if plain != name:
            layer = plain.removesuffix(".weight")
            a, b = (state[f"{layer}.lora_{x}.default.weight"].double() for x in "AB")
            found[plain] = weight.double() + alpha / rank * b @ a
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folded_model_is_plain_and_has_the_sums_as_weights(family):
    model = trained(family)
    expected, answers = folded_by_hand(model, 8, 4), logits(model)
    folded = fold(model)
    assert type(folded) is type(build(family))
    state = folded.state_dict()
    assert set(state) == set(expected)
    for name, weight in state.items():
        torch.testing.assert_close(weight.double(), expected[name], rtol=1e-5, atol=1e-6)
    difference = (logits(folded) - answers).norm() / answers.norm()
    assert difference < 1e-5


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("trains_ends", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_adapter_comes_back_to_the_last_bit(family, trains_ends, trainable, tmp_path):
    model = trained(family, trains_ends=trains_ends)
    save_adapter(model, tmp_path / "adapter")
    start = start_of(family, trains_ends=trains_ends)
    again = load_adapter(start, tmp_path / "adapter", trainable=trainable)
    expected = dict(model.named_parameters())
    found = dict(again.named_parameters())
    assert set(found) == set(expected)
    for name, weight in found.items():
        assert torch.equal(weight, expected[name]), name
        assert weight.requires_grad == (trainable and expected[name].requires_grad), name
    assert torch.equal(logits(again), logits(model))
    if trainable:  # Training goes on as if nothing had happened.
        for one in (model, again):
            train_steps(one, 1)
        assert torch.equal(logits(again), logits(model))


def test_files_are_those_of_peft_and_one_for_the_ends(tmp_path):
    save_adapter(trained("gemma3"), tmp_path / "tied")
    files = {path.name for path in (tmp_path / "tied").iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors", "ends.safetensors"}
    with safe_open(tmp_path / "tied" / "ends.safetensors", framework="pt") as file:
        assert set(file.keys()) == {"embedding.weight"}
    save_adapter(trained("llama"), tmp_path / "untied")
    with safe_open(tmp_path / "untied" / "ends.safetensors", framework="pt") as file:
        assert set(file.keys()) == {"embedding.weight", "head.weight"}
    save_adapter(trained("llama", trains_ends=False), tmp_path / "alone")
    assert not (tmp_path / "alone" / "ends.safetensors").exists()


def test_an_adapter_saved_twice_is_the_same_files(tmp_path):
    model = trained("gemma3")
    for name in ("one", "two"):
        save_adapter(model, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    settings = json.loads((tmp_path / "one" / "adapter_config.json").read_text())
    assert settings["target_modules"] == sorted(settings["target_modules"])


def test_gathered_weights_are_saved_in_place_of_the_models_own(tmp_path):
    model = trained("llama")
    gathered = {name: weight + 1 for name, weight in model.state_dict().items()}
    save_adapter(model, tmp_path, gathered=gathered)
    again = load_adapter(start_of("llama"), tmp_path, trainable=True)
    for name, weight in again.named_parameters():
        if weight.requires_grad:
            assert torch.equal(weight, gathered[name]), name


def test_peft_itself_reads_the_adapter(tmp_path):
    from peft import PeftModel

    model = trained("llama", trains_ends=False)
    save_adapter(model, tmp_path)
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):
        again = PeftModel.from_pretrained(build("llama"), str(tmp_path))
    assert torch.equal(logits(again), logits(model))


@pytest.mark.parametrize("change", ["vocab_size", "num_hidden_layers", "intermediate_size"])
def test_an_adapter_of_another_model_is_refused(change, tmp_path):
    save_adapter(trained("llama"), tmp_path)
    other = LlamaForCausalLM(LlamaConfig(**SIZES | {"vocab_size": NEW_ROWS, change: 64}))
    if change == "num_hidden_layers":
        other = LlamaForCausalLM(LlamaConfig(**SIZES | {"vocab_size": NEW_ROWS, change: 1}))
    with pytest.raises(ModelError) as error:
        load_adapter(other, tmp_path, trainable=False)
    assert str(error.value) == (
        f"{tmp_path}: these adapters were not trained on this LlamaForCausalLM, whose layers or"
        " vocabulary are others; give the model they were trained on"
    )


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
