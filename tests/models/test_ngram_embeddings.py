"""Old subword embeddings at the input of byte-level models, against a plain loop over bytes."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ngram_models import (
    TEXT,
    WIDTH,
    byte_model,
    byte_tokenizer_of,
    ngram_model,
    old_rows,
    plain_embeddings,
    plain_places,
)
from trained_tokenizers import FAMILIES, opened
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from suite.errors import ConfigError, ModelError
from suite.likelihood.heads import head_of
from suite.models.entry import ModelConfig
from suite.models.loading import load_model, place
from suite.models.ngram_embeddings import (
    NgramCausalLM,
    add_ngram_embeddings,
    sliding_window_of,
    widen_sliding_window,
)
from suite.models.ngram_folder import is_ngram_folder, load_ngram_model
from suite.models.ngram_lookup import NOTHING, table_of
from suite.models.resolve import resolve
from suite.models.sources import Source
from suite.models.trunk import check_isolation, hidden_states, trunk_of

# sqrt(16) in Gemma's embedding module, 3 in Granite's trunk; checked with the trunk's own input.
SCALES = {"llama": 1.0, "gemma3": 4.0, "granite": 1.0}


def ids_of(new: Any, text: str = TEXT) -> list[int]:
    """A document that begins with the begin token and holds another special token."""
    first, second = text[:10], text[10:]
    return [
        new.begin_id,
        *new.encode(first).ids.tolist(),
        new.hf.eos_token_id,
        *new.encode(second).ids.tolist(),
    ]


def positions_of(*lengths: int) -> torch.Tensor:
    return torch.cat([torch.arange(length) for length in lengths])[None]


def input_of(model: NgramCausalLM, ids: list[int], positions: torch.Tensor) -> torch.Tensor:
    """What the trunk reads."""
    seen: list[torch.Tensor] = []

    def keep(_: Any, __: Any, kwargs: Any) -> None:
        seen.append(kwargs["inputs_embeds"])

    hook = trunk_of(model).register_forward_pre_hook(keep, with_kwargs=True)
    hidden_states(trunk_of(model), torch.tensor([ids]), positions)
    hook.remove()
    return seen[0][0]


@pytest.mark.parametrize("kind", SCALES)
def test_a_trunk_reads_the_sum_of_both_embeddings_scaled_once(kind: str) -> None:
    old = opened("marked")
    model, new = ngram_model(kind)
    ids = ids_of(new)
    found = input_of(model, ids, positions_of(len(ids)))
    places = plain_places(ids, old, new)
    expected = plain_embeddings(model, ids, old_rows(old), places, SCALES[kind])
    assert torch.allclose(found, expected, atol=1e-12)
    assert len({place for place in places if place >= 256}) > 5


@pytest.mark.parametrize("kind", SCALES)
def test_final_states_are_those_of_the_sum_given_to_the_plain_trunk(kind: str) -> None:
    old = opened("marked")
    model, new = ngram_model(kind)
    plain = byte_model(kind, new)
    ids = ids_of(new)
    places = plain_places(ids, old, new)
    given_sum = plain_embeddings(model, ids, old_rows(old), places, SCALES[kind])
    with torch.no_grad():
        expected = trunk_of(plain)(inputs_embeds=given_sum[None]).last_hidden_state
        found = hidden_states(trunk_of(model), torch.tensor([ids]), positions_of(len(ids)))
    assert torch.allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=15, deadline=None)
@given(text=st.text(st.sampled_from("theTh eqox.é日👍\n1"), max_size=30))
def test_each_byte_gets_the_longest_old_token_that_ends_there(family: str, text: str) -> None:
    old = opened(family)
    new = byte_tokenizer_of(old)
    table, tokens = table_of(old, new, len(old.vocabulary))
    ids = [new.begin_id, *new.encode(text).ids.tolist(), new.hf.eos_token_id]
    begins = np.zeros((1, len(ids)), bool)
    rows = table.rows(np.array([ids]), begins, np.empty((1, 0), np.int64))[0]
    found = [int(tokens[row]) if row >= 0 else NOTHING for row in rows]
    assert found == plain_places(ids, old, new)


def test_nothing_reaches_across_the_start_of_a_document() -> None:
    old = opened("marked")
    model, new = ngram_model()
    # No begin token between the halves of a word: only positions tell.
    words = [new.encode(text).ids.tolist() for text in ("The qu", "ick bro", "wn")]
    ids = [number for word in words for number in word]
    found = input_of(model, ids, positions_of(*map(len, words)))
    places = [place for word in words for place in plain_places(word, old, new)]
    expected = plain_embeddings(model, ids, old_rows(old), places, 1.0)
    assert torch.allclose(found, expected, atol=1e-12)
    whole = plain_places(ids, old, new)
    assert whole != places


@pytest.mark.parametrize("kind", SCALES)
def test_documents_of_a_packed_row_are_apart(kind: str) -> None:
    check_isolation(ngram_model(kind)[0], "it")


@pytest.mark.parametrize("kind", SCALES)
def test_its_head_is_found(kind: str) -> None:
    model, new = ngram_model(kind)
    head = head_of(model, len(new.vocabulary), name="it")
    assert head.weight is model.get_output_embeddings().weight


def test_only_the_byte_level_model_is_trained() -> None:
    model, new = ngram_model(dtype=torch.float32)
    model.train()
    assert all(module.training for module in model.modules())
    ids = torch.tensor([ids_of(new)])
    hidden_states(trunk_of(model), ids, positions_of(ids.shape[1])).square().sum().backward()
    weight = model.get_input_embeddings().weight
    assert weight.grad is not None
    assert set(weight.grad.abs().sum(1).nonzero()[:, 0].tolist()) == set(ids[0].tolist())
    assert not any("ngram" in name for name, _ in model.named_parameters())
    assert sum(p.numel() for p in model.parameters()) == model.model.num_parameters()
    assert model.num_parameters() == model.model.num_parameters() + model.ngram.rows.numel()


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_gradient_checkpointing_changes_no_gradient() -> None:
    model, new = ngram_model()
    ids = torch.tensor([ids_of(new)])
    gradients = []
    for is_checkpointed in (False, True):
        if is_checkpointed:
            trunk_of(model).gradient_checkpointing_enable()
        model.train()
        model.zero_grad()
        hidden_states(trunk_of(model), ids, positions_of(ids.shape[1])).sum().backward()
        gradients.append(model.get_input_embeddings().weight.grad.clone())
    assert torch.allclose(*gradients)


def test_its_state_can_be_loaded_into_another() -> None:
    first, new = ngram_model(seed=0)
    second, _ = ngram_model(seed=1)
    assert {name.partition(".")[0] for name in first.state_dict()} == {"model", "ngram"}
    second.load_state_dict(first.state_dict())
    ids = torch.tensor([ids_of(new)])
    positions = positions_of(ids.shape[1])
    same = [hidden_states(trunk_of(model), ids, positions) for model in (first, second)]
    assert torch.equal(*same)


def test_a_copy_stands_alone() -> None:
    model, new = ngram_model()
    made = copy.deepcopy(model)
    with torch.no_grad():
        model.ngram.rows.zero_()
        model.get_input_embeddings().weight.zero_()
    ids = ids_of(new)
    assert input_of(model, ids, positions_of(len(ids))).norm() == 0
    assert input_of(made, ids, positions_of(len(ids))).norm() > 1


def test_reading_on_behind_a_cache_without_history_is_refused() -> None:
    model, new = ngram_model()
    ids = torch.tensor([ids_of(new)])
    cache = model(ids, use_cache=True).past_key_values
    with pytest.raises(ModelError) as refusal:
        model(ids[:, :1], past_key_values=cache)
    assert str(refusal.value) == (
        "a model with n-gram embeddings needs the bytes before those it reads behind a cache;"
        " generate with this package's engine"
    )


def test_embeddings_instead_of_tokens_are_refused() -> None:
    model, _ = ngram_model()
    with pytest.raises(ModelError) as refusal:
        trunk_of(model)(inputs_embeds=torch.zeros(1, 2, WIDTH, dtype=torch.float64))
    assert str(refusal.value) == (
        "a model with n-gram embeddings reads tokens, not embeddings; give input_ids"
    )


def test_a_trunk_takes_ids_by_place_too() -> None:
    model, new = ngram_model()
    ids = torch.tensor([ids_of(new)])
    by_name = trunk_of(model)(input_ids=ids).last_hidden_state
    assert torch.equal(trunk_of(model)(ids).last_hidden_state, by_name)


def test_a_subword_model_is_refused() -> None:
    old = opened("marked")
    with pytest.raises(ModelError) as refusal:
        add_ngram_embeddings(byte_model("llama", old), old, old, old_rows(old))
    assert str(refusal.value) == (
        f"{old.name} is no byte-level tokenizer, which n-gram embeddings need; set"
        " target_tokenizer to bytes"
    )


def test_embeddings_of_another_size_are_refused() -> None:
    old = opened("marked")
    new = byte_tokenizer_of(old)
    with pytest.raises(ModelError) as refusal:
        add_ngram_embeddings(byte_model("llama", new), old, new, torch.zeros(700, 8))
    assert str(refusal.value) == (
        "the old embeddings have 8 numbers each, those of LlamaForCausalLM 16; take those of the"
        " model that it was made of"
    )


def test_a_model_that_scales_embeddings_only_when_it_looks_them_up_is_refused() -> None:
    old = opened("marked")
    new = byte_tokenizer_of(old)
    model = byte_model("llama", new)
    embedding = model.get_input_embeddings()
    embedding.register_forward_hook(lambda module, args, output: 2 * output)
    with pytest.raises(ModelError) as refusal:
        add_ngram_embeddings(model, old, new, old_rows(old))
    assert str(refusal.value) == (
        "LlamaForCausalLM makes something else of its tokens' embeddings than of the tokens, so"
        " that none can be added; leave ngram_embeddings out"
    )


def saved(folder: Path, kind: str = "llama") -> tuple[NgramCausalLM, Any]:
    model, new = ngram_model(kind, dtype=torch.float32)
    model.save_pretrained(folder)
    new.hf.save_pretrained(folder)
    return model, new


@pytest.mark.parametrize("kind", SCALES)
def test_a_saved_model_comes_back_bit_for_bit(kind: str, tmp_path: Path) -> None:
    model, new = saved(tmp_path, kind)
    assert is_ngram_folder(tmp_path)
    entry = ModelConfig(name="it", source=Source(path=tmp_path), device="cpu")
    resolved = resolve(entry)
    assert resolved.stored_dtype == "float32"
    loaded = load_model(entry, resolved, place(entry, resolved))
    assert isinstance(loaded.model, NgramCausalLM)
    assert not loaded.model.training
    ids = torch.tensor([ids_of(new)])
    assert torch.equal(loaded.model(ids).logits, model(ids).logits)
    assert loaded.tokenizer("é", add_special_tokens=False).input_ids == [0xC3, 0xA9]
    assert loaded.model.generation_config.eos_token_id == model.config.eos_token_id


def test_no_file_of_a_saved_model_is_a_pickle(tmp_path: Path) -> None:
    saved(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".jinja"}


def test_a_model_is_loaded_in_another_dtype(tmp_path: Path) -> None:
    saved(tmp_path)
    model = load_ngram_model(tmp_path, dtype=torch.bfloat16)
    assert model.dtype == model.ngram.rows.dtype == torch.bfloat16


def test_plain_transformers_refuses_the_folder(tmp_path: Path) -> None:
    saved(tmp_path)
    for opener in (AutoConfig, AutoModelForCausalLM):
        with pytest.raises(ValueError, match="alm_suite_ngram_embeddings"):
            opener.from_pretrained(tmp_path)


def test_plain_transformers_opens_the_folders_tokenizer(tmp_path: Path) -> None:
    _, new = saved(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(TEXT).input_ids == new.hf(TEXT).input_ids


def test_other_folders_have_no_ngram_embeddings(tmp_path: Path) -> None:
    assert not is_ngram_folder(tmp_path)
    byte_model("llama", byte_tokenizer_of(opened("marked"))).save_pretrained(tmp_path)
    assert not is_ngram_folder(tmp_path)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    saved(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=re.escape("1 of its weights are missing")):
        load_ngram_model(tmp_path)


def test_a_window_is_widened_in_the_configuration_and_in_the_layers(tmp_path: Path) -> None:
    model, new = ngram_model("gemma3", dtype=torch.float32)
    ids = torch.tensor([ids_of(new)])
    before = model(ids).logits
    assert sliding_window_of(model.config) == 6
    widen_sliding_window(model, 20)
    assert sliding_window_of(model.config) == 20
    after = model(ids).logits
    assert torch.allclose(after[:, :6], before[:, :6])
    assert not torch.allclose(after[:, -1], before[:, -1], atol=1e-3)
    model.save_pretrained(tmp_path)
    assert torch.equal(load_ngram_model(tmp_path)(ids).logits, after)


def test_windows_that_are_not_there_or_not_widened_are_refused() -> None:
    llama, gemma = ngram_model("llama")[0], ngram_model("gemma3")[0]
    assert sliding_window_of(llama.config) is None
    with pytest.raises(ConfigError) as refusal:
        widen_sliding_window(llama.model, 20)
    assert str(refusal.value) == (
        "sliding_window is 20, but LlamaForCausalLM has no layers with a sliding window; leave it"
        " out"
    )
    with pytest.raises(ConfigError) as refusal:
        widen_sliding_window(gemma, 5)
    assert str(refusal.value) == (
        "sliding_window is 5, less than the 6 that the model has; give at least 6"
    )
