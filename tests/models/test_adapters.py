"""Adapters written, read and folded: the same model to the last bit, or to rounding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adapted_models import FAMILIES, NEW_ROWS, SIZES, build, logits, start_of, train_steps, trained
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from suite.errors import ModelError
from suite.models.adapters import load_adapted, load_adapter, save_adapter


def folded_by_hand(model: Any, alpha: int, rank: int) -> dict[str, Tensor]:
    """Each W + alpha / rank * B A, in float64."""
    state = model.get_base_model().state_dict()
    found = {}
    for name, weight in state.items():
        if ".lora_" in name:
            continue
        plain = name.replace(".base_layer", "")
        found[plain] = weight.double()
        if plain != name:
            layer = plain.removesuffix(".weight")
            a, b = (state[f"{layer}.lora_{x}.default.weight"].double() for x in "AB")
            found[plain] = weight.double() + alpha / rank * b @ a
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folded_model_is_plain_and_has_the_sums_as_weights(family):
    model = trained(family)
    expected, answers = folded_by_hand(model, 8, 4), logits(model)
    folded = model.merge_and_unload()
    assert type(folded) is type(build(family))
    state = folded.state_dict()
    assert set(state) == set(expected)
    for name, weight in state.items():
        torch.testing.assert_close(weight.double(), expected[name], rtol=1e-5, atol=1e-6)
    difference = (logits(folded) - answers).norm() / answers.norm()
    assert difference < 1e-5


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("trains_ends", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_adapter_comes_back_to_the_last_bit(family, trains_ends, trainable, tmp_path):
    model = trained(family, trains_ends=trains_ends)
    save_adapter(model, tmp_path / "adapter")
    start = start_of(family, trains_ends=trains_ends)
    again = load_adapter(start, tmp_path / "adapter", trainable=trainable)
    expected = dict(model.named_parameters())
    found = dict(again.named_parameters())
    assert set(found) == set(expected)
    for name, weight in found.items():
        assert torch.equal(weight, expected[name]), name
        assert weight.requires_grad == (trainable and expected[name].requires_grad), name
    assert torch.equal(logits(again), logits(model))
    if trainable:  # Training goes on as if nothing had happened.
        for one in (model, again):
            train_steps(one, 1)
        assert torch.equal(logits(again), logits(model))


def test_files_are_those_of_peft_and_one_for_the_ends(tmp_path):
    save_adapter(trained("gemma3"), tmp_path / "tied")
    files = {path.name for path in (tmp_path / "tied").iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors", "ends.safetensors"}
    with safe_open(tmp_path / "tied" / "ends.safetensors", framework="pt") as file:
        assert set(file.keys()) == {"embedding.weight"}
    save_adapter(trained("llama"), tmp_path / "untied")
    with safe_open(tmp_path / "untied" / "ends.safetensors", framework="pt") as file:
        assert set(file.keys()) == {"embedding.weight", "head.weight"}
    save_adapter(trained("llama", trains_ends=False), tmp_path / "alone")
    assert not (tmp_path / "alone" / "ends.safetensors").exists()


def test_an_adapter_saved_twice_is_the_same_files(tmp_path):
    model = trained("gemma3")
    for name in ("one", "two"):
        save_adapter(model, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    settings = json.loads((tmp_path / "one" / "adapter_config.json").read_text())
    assert settings["target_modules"] == sorted(settings["target_modules"])


def test_gathered_weights_are_saved_in_place_of_the_models_own(tmp_path):
    model = trained("llama")
    gathered = {name: weight + 1 for name, weight in model.state_dict().items()}
    save_adapter(model, tmp_path, gathered=gathered)
    again = load_adapter(start_of("llama"), tmp_path, trainable=True)
    for name, weight in again.named_parameters():
        if weight.requires_grad:
            assert torch.equal(weight, gathered[name]), name


def test_peft_itself_reads_the_adapter(tmp_path):
    from peft import PeftModel

    model = trained("llama", trains_ends=False)
    save_adapter(model, tmp_path)
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):
        again = PeftModel.from_pretrained(build("llama"), str(tmp_path))
    assert torch.equal(logits(again), logits(model))


@pytest.mark.parametrize("change", ["vocab_size", "num_hidden_layers", "intermediate_size"])
def test_an_adapter_of_another_model_is_refused(change, tmp_path):
    save_adapter(trained("llama"), tmp_path)
    other = LlamaForCausalLM(LlamaConfig(**SIZES | {"vocab_size": NEW_ROWS, change: 64}))
    if change == "num_hidden_layers":
        other = LlamaForCausalLM(LlamaConfig(**SIZES | {"vocab_size": NEW_ROWS, change: 1}))
    with pytest.raises(ModelError) as error:
        load_adapter(other, tmp_path, trainable=False)
    assert str(error.value) == (
        f"{tmp_path}: these adapters were not trained on this LlamaForCausalLM, whose layers or"
        " vocabulary are others; give the model they were trained on"
    )


def saved_base(folder: Path) -> Path:
    start_of("llama").save_pretrained(folder)
    return folder


def test_saved_adapters_on_a_saved_model_are_the_model_that_was_trained(tmp_path):
    model = trained("llama")
    # Of a run that was moved since.
    model.peft_config["default"].base_model_name_or_path = "elsewhere"
    save_adapter(model, tmp_path / "adapter")
    again = load_adapted(saved_base(tmp_path / "base"), tmp_path / "adapter")
    assert not again.training
    assert not any(weight.requires_grad for weight in again.parameters())
    assert torch.equal(logits(again), logits(model))


def test_a_base_with_a_hole_is_refused(tmp_path):
    save_adapter(trained("llama"), tmp_path / "adapter")
    base = saved_base(tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError) as error:
        load_adapted(base, tmp_path / "adapter")
    assert str(error.value) == (
        f"adapter {tmp_path / 'adapter'} cannot be put on {base} (1 of its weights are missing, the"
        " first is model.norm.weight); copy both folders again"
    )
