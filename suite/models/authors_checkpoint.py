"""The checkpoints that the authors of arXiv 2503.20083 published, in their own format.

Their models are Llama and Gemma 2 under types of their own (`tpu_llama`, `tpu_gemma2`). Those over
bytes hold the old embeddings as `model.expand_embed_tokens.weight`, and in `config.json` a
dictionary of old tokens: the ids of a token's bytes plus 1, the last byte first, and the token's id
plus 1. It names special tokens beside it. Where nothing matches, their code adds the embedding
of id 0, and before it looks at special tokens it adds 1 to ids, so that the id before a special one
matches alone; so does this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from suite.errors import ModelError
from suite.models.ngram_embeddings import NgramCausalLM
from suite.models.ngram_lookup import NOTHING, NgramTable
from suite.models.pretrained import load_complete, read_config
from suite.text.bytelevel import NUM_BYTES
from suite.text.suffix_trie import NO_BYTE
from suite.text.vocabulary import byte_alphabet

_PREFIX = "tpu_"
# Their types, transformers' own, and what ends a turn.
_TYPES = {"tpu_llama": ("llama", "<|eot_id|>"), "tpu_gemma2": ("gemma2", "<end_of_turn>")}
_EXPANSION = "model.expand_embed_tokens.weight"
# Switches of theirs that change the model, and what they must be.
_MUST_BE_OFF = ("add_qk_norm", "skip_out_norm")
# What is not of transformers' configurations, or names files that are not needed.
_LEFT_OUT = ("architectures", "auto_map", "cache_implementation", "mesh", *_MUST_BE_OFF)


def is_authors_folder(folder: Path) -> bool:
    """Whether a folder holds a model in the authors' format."""
    return str(read_config(folder).get("model_type")).startswith(_PREFIX)


def load_authors_model(folder: Path, tokenizer: Any, **options: Any) -> tuple[Any, Any]:
    """Open a checkpoint of the authors.

    Args:
        folder: With `config.json` and safetensors.
        tokenizer: Its Hugging Face tokenizer.
        options: Of transformers' `from_pretrained`, such as `dtype`.

    Returns:
        The model, with n-gram embeddings if it has some, and the tokenizer; a tokenizer of bytes is
        one that reads texts alike and tells its bytes.

    Raises:
        ModelError: A variant of the format that is not known.
        ValueError: Weights are missing.
    """
    from transformers import AutoConfig

    found = read_config(folder)
    _check_known(folder, found)
    base, end_of_turn = _TYPES[found["model_type"]]
    settings = {
        key: value
        for key, value in found.items()
        if key not in (*_LEFT_OUT, "model_type") and not key.startswith("expand_")
    }
    # The configuration may still name the ids of the old vocabulary.
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        settings[name] = getattr(tokenizer, name)
    with _quiet():  # It would tell of the old embeddings as unexpected.
        model = load_complete(folder, config=AutoConfig.for_model(base, **settings), **options)
    _check_all_used(folder, model)
    ends = {tokenizer.eos_token_id, tokenizer.get_vocab().get(end_of_turn)} - {None}
    model.generation_config.eos_token_id = sorted(ends)
    if not found.get("expand_input_ids"):
        return model, tokenizer
    sequences, special = _read_expansion(folder, found)
    table, rows = _table(folder, sequences, special, int(found["vocab_size"]))
    weight = _read_tensor(folder, _EXPANSION)
    return NgramCausalLM(model, table, weight[rows]), _byte_tokenizer(folder, tokenizer, special)


