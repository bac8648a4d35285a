"""Which checkpoints of a folder are whole."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from suite.errors import ConfigError
from suite.models.manifest import write_manifest
from suite.pipelines.track_checkpoints import SETTLED_SECONDS, find_checkpoints, why_no_model


def rested(folder: Path) -> Path:
    """As if nothing had been written for a while."""
    before = time.time() - 2 * SETTLED_SECONDS
    for path in folder.iterdir():
        os.utime(path, (before, before))
    return folder


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A model folder of another program: without a manifest."""
    folder = tmp_path / "runs" / "checkpoint-5"
    shutil.copytree(tiny_model, folder)
    (folder / "manifest.json").unlink()
    return rested(folder)


def test_numbered_models_are_found_steps_rising(model: Path) -> None:
    for name in ("checkpoint-20", "step_10", "notes", ".tmp-30"):
        rested(shutil.copytree(model, model.parent / name))
    (model.parent / "log-40").write_text("")
    found = find_checkpoints(model.parent)
    assert [(one.step, one.unfinished) for one in found] == [(5, None), (10, None), (20, None)]


def test_what_is_being_written_is_not_whole(model: Path) -> None:
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    assert why_no_model(rested(model)) == "model.safetensors is not written to its end"
    weights.write_bytes(content[:5])
    assert why_no_model(rested(model)) == "model.safetensors is not written to its end"
    weights.write_bytes(content)
    assert why_no_model(model) == "a file was written just now"
    assert why_no_model(rested(model)) is None
    weights.unlink()
    assert why_no_model(rested(model)) == "a file of weights is not there yet"


def test_every_shard_that_is_listed_must_be_there(model: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert why_no_model(rested(model)) == "model-2.safetensors is not there yet"
    shutil.copy(model / "model.safetensors", model / "model-2.safetensors")
    assert why_no_model(rested(model)) is None
    (model / "model.safetensors.index.json").write_text("{")
    assert why_no_model(rested(model)) == "it changes while it is looked at"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("config.json", "config.json is not there yet"),
        ("tokenizer*", "its tokenizer is not there yet"),
    ],
)
def test_a_missing_part_is_named(model: Path, name: str, said: str) -> None:
    for path in model.glob(name):
        path.unlink()
    assert why_no_model(rested(model)) == said


def test_a_manifest_says_that_a_folder_is_whole(model: Path) -> None:
    write_manifest(model, {})
    assert why_no_model(model) is None


def test_a_training_runs_checkpoint_needs_manifest_and_state(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        folder = tmp_path / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        if step > 10:
            (folder / "state.json").write_text("{}")
        if step != 20:
            write_manifest(folder, {"kind": "checkpoint"})
    (tmp_path / "checkpoints" / ".step-00000040.x").mkdir()
    assert [(one.step, one.unfinished) for one in find_checkpoints(tmp_path)] == [
        (10, "state.json is not there yet"),
        (20, "its manifest is not there yet"),
        (30, None),
    ]


def test_two_models_of_one_number_are_refused(model: Path) -> None:
    shutil.copytree(model, model.parent / "epoch-5")
    with pytest.raises(ConfigError) as error:
        find_checkpoints(model.parent)
    assert str(error.value) == (
        f"{model} and {model.parent / 'epoch-5'} both end in 5; a step is one model, so move one of"
        " them away"
    )
