"""Trunks of tiny random models: final states, and documents that must not see each other."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
)

from suite.errors import ModelError
from suite.models.trunk import (
    check_isolation,
    evaluating,
    hidden_states,
    probe_ids,
    relative_difference,
    rounding,
    trunk_of,
)

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2_SIZES = {"n_embd": 32, "n_head": 2, "n_layer": 2, "n_positions": 64}
WINDOW = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}

APART = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig, WINDOW),
    "gpt2": (GPT2LMHeadModel, GPT2Config, GPT2_SIZES),
    "mixtral": (MixtralForCausalLM, MixtralConfig, {"num_local_experts": 4}),
}
# Masks that ignore positions, and recurrent layers.
TOGETHER = {
    "opt": (OPTForCausalLM, OPTConfig, {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.3}),
    "bloom": (BloomForCausalLM, BloomConfig, {"n_head": 2, "n_layer": 2}),
    "mamba": (MambaForCausalLM, MambaConfig, {"state_size": 4}),
    "recurrent gemma": (
        RecurrentGemmaForCausalLM,
        RecurrentGemmaConfig,
        {"lru_width": 32, "attention_window_size": 8, "num_hidden_layers": 3},
    ),
}
PEFT_WARNING = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"


def build(family: str, **settings: Any) -> Any:
    """Random weights, float32, in training mode as its constructor leaves it."""
    model, config, own = (APART | TOGETHER)[family]
    torch.manual_seed(0)
    return model(config(**{**SIZES, **own, **settings}))


@pytest.mark.parametrize("family", APART)
def test_final_states_under_the_head_are_the_models_logits(family):
    model = build(family).eval()
    ids = torch.tensor([[5, 9, 33, 2], [8, 1, 0, 60]])
    states = hidden_states(trunk_of(model), ids, torch.arange(4).repeat(2, 1))
    assert states.shape == (2, 4, 32)
    logits = states @ model.get_output_embeddings().weight.T
    assert torch.allclose(logits, model(input_ids=ids).logits, atol=1e-5)


def test_gradients_pass_through_the_trunk():
    model = build("llama").eval()
    ids = torch.tensor([[5, 9, 33]])
    hidden_states(trunk_of(model), ids, torch.arange(3)[None]).square().sum().backward()
    assert model.get_input_embeddings().weight.grad[9].norm() > 0


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_a_wrapped_models_trunk_has_its_adapters():
    plain = build("llama").eval()
    ids, positions = torch.tensor([[5, 9, 33]]), torch.arange(3)[None]
    before = hidden_states(trunk_of(plain), ids, positions)
    config = LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    wrapped = get_peft_model(plain, config).eval()
    after = hidden_states(trunk_of(wrapped), ids, positions)
    assert relative_difference(after, before) > 1e-3
    with wrapped.disable_adapter():
        assert torch.equal(hidden_states(trunk_of(wrapped), ids, positions), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", APART)
def test_models_that_keep_documents_apart_are_accepted(family, dtype):
    check_isolation(build(family).to(dtype), "it")


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_eager_attention_keeps_documents_apart_too(family):
    check_isolation(build(family, attn_implementation="eager"), "it")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", TOGETHER)
def test_models_that_do_not_keep_documents_apart_are_refused(family, dtype):
    with pytest.raises(ModelError, match=r"^it: \w+ does not keep the documents of a row apart \("):
        check_isolation(build(family).to(dtype), "it")


def test_the_refusal_says_what_was_found_and_what_to_do():
    with pytest.raises(ModelError) as refusal:
        check_isolation(build("bloom"), "--teacher path:bloom")
    assert re.sub(r"\d+%", "107%", str(refusal.value)) == (
        "--teacher path:bloom: BloomModel does not keep the documents of a row apart (the one"
        " before it changes a document's final states by 107%); set packing to none or"
        " concatenated, or load the model with another attn_implementation"
    )


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_a_wrapped_model_is_checked_inside():
    config = LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    check_isolation(get_peft_model(build("llama"), config), "it")
    with pytest.raises(ModelError, match="OPTDecoder does not keep"):
        check_isolation(get_peft_model(build("opt"), config), "it")


def ignore_positions_in_the_mask(trunk: Any) -> None:
    """Give the trunk's mask the positions of one long document; the rest keeps those given."""
    forward = trunk.forward

    def forgetful(input_ids: Any, position_ids: Any, use_cache: bool) -> Any:
        mask = torch.ones_like(input_ids)
        return forward(input_ids, attention_mask=mask, position_ids=position_ids, use_cache=False)

    trunk.forward = forgetful


def test_positions_that_restart_without_a_mask_are_a_leak():
    model = build("llama")
    ignore_positions_in_the_mask(model.model)
    with pytest.raises(ModelError, match="apart"):
        check_isolation(model, "it")


def test_a_model_that_reads_apart_but_not_from_position_0_is_refused():
    model = build("gpt2")
    forward = model.transformer.forward

    def shifted(input_ids: Any, position_ids: Any, use_cache: bool) -> Any:
        begins = (position_ids.diff(prepend=position_ids[:, :1] - 1) != 1).cumsum(-1)
        return forward(input_ids, position_ids=position_ids + 20 * begins, use_cache=False)

    model.transformer.forward = shifted
    with pytest.raises(ModelError, match="apart"):
        check_isolation(model, "it")


def test_states_that_are_no_numbers_are_refused():
    model = build("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    with pytest.raises(ModelError, match="by nan%"):
        check_isolation(model, "it")


@pytest.mark.parametrize("implementation", ["flash_attention_2", "kernels-community/flash-attn3"])
def test_flash_attention_is_refused_by_name(implementation, monkeypatch):
    model = build("llama")
    monkeypatch.setattr(model.config, "_attn_implementation_internal", implementation)
    with pytest.raises(ModelError) as refusal:
        check_isolation(model, "--teacher path:it")
    assert str(refusal.value) == (
        f"--teacher path:it: {implementation} does not keep the documents of a row apart in"
        " batches; load the model with attn_implementation: sdpa, or set packing to none or"
        " concatenated"
    )


def test_a_check_leaves_no_trace():
    model = build("gpt2")
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    check_isolation(model, "it")
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())


def test_modes_come_back_after_an_error_too():
    model = build("gpt2")
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert all(module.training for module in model.modules())
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert all(module.training for module in model.modules())


def test_ids_to_try_a_model_with_are_spread_over_its_vocabulary():
    model = build("llama")
    assert probe_ids(model, 4).tolist() == [[0, 16, 32, 48]]
    assert probe_ids(model, 66)[0, 62:].tolist() == [62, 63, 0, 1]


def test_a_relative_difference_is_a_share_of_what_was_expected():
    found, expected = torch.tensor([3.0, 4.5]), torch.tensor([3.0, 4.0])
    assert relative_difference(found, expected) == pytest.approx(0.1)
    assert relative_difference(expected, expected) == 0
    assert relative_difference(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_difference(expected, torch.zeros(2)) == torch.inf


def test_rounding_is_that_of_the_dtype_but_never_finer_than_tf32():
    assert rounding(torch.bfloat16) == 2**-7
    assert rounding(torch.float16) == 2**-10
    assert rounding(torch.float32) == 2**-10
