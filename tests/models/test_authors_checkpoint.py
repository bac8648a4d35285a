"""Tiny checkpoints in the authors' format, against their rule as a plain loop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from trained_tokenizers import opened
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from suite.engine.ngram_member import open_member
from suite.errors import ModelError
from suite.models.authors_checkpoint import is_authors_folder
from suite.models.entry import ModelConfig
from suite.models.loading import LoadedModel, load_model, place
from suite.models.ngram_embeddings import NgramCausalLM
from suite.models.resolve import resolve
from suite.models.sources import Source
from suite.text.tokenizers import open_tokenizer
from suite.text.vocabulary import byte_alphabet

WIDTH, MAX_LENGTH = 16, 16
TEXTS = ("The quick user's model: été\n\nthe 日本", "usermodel the they", "\n\n\n x")
# What their tokenizers keep beside the bytes, sorted: special tokens, and words of templates.
KEPT = {
    "tpu_gemma2": ["<bos>", "<end_of_turn>", "<eos>", "<pad>", "<start_of_turn>", "model", "user"],
    "tpu_llama": ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "user", "ĊĊ"],
}
NAMES = {
    "tpu_gemma2": ("<bos>", "<eos>", "<pad>"),
    "tpu_llama": ("<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>"),
}
SPECIAL = {"tpu_gemma2": range(256, 261), "tpu_llama": range(256, 259)}
WORDS = ["The", "the", " the", " th", "er", "users", " user", "x", "y", "日", "été", " quick"]


def their_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """The longest entry at each place, as their WordPiece without pieces."""
    vocab = {token: number for number, token in enumerate([*byte_alphabet(), *KEPT[kind]])}
    begin, end, pad = NAMES[kind]
    backend = Tokenizer(
        models.WordPiece(
            vocab, unk_token=pad, max_input_chars_per_word=1_000_000, continuing_subword_prefix=""
        )
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, vocab[begin])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=begin, eos_token=end, pad_token=pad
    )


def alphabet(text: str) -> str:
    return "".join(byte_alphabet()[byte] for byte in text.encode())


def expansion(kind: str, tokenizer: Any) -> tuple[list[Any], int]:
    """Their dictionary: ids of an old token plus 1, the last first, and its number plus 1."""
    vocab = tokenizer.get_vocab()
    old = [*KEPT[kind], *byte_alphabet(), *map(alphabet, WORDS)]
    entries = {"": -1}
    for number, token in enumerate(old):
        pieces = [token] if token in vocab else tokenizer.backend_tokenizer.model.tokenize(token)
        ids = [vocab[piece] if isinstance(piece, str) else piece.id for piece in pieces]
        key = ",".join(str(one + 1) for one in reversed(ids[-MAX_LENGTH:]))
        entries[key] = number + 1
    return [entries, list(SPECIAL[kind])], len(old)


def their_rows(ids: Sequence[int], pair: list[Any]) -> list[int]:
    """The old number that each id gets, by their rule."""
    entries = {tuple(map(int, k.split(","))) if k else (): v for k, v in pair[0].items()}
    special = set(pair[1])
    rows = []
    for end in range(1, len(ids) + 1):
        last = [number + 1 for number in reversed(ids[max(0, end - MAX_LENGTH) : end])]
        sizes = [1] if last[0] in special else range(len(last), 0, -1)
        found = [entries[tuple(last[:size])] for size in sizes if tuple(last[:size]) in entries]
        rows.append(found[0] - 1 if found else 0)
    return rows


def write(folder: Path, kind: str, **changes: Any) -> tuple[Any, torch.Tensor, list[Any]]:
    """A checkpoint of theirs; its plain model, old embeddings and dictionary."""
    tokenizer = their_tokenizer(kind)
    pair, num_old = expansion(kind, tokenizer)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.5,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-6,
    }
    torch.manual_seed(0)
    if kind == "tpu_llama":
        own = {"rope_theta": 500000.0, "hidden_act": "silu"}
        scaling = {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 64,
            "rope_type": "llama3",
        }
        plain: Any = LlamaForCausalLM(
            LlamaConfig(**sizes, rope_parameters={"rope_theta": 500000.0, **scaling})
        )
        own |= {"rope_scaling": scaling}
    else:
        own = {
            "query_pre_attn_scalar": 8,
            "sliding_window": 6,
            "final_logit_softcapping": 30.0,
            "attn_logit_softcapping": 50.0,
        }
        plain = Gemma2ForCausalLM(Gemma2Config(**sizes, **own))
        own |= {"rope_theta": 10000.0, "cache_implementation": "hybrid"}
    rows = torch.randn(num_old, WIDTH)
    folder.mkdir(exist_ok=True)
    state = {**plain.state_dict(), "model.expand_embed_tokens.weight": rows}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        **sizes,
        **own,
        "model_type": kind,
        "architectures": ["TPUForCausalLM"],
        "auto_map": {"AutoModelForCausalLM": f"modelling_{kind}.TPUForCausalLM"},
        "torch_dtype": "float32",
        # As of the old vocabulary.
        "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009],
        "pad_token_id": 128004,
        "expand_input_ids": True,
        "expand_input_ids_maxlen": MAX_LENGTH,
        "expand_input_ids_vocab_size": num_old,
        "expand_input_ids_dict": pair,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save_pretrained(folder)
    return plain.eval(), rows, pair


def load(folder: Path) -> LoadedModel:
    entry = ModelConfig(name="it", source=Source(path=folder), device="cpu")
    resolved = resolve(entry)
    return load_model(entry, resolved, place(entry, resolved))


@pytest.mark.parametrize("kind", KEPT)
def test_logits_are_those_of_the_authors_rule(kind: str, tmp_path: Path) -> None:
    plain, rows, pair = write(tmp_path, kind)
    assert is_authors_folder(tmp_path)
    loaded = load(tmp_path)
    assert isinstance(loaded.model, NgramCausalLM)
    theirs = their_tokenizer(kind)
    for text in TEXTS:
        ids = theirs(text).input_ids
        embeds = plain.model.embed_tokens.weight[ids] + rows[their_rows(ids, pair)]
        scale = WIDTH**0.5 if kind == "tpu_gemma2" else 1.0
        with torch.no_grad():
            expected = plain(inputs_embeds=scale * embeds[None]).logits
            found = loaded.model(torch.tensor([ids])).logits
        assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("kind", KEPT)
def test_the_tokenizer_reads_texts_as_theirs_and_tells_its_bytes(kind: str, tmp_path: Path) -> None:
    write(tmp_path, kind)
    theirs, ours = their_tokenizer(kind), load(tmp_path).tokenizer
    marked = "".join(KEPT[kind]).replace("Ċ", "\n") + TEXTS[0]
    for text in (*TEXTS, marked):
        ids = theirs(text).input_ids
        assert ours(text).input_ids == ids
        assert ours.decode(ids[1:]) == text
    known = open_tokenizer(ours, name="it")
    assert known.encode(TEXTS[0]).ids.tolist() == theirs(TEXTS[0]).input_ids[1:]
    assert known.adds_begin
    assert set(known.vocabulary.special) == set(SPECIAL[kind])


@pytest.mark.parametrize("kind", KEPT)
def test_the_engine_runs_it_and_knows_its_ends(kind: str, tmp_path: Path) -> None:
    write(tmp_path, kind)
    loaded = load(tmp_path)
    open_member(loaded.model, name="it")
    ends = loaded.tokenizer.convert_ids_to_tokens(loaded.model.generation_config.eos_token_id)
    expected = {"tpu_gemma2": ["<end_of_turn>", "<eos>"], "tpu_llama": ["<|eot_id|>"]}
    assert ends == expected[kind]


def test_their_subword_models_are_plain_ones(tmp_path: Path) -> None:
    plain, _, _ = write(tmp_path, "tpu_llama", expand_input_ids=False)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.expand_embed_tokens.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = load(tmp_path).model
    ids = torch.tensor([[5, 6, 7]])
    assert torch.allclose(model(ids).logits, plain(ids).logits, atol=1e-5)


def refusal_of(folder: Path) -> str:
    with pytest.raises(ModelError) as refusal:
        load(folder)
    return str(refusal.value)


def test_other_types_of_theirs_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "tpu_llama", model_type="tpu_gemma3")
    assert refusal_of(tmp_path) == (
        f"model 'it': {tmp_path} is of type tpu_gemma3; of the authors' types only tpu_llama and"
        " tpu_gemma2 are known, so choose another model"
    )


@pytest.mark.parametrize("switch", ["add_qk_norm", "skip_out_norm"])
def test_variants_of_their_models_are_refused(switch: str, tmp_path: Path) -> None:
    write(tmp_path, "tpu_llama", **{switch: True})
    assert refusal_of(tmp_path) == (
        f"model 'it': {tmp_path}/config.json has {switch}, a variant of tpu_llama that is not"
        " known; choose another model"
    )


@pytest.mark.parametrize("value", [None, {"1,2": 3}, [{"1,x": 3}, []], [{"1": 2}]])
def test_another_dictionary_is_refused(value: Any, tmp_path: Path) -> None:
    write(tmp_path, "tpu_llama", expand_input_ids_dict=value)
    assert refusal_of(tmp_path) == (
        f"model 'it': {tmp_path}/config.json: expand_input_ids_dict is not the known pair of old"
        " tokens and special tokens; choose another model"
    )


def test_weights_without_a_place_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "tpu_llama")
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.embedding_projection"] = torch.eye(WIDTH)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert refusal_of(tmp_path) == (
        f"model 'it': {tmp_path} holds model.embedding_projection, which LlamaForCausalLM has no"
        " place for; choose another model"
    )


def test_missing_old_embeddings_are_named(tmp_path: Path) -> None:
    write(tmp_path, "tpu_llama")
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.expand_embed_tokens.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert refusal_of(tmp_path) == (
        f"model 'it': {tmp_path} has no model.expand_embed_tokens.weight in its safetensors;"
        " download it again"
    )


def test_other_folders_are_not_theirs(tmp_path: Path) -> None:
    assert not is_authors_folder(tmp_path)
    opened("marked").hf.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert not is_authors_folder(tmp_path)
