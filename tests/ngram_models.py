"""Tiny byte-level models with n-gram input embeddings, and what these are by a plain loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from trained_tokenizers import opened
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from suite.models.ngram_embeddings import NgramCausalLM, add_ngram_embeddings
from suite.text.bytelevel import byte_tokenizer
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer

WIDTH = 16
# Longer texts than the window of 6, with characters of up to four bytes.
TEXT = "The quick brown fox jumps, été: 日本 👍🏽 1000."

CLASSES = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "gemma3": (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        {
            "head_dim": 8,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 8,
        },
    ),
    "granite": (GraniteForCausalLM, GraniteConfig, {"embedding_multiplier": 3.0}),
}


def byte_tokenizer_of(old: OpenedTokenizer) -> OpenedTokenizer:
    return open_tokenizer(byte_tokenizer(old), name=f"bytes of {old.name}")


def byte_model(
    kind: str, new: OpenedTokenizer, dtype: torch.dtype = torch.float64, seed: int = 0
) -> Any:
    """A byte-level model without n-gram embeddings."""
    model, config, own = CLASSES[kind]
    hf = new.hf
    settings = {
        "vocab_size": len(new.vocabulary),
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "initializer_range": 0.5,
        "tie_word_embeddings": False,
        "bos_token_id": hf.bos_token_id,
        "eos_token_id": hf.eos_token_id,
        "pad_token_id": hf.pad_token_id,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model(config(**settings, **own)).to(dtype).eval()


def old_rows(old: OpenedTokenizer, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(len(old.vocabulary) + 3, WIDTH, generator=generator, dtype=torch.float64)
    return rows / 2


def ngram_model(
    kind: str = "llama",
    family: str = "marked",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> tuple[NgramCausalLM, OpenedTokenizer]:
    old = opened(family)
    new = byte_tokenizer_of(old)
    plain = byte_model(kind, new, dtype, seed)
    return add_ngram_embeddings(plain, old, new, old_rows(old, seed)).eval(), new


def plain_places(ids: Sequence[int], old: OpenedTokenizer, new: OpenedTokenizer) -> list[int]:
    """The old token that each entry of one document gets, -1 for none."""
    vocabulary = old.vocabulary
    places = []
    for place, number in enumerate(ids):
        if number >= 256:
            string = new.vocabulary.special[number]
            same = [token for token, other in vocabulary.special.items() if other == string]
            places.append(same[0] if same else -1)
            continue
        start = place
        while start > 0 and ids[start - 1] < 256:
            start -= 1
        ends = [bytes(ids[first : place + 1]) for first in range(start, place + 1)]
        places.append(
            next((vocabulary.id_of_bytes[e] for e in ends if e in vocabulary.id_of_bytes), -1)
        )
    return places


def plain_embeddings(
    model: NgramCausalLM, ids: Sequence[int], rows: Tensor, places: Sequence[int], scale: float
) -> Tensor:
    """scale * (byte embedding + old embedding) of one document, [T, D]."""
    weight = model.get_input_embeddings().weight
    sums = [
        weight[number] + (rows[place] if place >= 0 else torch.zeros(WIDTH))
        for number, place in zip(ids, places, strict=True)
    ]
    return scale * torch.stack(sums)
