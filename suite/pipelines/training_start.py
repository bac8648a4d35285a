"""The student before training, in the run's own folder where it is not a model as it is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console

from suite.models.entry import ModelConfig
from suite.models.licence import model_types
from suite.models.loading import load_model, place, release_memory
from suite.models.manifest import has_manifest, read_facts, verify_manifest, write_manifest
from suite.models.resolve import resolve
from suite.models.sources import Source
from suite.pipelines.output_folder import UnfinishedFolder
from suite.pipelines.training_inputs import TrainingInputs
from suite.pipelines.training_recipe import DistillRecipe, TransferRecipe
from suite.pipelines.transplant import transplanted_folder
from suite.text.tokenizers import open_tokenizer
from suite.transplant.added_tokens import add_embeddings
from suite.transplant.folder import save_folder
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
            _write_changed(recipe, model, made, unfinished)
            write_manifest(unfinished, read_facts(made))
        else:
            _link_all(made, unfinished)
    return folder


def keep_start(inputs: TrainingInputs, run: Path) -> Path:
    """The student of a distillation before training.

    It is the student's own folder, but for one that gets special tokens, and for one that gets
    adapters, which need their base beside them: these are in `start/`.

    Args:
        inputs: For the student and its tokenizer.
        run: The run's folder.

    Raises:
        SuiteError: It cannot be made, or was damaged since; one sentence.
    """
    recipe = inputs.recipe
    assert isinstance(recipe, DistillRecipe)
    model, folder = resolve(recipe.student).folder, run / START
    if folder.is_dir():
        if has_manifest(folder):
            verify_manifest(folder)
        return folder
    if recipe.added_special_tokens:
        with _unfinished(run) as unfinished:
            loaded = _load(recipe.student)
            old = open_tokenizer(loaded.tokenizer, name=str(recipe.student.source))
            add_embeddings(loaded.model, old, inputs.student)
            save_folder(unfinished, loaded.model, inputs.student)
            added = ", ".join(recipe.added_special_tokens)
            dtype = str(loaded.model.dtype).removeprefix("torch.")
            facts = {
                "weights": f"{dtype}, with the special tokens {added}",
                "model_types": list(model_types(model)),
            }
            write_manifest(unfinished, facts)
        return folder
    if recipe.train == "full":
        return model
    with _unfinished(run) as unfinished:
        _link_all(model, unfinished)
    return folder


def _unfinished(run: Path) -> UnfinishedFolder:
    """Becomes `start/` when it is filled; what a killed run left of one goes."""
    for left in run.glob(f".{START}.*"):
        shutil.rmtree(left, ignore_errors=True)
    return UnfinishedFolder(run / START, "--output")


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


def _link_all(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    """One more name for a file that nobody changes, or a copy on another file system."""
    try:
        # The hub's cache holds links to its files.
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)
