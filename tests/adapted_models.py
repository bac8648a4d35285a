"""Tiny random models with adapters, trained a little; for tests of what follows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from trained_tokenizers import opened
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from suite.distill.lora import LoraConfig, add_adapters

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
LORA = LoraConfig(rank=4, alpha=8)
FAMILIES = ("llama", "gemma3")


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
