"""Tiny untrained models, for tests of the machinery and as a start for tiny ones that are trained.

Their scores mean nothing before that. `tiny` has a byte-level tokenizer without words; `tiny-bpe`
and `tiny-words` have tokenizers learnt from the packaged text that cut it differently.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.models.cache import cached_folder
from suite.text.packaged import packaged_file

TINY_VERSION = 1

_SPECIALS = ("<begin>", "<end>", "<pad>")


def tiny_folder(name: str = "tiny") -> Path:
    """The cached folder of a tiny model, seed 0.

    Args:
        name: `tiny` (no begin token before a text), or a key of `LEARNT`.
    """
    if name == "tiny":
        return cached_folder("tiny", f"v{TINY_VERSION}", write_tiny_model)
    return cached_folder("tiny", f"{name}-v{TINY_VERSION}", LEARNT[name].write)


@dataclass(frozen=True)
class LearntTiny:
    """A tiny model whose tokenizer learnt its entries from the packaged text.

    Attributes:
        pre_tokenizer: Makes what cuts text into the pieces that merges stay in.
        num_entries: Of the tokenizer, special tokens included.
        width: Hidden size of the model.
        num_layers: Its blocks.
    """

    pre_tokenizer: Callable[[], Any]
    num_entries: int
    width: int
    num_layers: int

    def write(self, folder: Path, *, seed: int = 0) -> dict[str, Any]:
        """Save a Llama with random weights and its tokenizer; returns facts for a manifest."""
        tokenizer = self._learn_tokenizer()
        head_size = 32
        settings = {
            "hidden_size": self.width,
            "intermediate_size": 3 * self.width,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.width // head_size,
            "num_key_value_heads": self.width // head_size,
            "tie_word_embeddings": True,
        }
        return _save(folder, tokenizer, settings, seed)

    def _learn_tokenizer(self) -> Any:
        """A byte-level BPE tokenizer that puts a begin token before a text."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = self.pre_tokenizer()
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.num_entries - len(_SPECIALS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(_packaged_texts(), trainer)
        return _wrapped(backend, adds_begin_token=True)


def _gpt2_pieces() -> Any:
    """Words, numbers, punctuation and white space apart, as GPT-2."""
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def _spaced_pieces() -> Any:
    """Whatever stands between white space is one piece, and digits are pieces of their own."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\d| ?[^\s\d]+|\s"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


LEARNT = {
    "tiny-bpe": LearntTiny(_gpt2_pieces, num_entries=1024, width=96, num_layers=3),
    "tiny-words": LearntTiny(_spaced_pieces, num_entries=700, width=64, num_layers=2),
}


def _packaged_texts() -> Iterator[str]:
    lines = packaged_file("python-docs").read_text(encoding="utf-8").splitlines()
    return (json.loads(line)["text"] for line in lines)


def write_tiny_model(
    folder: Path, *, seed: int = 0, adds_begin_token: bool = False, merges: bool = False
) -> dict[str, Any]:
    """Save a two-layer Llama of width 32 with random weights and its tokenizer into `folder`.

    With `merges` the tokenizer joins a few common byte pairs, so that tokens can span the border
    between prompt and answer. Returns facts for a manifest.
    """
    tokenizer = _byte_level_tokenizer(adds_begin_token=adds_begin_token, merges=merges)
    settings = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "initializer_range": 0.3,
    }
    return _save(folder, tokenizer, settings, seed)


def _save(folder: Path, tokenizer: Any, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **settings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"weights": "random, float32", "seed": seed}


def _byte_level_tokenizer(*, adds_begin_token: bool, merges: bool) -> Any:
    """A GPT-2 style byte-level BPE tokenizer over 256 bytes, with begin, end and pad tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("t", "h"), ("th", "e"), ("i", "n"), (":", "Ġ"), ("e", "r")] if merges else []
    vocab = {token: index for index, token in enumerate([*alphabet, *map("".join, pairs)])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=pairs))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return _wrapped(backend, adds_begin_token=adds_begin_token)


def _wrapped(backend: Any, *, adds_begin_token: bool) -> Any:
    """As a Hugging Face tokenizer, with begin, end and pad tokens."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    backend.add_special_tokens(list(_SPECIALS))
    if adds_begin_token:
        begin = backend.token_to_id("<begin>")
        backend.post_processor = processors.TemplateProcessing(
            single="<begin> $A", special_tokens=[("<begin>", begin)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<begin>", eos_token="<end>", pad_token="<pad>"
    )
