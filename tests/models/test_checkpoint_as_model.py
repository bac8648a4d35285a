"""A checkpoint, or a run with one, wherever a model is asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from suite.distill.checkpoint import save_checkpoint
from suite.distill.lora import LoraConfig, add_adapters
from suite.distill.settings import CheckpointConfig
from suite.distill.state import SavedTensors, TrainingState
from suite.errors import ModelError
from suite.models.adapters import save_adapter
from suite.models.checkpoint_folder import find_checkpoint, model_folders
from suite.models.entry import ModelConfig
from suite.models.licence import model_types
from suite.models.loading import load_model, place
from suite.models.manifest import write_manifest
from suite.models.resolve import check_entry, resolve, resolve_tokenizer
from suite.models.sources import Source
from suite.pipelines.plan import plan_model

IDS = torch.tensor([[5, 80, 200, 7, 7, 131]])


def entry(folder: Path, **settings: Any) -> ModelConfig:
    return ModelConfig(name="mine", source=Source(path=folder), **settings)


def sentence(wanted: ModelConfig) -> str:
    with pytest.raises(ModelError) as error:
        resolve(wanted)
    start = "model 'mine': "
    assert str(error.value).startswith(start)
    return str(error.value).removeprefix(start)


def save(run: Path, step: int, write: Callable[[Path], None], **facts: Any) -> Path:
    """A checkpoint of step `step`."""
    told = {"weights": f"float32, step {step}", "model_types": ["gemma3_text", "llama"]}
    return save_checkpoint(
        run,
        TrainingState(step=step),
        SavedTensors({"exp_avg/x": torch.zeros(3)}, {}),
        write,
        facts=told | facts,
        config=CheckpointConfig(keep_last=9),
    ).folder


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path) -> Path:
    """A run with two checkpoints; at step 20 one weight is another than at step 10."""

    def write(folder: Path, scale: float) -> None:
        shutil.copytree(tiny_model, folder / "model")
        (folder / "model" / "manifest.json").unlink()
        model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        with torch.no_grad():
            model.model.norm.weight.mul_(scale)
        model.save_pretrained(folder / "model")

    for step, scale in ((10, 1.5), (20, 2.0)):
        save(tmp_path / "run", step, lambda folder, scale=scale: write(folder, scale))
    return tmp_path / "run"


@pytest.fixture
def adapted(tiny_model: Path, tmp_path: Path) -> tuple[Path, Any]:
    """A run that trains adapters, embedding and head; and the model in memory."""
    run = tmp_path / "lora"
    shutil.copytree(tiny_model, run / "start")
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    torch.manual_seed(3)
    model = add_adapters(base, LoraConfig(rank=4, alpha=8), trains_ends=True)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.05 * torch.randn_like(weight))
    save(run, 30, lambda folder: save_adapter(model, folder / "adapter"), base="start")
    return run, model.eval()


def logits(wanted: ModelConfig) -> torch.Tensor:
    resolved = resolve(wanted)
    with torch.no_grad():
        found: torch.Tensor = (
            load_model(wanted, resolved, place(wanted, resolved)).model(IDS).logits
        )
    return found


def test_a_checkpoint_stands_for_its_model(run: Path) -> None:
    folder = run / "checkpoints" / "step-00000010"
    resolved = resolve(entry(folder))
    assert resolved.folder == resolved.tokenizer_folder == folder / "model"
    assert (resolved.weights, resolved.stored_dtype) == ("float32, step 10", "float32")
    assert resolve_tokenizer(Source(path=folder)) == folder / "model"


def test_a_run_stands_for_its_newest_checkpoint(run: Path) -> None:
    newest = run / "checkpoints" / "step-00000020"
    assert find_checkpoint(run) == newest
    assert resolve(entry(run)).folder == newest / "model"
    assert resolve_tokenizer(Source(path=run)) == newest / "model"
    earlier = run / "checkpoints" / "step-00000010"
    assert not torch.equal(logits(entry(run)), logits(entry(earlier)))


def test_a_run_can_give_the_tokenizer(run: Path, tiny_model: Path) -> None:
    resolved = resolve(entry(tiny_model, tokenizer=str(run)))
    assert resolved.tokenizer_folder == run / "checkpoints" / "step-00000020" / "model"


def test_a_model_folder_stands_for_itself(tiny_model: Path) -> None:
    assert find_checkpoint(tiny_model) is None
    assert model_folders(tiny_model).model == tiny_model


def test_an_entry_is_checked_without_reading_weights(run: Path) -> None:
    weights = run / "checkpoints" / "step-00000020" / "model" / "model.safetensors"
    weights.write_bytes(b"not looked at")
    check_entry(entry(run))


def test_damaged_weights_are_told(run: Path) -> None:
    weights = run / "checkpoints" / "step-00000020" / "model" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert sentence(entry(run)) == (
        f"{weights} differs from its checksum in manifest.json; give another checkpoint"
    )


def test_what_only_training_reads_is_not_read_for_a_model(run: Path) -> None:
    (run / "checkpoints" / "step-00000020" / "optimizer.safetensors").write_bytes(b"damaged")
    assert resolve(entry(run)).weights == "float32, step 20"


def test_a_checkpoint_whose_manifest_is_gone_is_told(run: Path) -> None:
    folder = run / "checkpoints" / "step-00000020"
    (folder / "manifest.json").unlink()
    assert sentence(entry(run)).startswith(f"{folder / 'manifest.json'}: no readable manifest (")


def test_a_checkpoint_without_a_model_is_told(run: Path) -> None:
    folder = run / "checkpoints" / "step-00000020"
    shutil.rmtree(folder / "model")
    assert sentence(entry(run)) == (
        f"checkpoint {folder} has neither model/ nor adapter/; give another checkpoint"
    )


def test_adapters_are_folded_into_what_was_trained(adapted: tuple[Path, Any]) -> None:
    run, model = adapted
    resolved = resolve(entry(run))
    assert resolved.adapter_folder is None
    assert resolved.weights == "float32, step 30"
    with torch.no_grad():
        expected = model(IDS).logits
    assert torch.allclose(logits(entry(run)), expected, atol=1e-5)
    plain = AutoModelForCausalLM.from_pretrained(run / "start", dtype=torch.float32)
    assert not torch.allclose(plain(IDS).logits, expected, atol=1e-2)
    assert resolve(entry(run)).folder == resolved.folder
    assert model_types(resolved.folder) == ("gemma3_text", "llama")


def test_another_adapter_is_another_folder(adapted: tuple[Path, Any]) -> None:
    run, model = adapted
    before = resolve(entry(run)).folder
    with torch.no_grad():
        model.get_input_embeddings().weight[5] += 1.0
    save(run, 40, lambda folder: save_adapter(model, folder / "adapter"), base="start")
    assert resolve(entry(run)).folder != before


def test_a_run_with_adapters_may_be_moved(adapted: tuple[Path, Any], tmp_path: Path) -> None:
    run, _ = adapted
    moved = run.rename(tmp_path / "elsewhere")
    check_entry(entry(moved))
    assert resolve_tokenizer(Source(path=moved)) == moved / "start"


def test_adapters_without_their_base_are_told(adapted: tuple[Path, Any]) -> None:
    run, _ = adapted
    shutil.rmtree(run / "start")
    assert sentence(entry(run)) == (
        f"{run / 'start'}, on which the adapter of {run / 'checkpoints' / 'step-00000030'} was"
        " trained, does not exist; put it back"
    )
    folder = run / "checkpoints" / "step-00000030"
    write_manifest(folder, {"kind": "checkpoint"})
    assert sentence(entry(run)) == (
        f"{folder / 'manifest.json'} does not name the base of adapter/; give another checkpoint"
    )


def test_adapters_of_another_model_are_told(adapted: tuple[Path, Any]) -> None:
    run, _ = adapted
    from safetensors.torch import load_file, save_file

    ends = run / "checkpoints" / "step-00000030" / "adapter" / "ends.safetensors"
    save_file({name: value[:-1] for name, value in load_file(ends).items()}, ends)
    facts = {"kind": "checkpoint", "base": "start"}
    write_manifest(run / "checkpoints" / "step-00000030", facts)
    assert sentence(entry(run)) == (
        f"{ends.parent}: these adapters were not trained on this LlamaForCausalLM, whose layers or"
        " vocabulary are others; give the model they were trained on"
    )


def test_adapters_with_ends_are_not_read_in_part(
    adapted: tuple[Path, Any], tiny_model: Path
) -> None:
    folder = adapted[0] / "checkpoints" / "step-00000030" / "adapter"
    assert sentence(entry(tiny_model, adapter=str(folder))) == (
        f"adapter {folder} comes with an embedding of its own; give the checkpoint it is in as the"
        " model, without the key adapter"
    )


def test_a_benchmark_takes_a_checkpoint(run: Path, adapted: tuple[Path, Any]) -> None:
    plans = [plan_model(entry(folder)) for folder in (run, adapted[0])]
    assert [plan.weights for plan in plans] == ["float32, step 20", "float32, step 30"]
    assert plans[0].identity["weights"] != plans[1].identity["weights"]


def test_a_model_hands_on_the_types_of_what_it_was_made_from(run: Path, tmp_path: Path) -> None:
    folder = resolve(entry(run)).folder
    assert model_types(folder) == ("gemma3_text", "llama")
    alone = Path(shutil.copytree(folder, tmp_path / "alone"))
    assert model_types(alone) == ("llama",)
    config = {"model_type": "alm_suite_ngram_embeddings", "model": {"model_type": "gemma2"}}
    (alone / "config.json").write_text(json.dumps(config))
    assert model_types(alone) == ("alm_suite_ngram_embeddings", "gemma2")
