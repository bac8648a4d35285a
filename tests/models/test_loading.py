from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from suite.config import parse_config
from suite.errors import ConfigError, ModelError
from suite.models import loading
from suite.models.entry import ModelConfig
from suite.models.loading import LoadedModel, load_model, pick_device, pick_dtype, place
from suite.models.pretrained import load_complete
from suite.models.resolve import resolve


def load(folder: Path, **settings: Any) -> LoadedModel:
    data = {"name": "mine", "source": {"path": folder}, "device": "cpu", **settings}
    entry = ModelConfig.model_validate(data)
    resolved = resolve(entry)
    return load_model(entry, resolved, place(entry, resolved))


def logits(loaded: LoadedModel) -> torch.Tensor:
    inputs = loaded.tokenizer("two tokens", return_tensors="pt")
    with torch.no_grad():
        result: torch.Tensor = loaded.model(input_ids=inputs.input_ids).logits
    return result


@pytest.mark.parametrize(
    ("wanted", "stored", "device", "fast", "expected"),
    [
        ("auto", "bfloat16", "cpu", True, "bfloat16"),
        ("auto", "bfloat16", "cpu", False, "float32"),
        ("auto", "float16", "cpu", True, "bfloat16"),
        ("auto", "float16", "cpu", False, "float32"),
        ("auto", "float32", "cpu", True, "float32"),
        ("auto", "float32", "cpu", False, "float32"),
        ("auto", "bfloat16", "cuda", False, "bfloat16"),
        ("auto", "float16", "cuda", False, "float16"),
        ("auto", "float32", "cuda", False, "float32"),
        ("auto", "float8_e4m3fn", "cuda", False, "bfloat16"),
        ("float32", "bfloat16", "cpu", True, "float32"),
        ("float16", "bfloat16", "cpu", False, "float16"),
        ("bfloat16", "float32", "cpu", False, "bfloat16"),
    ],
)
def test_the_dtype_follows_the_wish_then_the_weights_then_the_processor(
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    stored: str,
    device: str,
    fast: bool,
    expected: str,
) -> None:
    monkeypatch.setattr(loading, "cpu_is_fast_at_bfloat16", lambda: fast)
    assert pick_dtype(wanted, stored, device) == expected


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({"avx2": True}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({}, False),
    ],
)
def test_a_processor_is_fast_at_bfloat16_when_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], fast: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert loading.cpu_is_fast_at_bfloat16() == fast


def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_auto_is_the_processor_where_there_is_no_accelerator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_accelerator(monkeypatch)
    assert pick_device("auto") == "cpu"


def test_auto_prefers_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    no_accelerator(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == "cuda"


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    no_accelerator(monkeypatch)
    with pytest.raises(ModelError) as error:
        pick_device(wanted)
    assert str(error.value) == (
        f"device {wanted} is not available on this machine; give --device or device: cpu"
    )


@pytest.mark.parametrize("wanted", ["cuda:1", "cuda:10", "cuda:2"])
def test_one_gpu_of_several_can_be_named(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    no_accelerator(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    entry = ModelConfig.model_validate({"name": "a", "source": "random:tiny", "device": wanted})
    if wanted == "cuda:1":
        assert pick_device(entry.device) == wanted
        return
    with pytest.raises(ModelError) as error:
        pick_device(entry.device)
    assert str(error.value) == (
        f"device {wanted} is not available on this machine; give --device or device: cuda:0,"
        " cuda:1, cuda or cpu"
    )


@pytest.mark.parametrize("wanted", ["gpu", "cuda:", "cuda:x", "cpu:1"])
def test_a_device_that_is_none_is_refused(wanted: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(ModelConfig, {"name": "a", "source": "random:tiny", "device": wanted}, "m")
    assert str(error.value) == (
        f"m: device: {wanted!r} is no device; give auto, cpu, cuda, cuda:N or mps"
    )


def test_a_model_loads_and_answers(tiny_model: Path) -> None:
    loaded = load(tiny_model)
    assert logits(loaded).shape == (1, len("two tokens"), len(loaded.tokenizer))
    assert not loaded.model.training


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_runs_in_the_dtype_it_was_asked_for(tiny_model: Path, dtype: str) -> None:
    assert load(tiny_model, dtype=dtype).model.dtype == getattr(torch, dtype)


def test_the_begin_token_is_the_tokenizers_business(tiny_model: Path, tiny_model_bos: Path) -> None:
    without, with_one = load(tiny_model).tokenizer, load(tiny_model_bos).tokenizer
    assert len(without("abc").input_ids) == 3
    assert with_one("abc").input_ids == [with_one.bos_token_id, *without("abc").input_ids]


# peft asks transformers for an attribute that transformers renamed.
peft_warns = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")


@pytest.fixture
def adapter(tiny_model: Path, tmp_path: Path) -> Path:
    """A LoRA adapter whose weights are not zero."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False
    )
    torch.manual_seed(0)
    get_peft_model(load(tiny_model).model, config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@peft_warns
def test_an_adapter_changes_what_a_model_answers(tiny_model: Path, adapter: Path) -> None:
    plain, adapted = load(tiny_model), load(tiny_model, adapter=str(adapter))
    assert not torch.allclose(logits(plain), logits(adapted))


@peft_warns
def test_an_adapted_model_answers_the_same_each_time(tiny_model: Path, adapter: Path) -> None:
    first, second = (logits(load(tiny_model, adapter=str(adapter))) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_weights_with_a_hole_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "copy"))
    (folder / "manifest.json").unlink()
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError) as error:
        load(folder)
    assert str(error.value) == (
        f"model 'mine': {folder} cannot be loaded"
        " (1 of its weights are missing, the first is model.layers.1.self_attn.q_proj.weight)"
    )


def test_an_architecture_that_transformers_does_not_know_is_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "copy"))
    (folder / "manifest.json").unlink()
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"llama"', '"lama"'))
    with pytest.raises(ModelError, match=rf"^model 'mine': {folder} cannot be loaded \(.*lama"):
        load(folder)


def test_bars_of_transformers_stay_off_and_those_of_downloads_stay(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_bars = importlib.import_module("huggingface_hub.utils.tqdm")
    monkeypatch.setattr(hub_bars, "HF_HUB_DISABLE_PROGRESS_BARS", None)
    monkeypatch.setattr(hub_bars, "progress_bar_states", {})
    monkeypatch.setattr(logging, "_tqdm_active", True)
    load_complete(tiny_model)
    assert not logging.is_progress_bar_enabled()
    assert not hub_bars.are_progress_bars_disabled()
    hub_bars.disable_progress_bars()
    load_complete(tiny_model)
    assert hub_bars.are_progress_bars_disabled()
