"""Heads of tiny random models, checked against the models' own logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from trained_tokenizers import opened
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    FalconH1Config,
    FalconH1ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    HyperCLOVAXConfig,
    HyperCLOVAXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MptConfig,
    MptForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from suite.errors import ModelError
from suite.likelihood.heads import OutputHead, head_of, num_entries
from suite.likelihood.log_probs import token_log_probs
from suite.likelihood.options import LogProbOptions
from suite.models.trunk import hidden_states, trunk_of

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
MAMBA_SIZES = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_state": 4}
MPT_SIZES = {"d_model": 32, "n_heads": 2, "n_layers": 2, "max_seq_len": 64}
# Model, config, its own settings, then the scale and the soft-cap that its head must have.
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any], float, float | None]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}, 1.0, None),
    "gpt2, tied": (GPT2LMHeadModel, GPT2Config, GPT2_SIZES, 1.0, None),
    "phi, bias": (PhiForCausalLM, PhiConfig, {}, 1.0, None),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config, {"final_logit_softcapping": 3.0}, 1.0, 3.0),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig, {}, 1.0, None),
    "cohere": (CohereForCausalLM, CohereConfig, {"logit_scale": 0.3}, 0.3, None),
    "granite": (GraniteForCausalLM, GraniteConfig, {"logits_scaling": 8.0}, 0.125, None),
    "hyperclova": (HyperCLOVAXForCausalLM, HyperCLOVAXConfig, {"logits_scaling": 8.0}, 8.0, None),
    "falcon h1": (
        FalconH1ForCausalLM,
        FalconH1Config,
        {"lm_head_multiplier": 0.4, **MAMBA_SIZES},
        0.4,
        None,
    ),
    "mpt, ignored": (MptForCausalLM, MptConfig, {"logit_scale": 0.3, **MPT_SIZES}, 1.0, None),
}
PEFT_WARNING = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"


def build(family: str, **settings: Any) -> Any:
    """Random weights; the bias of a head, too, which is 0 in a new model."""
    model, config, own, *_ = FAMILIES[family]
    torch.manual_seed(0)
    built = model(config(**{**SIZES, **own, **settings})).eval()
    bias = built.get_output_embeddings().bias
    if bias is not None:
        torch.nn.init.normal_(bias)
    return built


def log_probs_of(model: Any, head: OutputHead, ids: Tensor) -> Tensor:
    """Of each id but the first, through trunk and head, [T - 1]."""
    states = hidden_states(trunk_of(model), ids[None], torch.arange(len(ids))[None])[0, :-1]
    return token_log_probs(states * head.scale, head.weight, ids[1:], options=head.options).token


IDS = torch.tensor([5, 9, 33, 2, 61, 40])


@pytest.mark.parametrize("family", FAMILIES)
def test_trunk_and_head_give_the_models_own_log_probs(family):
    model = build(family).double()
    head = head_of(model, name="it")
    *_, scale, softcap = FAMILIES[family]
    assert (head.scale, head.options.softcap) == (scale, softcap)
    expected = model(input_ids=IDS[None]).logits[0, :-1].double().log_softmax(-1)
    found = log_probs_of(model, head, IDS)
    assert torch.allclose(found, expected.gather(1, IDS[1:, None])[:, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_heads_are_found_in_half_precision_too(family, dtype):
    head = head_of(build(family).to(dtype), name="it")
    assert (head.scale, head.options.softcap) == FAMILIES[family][3:]


def test_parameters_are_the_models_own_so_gradients_reach_them():
    model = build("phi, bias")
    head = head_of(model, name="it")
    assert head.weight is model.lm_head.weight
    assert head.options.bias is model.lm_head.bias
    log_probs_of(model, head, IDS).sum().backward()
    assert model.lm_head.weight.grad.norm() > 0
    assert model.lm_head.bias.grad.norm() > 0
    assert model.get_input_embeddings().weight.grad[9].norm() > 0


def test_settings_of_the_computation_are_kept():
    options = LogProbOptions(implementation="plain", block_size=16)
    found = head_of(build("gemma2"), 60, name="it", options=options).options
    assert (found.implementation, found.block_size, found.vocab_size) == ("plain", 16, 60)


def test_rows_beyond_the_tokenizers_size_are_left_out():
    model = build("llama")
    head = head_of(model, 62, name="it")
    expected = model(input_ids=IDS[None]).logits[0, :-1, :62].log_softmax(-1)
    found = log_probs_of(model, head, IDS)
    assert torch.allclose(found, expected.gather(1, IDS[1:, None])[:, 0], rtol=0, atol=1e-5)


def test_a_tokenizer_larger_than_the_model_is_refused():
    with pytest.raises(ModelError) as refusal:
        head_of(build("llama"), 65, name="--teacher path:it")
    assert str(refusal.value) == (
        "--teacher path:it: the tokenizer has 65 entries, the model's output embedding only 64"
        " rows; choose the tokenizer that the model was trained with"
    )


class LoudLlama(LlamaForCausalLM):
    """Multiplies its logits by a number that its configuration does not name."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * 1.25
        return output


