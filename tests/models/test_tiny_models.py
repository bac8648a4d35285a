"""Tiny models for a start of training: files that repeat, and two ways to cut one text."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from suite.align.chunks import align_chunks
from suite.models.entry import ModelConfig
from suite.models.manifest import file_sha256
from suite.models.resolve import resolve
from suite.models.sources import Source, parse_source
from suite.models.tiny import LEARNT, tiny_folder
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer

TEXT = 'The "assert" statement\n\n   if __debug__:\n       raise AssertionError(1234), naïve 日本\n'


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def opened(name: str, folder: Path) -> OpenedTokenizer:
    LEARNT[name].write(folder)
    return open_tokenizer(AutoTokenizer.from_pretrained(folder), name=name)


@pytest.mark.parametrize("name", LEARNT)
def test_two_runs_write_equal_files(name, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    facts = [LEARNT[name].write(folder) for folder in (first, second)]
    assert facts == [{"weights": "random, float32", "seed": 0}] * 2
    names = sorted(path.name for path in first.iterdir())
    assert "model.safetensors" in names
    assert "tokenizer.json" in names
    same, different, failed = filecmp.cmpfiles(first, second, names, shallow=False)
    assert (sorted(same), different, failed) == (names, [], [])


@pytest.mark.parametrize("name", LEARNT)
def test_a_tokenizer_has_the_promised_size_and_special_tokens(name, tmp_path):
    tokenizer = opened(name, tmp_path)
    hf = tokenizer.hf
    assert len(hf) == LEARNT[name].num_entries
    assert (hf.bos_token, hf.eos_token, hf.pad_token) == ("<begin>", "<end>", "<pad>")
    assert tokenizer.adds_begin
    assert hf(TEXT).input_ids[0] == hf.bos_token_id
    assert tokenizer.encode(TEXT).text == TEXT.encode()


@pytest.mark.parametrize("name", LEARNT)
def test_a_model_has_a_row_for_every_entry_and_small_weights(name, tmp_path):
    LEARNT[name].write(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    config = model.config
    assert model.get_input_embeddings().weight.shape == (
        LEARNT[name].num_entries,
        LEARNT[name].width,
    )
    assert config.max_position_embeddings == 512
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000


def test_the_two_vocabularies_cut_text_differently(tmp_path):
    encodings = [opened(name, tmp_path / name).encode(TEXT) for name in LEARNT]
    alignment = align_chunks(*encodings)
    sizes = [np.diff(spans)[:, 0] for spans in (alignment.teacher_spans, alignment.student_spans)]
    is_single = (sizes[0] == 1) & (sizes[1] == 1)
    assert 0 < is_single.mean() < 0.9


def test_each_name_has_a_cached_folder_of_its_own(cache):
    folders = {name: tiny_folder(name) for name in ("tiny", *LEARNT)}
    assert tiny_folder() == folders["tiny"] == cache / "tiny" / "v1"
    assert len({file_sha256(folder / "model.safetensors") for folder in folders.values()}) == 3
    manifest = json.loads((folders["tiny-bpe"] / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["facts"]["seed"] == 0


@pytest.mark.parametrize("name", ["tiny", *LEARNT])
def test_a_source_resolves_to_its_folder(name, cache):
    source = parse_source(f"random:{name}")
    assert source == Source(random=name)
    found = resolve(ModelConfig(name="it", source=source))
    assert found.folder == tiny_folder(name)
    assert found.weights == "random, float32"
