"""A tiny untrained model with a byte-level tokenizer, for tests of the machinery.

Its scores mean nothing; recipes that use it serve tests only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from suite.models.cache import cached_folder

TINY_VERSION = 1


def tiny_folder() -> Path:
    """The cached folder of the tiny model (seed 0, no begin token)."""
    return cached_folder("tiny", f"v{TINY_VERSION}", write_tiny_model)


def write_tiny_model(
    folder: Path, *, seed: int = 0, adds_begin_token: bool = False, merges: bool = False
) -> dict[str, Any]:
    """Save a two-layer Llama of width 32 with random weights and its tokenizer into `folder`.

    With `merges` the tokenizer joins a few common byte pairs, so that tokens can span the border
    between prompt and answer. Returns facts for a manifest.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _byte_level_tokenizer(adds_begin_token=adds_begin_token, merges=merges)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"weights": "random, float32", "seed": seed}


def _byte_level_tokenizer(*, adds_begin_token: bool, merges: bool) -> Any:
    """A GPT-2 style byte-level BPE tokenizer over 256 bytes, with begin, end and pad tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("t", "h"), ("th", "e"), ("i", "n"), (":", "Ġ"), ("e", "r")] if merges else []
    vocab = {token: index for index, token in enumerate([*alphabet, *map("".join, pairs)])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=pairs))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    specials = ["<begin>", "<end>", "<pad>"]
    backend.add_special_tokens(specials)
    if adds_begin_token:
        begin = backend.token_to_id("<begin>")
        backend.post_processor = processors.TemplateProcessing(
            single="<begin> $A", special_tokens=[("<begin>", begin)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<begin>", eos_token="<end>", pad_token="<pad>"
    )
