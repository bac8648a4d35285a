"""Tiny untrained models over the trained tokenizers, and plans between two of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from trained_tokenizers import opened
from transformers import LlamaConfig, LlamaForCausalLM

from suite.text.bytelevel import byte_tokenizer
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer
from suite.transplant.assembly import assemble
from suite.transplant.vocabulary import (
    VocabularyPlan,
    plan_vocabulary,
    special_by_role,
    special_by_string,
)

PADDING = 5
TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    " 日本語の文章です。\n\n  def f(x):\n\treturn x * 2",
    "l'été à Noël 👩‍👩‍👧‍👦 1000 3.14159",
)


def tiny_llama(
    tokenizer: OpenedTokenizer, *, is_tied: bool = True, padding: int = PADDING, seed: int = 0
) -> Any:
    """A Llama of width 32 with a few more rows than its tokenizer has entries."""
    config = LlamaConfig(
        vocab_size=len(tokenizer.vocabulary) + padding,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        bos_token_id=tokenizer.hf.bos_token_id,
        eos_token_id=tokenizer.hf.eos_token_id,
        pad_token_id=tokenizer.hf.pad_token_id,
        tie_word_embeddings=is_tied,
        initializer_range=0.3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def write_llama(folder: Path, family: str, **settings: Any) -> Path:
    """Save a tiny model with one of the trained tokenizers."""
    tiny_llama(opened(family), **settings).save_pretrained(folder)
    opened(family).hf.save_pretrained(folder)
    return folder


def kept(old: OpenedTokenizer, target: str) -> OpenedTokenizer:
    """The tokens of a family, or bytes, with the special tokens of another tokenizer."""
    made = byte_tokenizer(old) if target == "bytes" else assemble(old, opened(target))
    return open_tokenizer(made, name=f"{target} for {old.name}")


def kept_plan(old: OpenedTokenizer, new: OpenedTokenizer) -> VocabularyPlan:
    rows = len(old.vocabulary)
    return plan_vocabulary(old, new, special_by_string(old, new), num_old_rows=rows)


def replaced_plan(old: OpenedTokenizer, new: OpenedTokenizer) -> VocabularyPlan:
    rows = len(old.vocabulary)
    return plan_vocabulary(old, new, special_by_role(old, new), num_old_rows=rows)