@contextmanager
def _quiet() -> Iterator[None]:
    """Run without transformers' warnings."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _check_known(folder: Path, config: Mapping[str, Any]) -> None:
    kind = config["model_type"]
    if kind not in _TYPES:
        raise ModelError(
            f"{folder} is of type {kind}; of the authors' types only {' and '.join(_TYPES)} are"
            " known, so choose another model"
        )
    for key in _MUST_BE_OFF:
        if config.get(key):
            raise ModelError(
                f"{folder}/config.json has {key}, a variant of {kind} that is not known; choose"
                " another model"
            )


def _read_expansion(
    folder: Path, config: Mapping[str, Any]
) -> tuple[dict[tuple[int, ...], int], frozenset[int]]:
    """Old tokens as ids in the order of a text, with their rows; and the special ids."""
    try:
        entries, special = config["expand_input_ids_dict"]
        sequences = {
            tuple(int(number) - 1 for number in reversed(key.split(","))): int(value) - 1
            for key, value in entries.items()
            if key
        }
        return sequences, frozenset(map(int, special))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{folder}/config.json: expand_input_ids_dict is not the known pair of old tokens and"
            " special tokens; choose another model"
        ) from error


def _table(
    folder: Path,
    sequences: Mapping[tuple[int, ...], int],
    special: frozenset[int],
    vocab_size: int,
) -> tuple[NgramTable, list[int]]:
    """The table, and which of their rows each of its embeddings is."""
    longer = {
        ids: row for ids, row in sequences.items() if len(ids) > 1 and ids[-1] + 1 not in special
    }
    used = sorted({number for ids in longer for number in ids})
    if len(used) > NUM_BYTES:
        raise ModelError(
            f"{folder}/config.json: the old tokens are made of {len(used)} different ids, more"
            f" than the {NUM_BYTES} of bytes; choose another model"
        )
    symbol_of = {number: symbol for symbol, number in enumerate(used)}
    entries = {bytes(map(symbol_of.__getitem__, ids)): row for ids, row in longer.items()}
    entries |= {bytes([symbol_of[number]]): sequences.get((number,), 0) for number in used}
    symbols = np.full(vocab_size, NO_BYTE, np.int16)
    symbols[used] = range(len(used))
    others = [number for number in range(vocab_size) if number not in symbol_of]
    alone = np.full(vocab_size, NOTHING, np.int64)
    alone[others] = len(entries) + np.arange(len(others))
    rows = [*entries.values(), *(sequences.get((number,), 0) for number in others)]
    return NgramTable(tuple(entries), symbols, alone), rows


def _byte_tokenizer(folder: Path, tokenizer: Any, special: frozenset[int]) -> Any:
    """Their tokenizer of bytes, whose kind does not tell bytes, as one that does.

    Theirs finds the longest entry at each place: a byte, a special token, or one of a few words of
    chat templates. Bytes and added tokens, which are found first, read a text alike.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    theirs = tokenizer.backend_tokenizer
    if type(theirs.model).__name__ != "WordPiece":
        return tokenizer
    letters = {letter: byte for byte, letter in enumerate(byte_alphabet())}
    names = {number: name for name, number in theirs.get_vocab().items()}
    is_whole = set(names) == set(range(len(names)))
    if not is_whole or any(names[number] not in letters for number in range(NUM_BYTES)):
        raise ModelError(
            f"{folder}: the first {NUM_BYTES} entries of its tokenizer are not the bytes, as in the"
            " authors' format; choose another model"
        )
    byte_ids = {names[number]: number for number in range(NUM_BYTES)}
    backend = Tokenizer(models.BPE(vocab=byte_ids, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens(
        [
            AddedToken(name, special=True, normalized=False)
            if number in special
            else AddedToken(bytes(map(letters.__getitem__, name)).decode(), normalized=False)
            for number, name in sorted(names.items())[NUM_BYTES:]
        ]
    )
    backend.post_processor = theirs.post_processor
    named = {key: str(getattr(tokenizer, key)) for key in ("bos_token", "eos_token", "pad_token")}
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{key: token for key, token in named.items() if token != "None"},
        padding_side=tokenizer.padding_side,
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = tokenizer.chat_template
    made.name_or_path = tokenizer.name_or_path
    return made


def _check_all_used(folder: Path, model: Any) -> None:
    """Refuse weights that transformers' class has no place for, but for the old embeddings."""
    known = {*model.state_dict(), _EXPANSION}
    for name in _tensor_files(folder):
        if name not in known and not name.endswith("rotary_emb.inv_freq"):
            raise ModelError(
                f"{folder} holds {name}, which {type(model).__name__} has no place for; choose"
                " another model"
            )


def _read_tensor(folder: Path, name: str) -> Tensor:
    from safetensors import safe_open

    file = _tensor_files(folder).get(name)
    if file is None:
        raise ModelError(f"{folder} has no {name} in its safetensors; download it again")
    with safe_open(file, framework="pt") as tensors:
        found: Tensor = tensors.get_tensor(name)
    return found


def _tensor_files(folder: Path) -> dict[str, Path]:
    """The file that each tensor is in."""
    from safetensors import safe_open

    found: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            found |= dict.fromkeys(tensors.keys(), file)
    return found