def test_logits_that_are_made_in_an_unknown_way_are_refused():
    torch.manual_seed(0)
    model = LoudLlama(LlamaConfig(**SIZES))
    with pytest.raises(ModelError) as refusal:
        head_of(model, name="--teacher path:it")
    assert str(refusal.value) == (
        "--teacher path:it: the logits of LoudLlama differ by 20% from its final states times its"
        " output embedding, with the scale, bias and soft-cap it is known to have; choose another"
        " model"
    )


def test_a_cap_that_is_not_named_is_refused(monkeypatch):
    model = build("gemma2")
    monkeypatch.setattr("suite.likelihood.heads._softcap", lambda config: None)
    with pytest.raises(ModelError, match="the logits of Gemma2ForCausalLM differ by"):
        head_of(model, name="it")


def test_logits_that_are_no_numbers_are_refused():
    model = build("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    with pytest.raises(ModelError) as caught:
        head_of(model, name="it")
    assert str(caught.value) == (
        "it: the logits of LlamaForCausalLM are not numbers (NaN) in float32; try dtype: float32,"
        " or check its weights"
    )


def test_a_head_of_zeros_has_the_scale_that_its_configuration_names():
    model = build("cohere")
    torch.nn.init.zeros_(model.lm_head.weight)
    assert head_of(model, name="it").scale == 0.3


def test_dropout_does_not_disturb_the_check_and_stays_on():
    model = build("gpt2, tied", resid_pdrop=0.5, embd_pdrop=0.5).train()
    head_of(model, name="it")
    assert all(module.training for module in model.modules())


def test_a_model_without_head_is_refused():
    torch.manual_seed(0)
    with pytest.raises(ModelError) as refusal:
        head_of(LlamaModel(LlamaConfig(**SIZES)), name="it")
    assert str(refusal.value) == (
        "it: the output embedding of LlamaModel is NoneType, not a plain matrix of numbers; choose"
        " a causal language model, and load it with its output embedding not quantised"
    )


def test_a_quantised_head_is_refused():
    model = build("llama")
    model.lm_head.weight = torch.nn.Parameter(
        torch.zeros(64, 32, dtype=torch.uint8), requires_grad=False
    )
    with pytest.raises(
        ModelError, match=r"^it: the output embedding of LlamaForCausalLM is Linear"
    ):
        head_of(model, name="it")


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_a_head_that_is_trained_in_full_beside_adapters_is_the_trained_one():
    config = LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"])
    model = get_peft_model(build("llama"), config)
    head = head_of(model, name="it")
    assert head.weight.requires_grad
    log_probs_of(model, head, IDS).sum().backward()
    (grad,) = (
        weight.grad for name, weight in model.named_parameters() if "modules_to_save" in name
    )
    assert grad.norm() > 0


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_an_adapter_on_the_head_is_refused():
    config = LoraConfig(target_modules=["q_proj", "lm_head"])
    with pytest.raises(ModelError) as refusal:
        head_of(get_peft_model(build("llama"), config), name="it")
    assert str(refusal.value) == (
        "it: the output embedding has an adapter on it, which its weight alone does not show;"
        " train it in full (modules_to_save) instead"
    )


def test_special_tokens_without_a_row_are_left_out():
    vocabulary = opened("byte-level").vocabulary
    last_regular = int(np.flatnonzero(vocabulary.byte_lengths)[-1])
    num_special = len(vocabulary) - last_regular - 1
    assert num_special == 5
    for num_rows in (len(vocabulary) + 3, len(vocabulary), len(vocabulary) - num_special):
        model = build("llama", vocab_size=num_rows)
        assert num_entries(vocabulary, model, name="it") == min(num_rows, len(vocabulary))


def test_regular_tokens_without_a_row_are_refused():
    vocabulary = opened("byte-level").vocabulary
    num_regular = int(np.count_nonzero(vocabulary.byte_lengths))
    with pytest.raises(ModelError) as refusal:
        num_entries(vocabulary, build("llama"), name="--teacher path:it")
    assert str(refusal.value) == (
        f"--teacher path:it: {num_regular - 64} tokens of the tokenizer have no row in the model's"
        " output embedding of 64; choose the tokenizer that the model was trained with"
    )
