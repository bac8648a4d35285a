"""Small transformers with random weights, and their scores by one plain forward pass a text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from suite.engine.members import HfMember
from suite.engine.requests import TokenRequest

NUM_ENTRIES = 50


def build(kind: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> Any:
    """A transformers model: Llama, GPT-2 (learned positions) or Gemma 3 (window of 6 tokens)."""
    from transformers import (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
    )

    sizes = {
        "vocab_size": NUM_ENTRIES,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "initializer_range": 0.5,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    gemma = {
        "head_dim": 8,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 8,
        "final_logit_softcapping": 5.0,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "llama":
            model = LlamaForCausalLM(LlamaConfig(**sizes))
        elif kind == "gemma":
            model = Gemma3ForCausalLM(Gemma3TextConfig(**sizes, **gemma))
        else:
            model = GPT2LMHeadModel(
                GPT2Config(
                    vocab_size=NUM_ENTRIES,
                    n_embd=16,
                    n_layer=2,
                    n_head=2,
                    n_positions=64,
                    initializer_range=0.5,
                    bos_token_id=1,
                    eos_token_id=2,
                )
            )
    return model.to(dtype).eval()


@cache
def member(kind: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> HfMember:
    return HfMember(build(kind, dtype, seed), name=f"tiny {kind}")


@torch.no_grad()
def plain_rows(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Row i predicts token i + 1: one forward pass over the whole text, without a cache."""
    logits = model(torch.tensor([list(ids)]), use_cache=False).logits[0]
    return logits.double().log_softmax(-1)


def plain_scores(model: Any, request: TokenRequest) -> tuple[list[float], list[bool]]:
    rows = plain_rows(model, request.ids.tolist())
    pairs = [(int(place), int(request.ids[place])) for place in request.scored]
    tokens = [float(rows[place - 1, token]) for place, token in pairs]
    return tokens, [int(rows[place - 1].argmax()) == token for place, token in pairs]


def request(ids: Sequence[int], scored: Sequence[int]) -> TokenRequest:
    text = np.array(ids, np.int32)
    places = np.array(scored, np.int32)
    return TokenRequest(text, places, text[places].astype(np.int64))


def random_requests(seed: int, count: int, *, most: int = 30) -> list[TokenRequest]:
    """Texts that share shots and questions, of many lengths, some twice, some alone."""
    random = np.random.default_rng(seed)

    def draw(length: int) -> list[int]:
        return random.integers(3, NUM_ENTRIES, length).tolist()

    shots = [draw(14), draw(9)]
    questions = [shots[number % 2] + draw(1 + number) for number in range(4)] + [draw(3)]
    found = []
    for _ in range(count):
        question = questions[random.integers(len(questions))]
        answer = draw(int(random.integers(1, 6)))
        ids = [1, *question, *answer][:most]
        first = int(random.integers(1, len(ids)))
        found.append(request(ids, range(first, len(ids))))
    return [*found, found[0], found[-1]]
