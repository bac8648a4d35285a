"""The folder `start/` of a run: whole, or not there."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from suite.config import parse_config
from suite.errors import ConfigError
from suite.models.manifest import verify_manifest
from suite.pipelines.training_recipe import TransferRecipe
from suite.pipelines.training_start import make_start

RECIPE = parse_config(
    TransferRecipe,
    {
        "kind": "transfer",
        "title": "Tiny to words",
        "model": {"name": "tiny", "source": "random:tiny-bpe"},
        "target_tokenizer": "random:tiny-words",
        "data": {"packaged": "python-docs"},
        "losses": [{"name": "alm"}],
        "training": {"steps": 1},
    },
    "recipe",
)


def start_in(run: Path) -> Path:
    assert RECIPE.model is not None
    return make_start(RECIPE, RECIPE.model, run, Console(file=io.StringIO()))


def test_what_a_killed_run_left_of_its_start_goes(tmp_path: Path) -> None:
    (tmp_path / ".start.abc").mkdir()
    (tmp_path / ".start.abc" / "model.safetensors").touch()
    folder = start_in(tmp_path)
    assert list(tmp_path.iterdir()) == [folder] == [tmp_path / "start"]
    verify_manifest(folder)


def test_a_start_that_a_full_disk_cut_is_one_sentence_and_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        (target / "model.safetensors").touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("suite.pipelines.training_start._link_all", fail)
    with pytest.raises(ConfigError) as error:
        start_in(tmp_path)
    assert str(error.value) == (
        f"cannot write to {tmp_path / 'start'} (No space left on device); give another --output"
    )
    assert not list(tmp_path.iterdir())
