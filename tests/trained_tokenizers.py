"""Small tokenizers of the three families, trained in process; each can write every byte."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from suite.text.bytelevel import byte_tokenizer
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer

_TEXT = [
    "The quick brown fox jumps over the lazy dog. It was the best of times.",
    'She said: "No, thank you."\r\n\r\n  def f(x):\n\treturn x * 2\n\n',
    "Der schöne Straßenkünstler aß Äpfel; l'été à Noël, où est-il?",
    "Русский текст и ещё немного слов. 日本語の文章です。中文没有空格。",
    "שלום עולם مرحبا بالعالم नमस्ते दुनिया 👩‍👩‍👧‍👦 👍🏽 é e\u0301",
    "1 2 3 10 100 1000 3.14159 + 2 = 5.14159; 7 * 8 = 56 #### 56",
] * 4
_SPECIAL = ["<|begin|>", "<|end|>", "<|pad|>", "<|turn|>", "<|stop|>"]
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_NAMES = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}
# A header of one token before each message, a token behind it.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|turn|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|stop|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


def wrap(tokenizer: Tokenizer, **settings: Any) -> PreTrainedTokenizerFast:
    """As a Hugging Face tokenizer with the special tokens above."""
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in _SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        **_NAMES | settings,
    )


def byte_level_bpe() -> Tokenizer:
    """As GPT-2, Llama 3, Qwen and SmolLM."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    return tokenizer


def marked_bpe(prefix: str = "") -> Tokenizer:
    """As Gemma; with a prefix mark before every text as Llama 2."""
    tokenizer = Tokenizer(
        models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True, dropout=None)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>", *_BYTES], show_progress=False
    )
    replace = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = replace
    tokenizer.train_from_iterator(_TEXT, trainer)
    # The trainer makes added tokens of the byte entries; real ones are ordinary entries.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] == "<unk>"]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    if prefix:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(prefix), replace])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def unigram(prepend_scheme: str = "always") -> Tokenizer:
    """As SentencePiece's Unigram with byte fallback and a dummy prefix space."""
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    trained.train_from_iterator(_TEXT, trainer)
    entries = [tuple(entry) for entry in json.loads(trained.to_str())["model"]["vocab"]]
    known = {piece for piece, _ in entries}
    entries += [(piece, -20.0) for piece in _BYTES if piece not in known]
    tokenizer = Tokenizer(models.Unigram(entries, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=prepend_scheme)]
    )
    return tokenizer


_MAKERS = {
    "byte-level": byte_level_bpe,
    "marked": marked_bpe,
    "prefixed": lambda: marked_bpe("▁"),
    "unigram": unigram,
}
FAMILIES = tuple(_MAKERS)


@cache
def opened(family: str) -> OpenedTokenizer:
    """A tokenizer of one of `FAMILIES`, or the byte tokenizer of one, as `bytes:family`."""
    kind, _, source = family.partition(":")
    if kind == "bytes":
        return open_tokenizer(byte_tokenizer(opened(source)), name=family)
    return open_tokenizer(wrap(_MAKERS[family]()), name=family)
