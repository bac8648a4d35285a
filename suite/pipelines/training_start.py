"""The student of a transfer before training: a transplanted model in the run's own folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from suite.errors import ConfigError
from suite.models.entry import ModelConfig
from suite.models.loading import load_model, place, release_memory
from suite.models.manifest import read_facts, verify_manifest, write_manifest
from suite.models.resolve import resolve
from suite.models.sources import Source
from suite.pipelines.training_recipe import TransferRecipe
from suite.pipelines.transplant import transplanted_folder
from suite.text.tokenizers import open_tokenizer
from suite.transplant.surgery import untie_embeddings

START = "start"


def make_start(recipe: TransferRecipe, model: ModelConfig, run: Path, console: Console) -> Path:
    """The folder `start/` of a run, made at the first call.

    Args:
        recipe: How the student begins.
        model: What it is made of.
        run: The run's folder.
        console: For progress.

    Raises:
        SuiteError: It cannot be made, or was damaged since; one sentence.
    """
    folder = run / START
    if folder.is_dir():
        verify_manifest(folder)
        return folder
    made = transplanted_folder(recipe.transplant_source(model.source), console)
    with _unfinished(run) as unfinished:
        if _is_changed(recipe):
            unfinished.mkdir()
            _write_changed(recipe, model, made, unfinished)
            write_manifest(unfinished, read_facts(made))
        else:
            shutil.copytree(made, unfinished, copy_function=_link)
    return folder


def keep_start(model: Path, run: Path) -> Path:
    """The folder `start/` of a run whose student is a model as it is: adapters need their base.

    Args:
        model: The student's folder.
        run: The run's folder.

    Raises:
        ConfigError: It cannot be written.
    """
    if not (run / START).is_dir():
        with _unfinished(run) as unfinished:
            shutil.copytree(model, unfinished, copy_function=_link)
    return run / START


@contextmanager
def _unfinished(run: Path) -> Iterator[Path]:
    """A folder, not there yet, that becomes `start/` when it is filled."""
    folder = run / f".{START}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
        folder.rename(run / START)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {run} ({error.strerror or error}); give another --output"
        ) from error


def _is_changed(recipe: TransferRecipe) -> bool:
    """Whether the student is more than a transplant, which unties byte models by itself."""
    unties = bool(recipe.untie_embeddings) and not recipe.is_byte_student
    return unties or recipe.ngram_embeddings or recipe.sliding_window is not None


def _write_changed(recipe: TransferRecipe, entry: ModelConfig, made: Path, folder: Path) -> None:
    loaded = _load(ModelConfig(name="start", source=Source(path=made)))
    model, tokenizer = loaded.model, loaded.tokenizer
    if recipe.untie_embeddings:
        untie_embeddings(model)
    if recipe.sliding_window is not None:
        from suite.models.ngram_embeddings import widen_sliding_window

        widen_sliding_window(model, recipe.sliding_window)
    if recipe.ngram_embeddings:
        from suite.models.ngram_embeddings import add_ngram_embeddings

        source = _load(entry)
        model = add_ngram_embeddings(
            model,
            open_tokenizer(source.tokenizer, name=str(entry.source)),
            open_tokenizer(tokenizer, name="start"),
            source.model.get_input_embeddings().weight.detach(),
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    release_memory()


def _load(entry: ModelConfig) -> Any:
    """On the processor, in the dtype its weights are stored in."""
    entry = entry.model_copy(update={"device": "cpu"})
    resolved = resolve(entry)
    return load_model(entry, resolved, place(entry, resolved))


def _link(source: str, target: str) -> None:
    """One more name for a file that nobody changes, or a copy on another file system."""
    try:
        # The hub's cache holds links to its files.
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)
