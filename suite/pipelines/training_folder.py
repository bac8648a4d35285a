"""A training run's folder: what it was begun with, and where it goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from suite.errors import CheckpointError, ConfigError
from suite.files import write_atomically
from suite.models.checkpoint_folder import CHECKPOINTS, RECIPE_FILE, list_checkpoints
from suite.models.disk_errors import disk_reason
from suite.models.manifest import has_manifest, read_facts
from suite.pipelines.cache_inputs import only_run_in
from suite.pipelines.recipe_changes import changed_keys, describe_change, resolved
from suite.pipelines.training_inputs import AnyRecipe
from suite.pipelines.training_start import START
from suite.text.corpus import Corpus

FIRST_STAGE = "first_stage"


def starting_point(
    recipe: AnyRecipe, run: Path, *, resume: bool, checkpoint: Path | None = None
) -> Path | None:
    """The checkpoint to go on from; None for a new run. Writes nothing.

    Args:
        recipe: What is to be trained.
        run: The run's folder.
        resume: Go on from the newest checkpoint in it.
        checkpoint: Go on from this one instead.

    Raises:
        ConfigError: The folder holds a run and nobody said to go on, there is nothing to go on
            from, or the recipe is another one.
    """
    found = list_checkpoints(run)
    goes_on = resume or checkpoint is not None
    before = run / RECIPE_FILE
    # Without a checkpoint nothing was trained by the former recipe.
    if found and before.is_file() and goes_on:
        begun = json.loads(before.read_text(encoding="utf-8"))
        changes = changed_keys(begun, resolved(recipe))
        if changes:
            raise ConfigError(describe_change(run, changes))
    if checkpoint is not None:
        wanted = checkpoint.absolute()
        if wanted.parent.parent != run:
            raise ConfigError(
                f"--checkpoint {checkpoint} is no checkpoint of {run}; give a folder of"
                f" {run / CHECKPOINTS}"
            )
        return wanted
    if found and not goes_on:
        raise ConfigError(
            f"{run} holds a run that is saved up to step {found[-1].step}; give --resume to go on,"
            " or another --output"
        )
    return found[-1].folder if found else None


def check_text(corpus: Corpus, checkpoint: Path) -> None:
    """Check that the text a run goes on with is the one it was saved on: places are counted in it.

    Raises:
        ConfigError: It is another one.
    """
    known = read_facts(checkpoint).get("text") if has_manifest(checkpoint) else None
    if known is not None and known != corpus.fingerprint():
        raise ConfigError(
            f"{corpus.config.place}: the text has changed since {checkpoint} was saved; give the"
            " text as it was, or another --output"
        )


def is_finished(checkpoint: Path) -> bool:
    """Whether a checkpoint is the last of its run; without a readable manifest it is not."""
    if not has_manifest(checkpoint):
        return False
    return bool(read_facts(checkpoint).get("is_last"))


def begin(run: Path, recipe: Mapping[str, Any], *, is_new: bool) -> None:
    """Write the recipe of a run beside it; a start that was made by another one goes.

    Raises:
        CheckpointError: The folder cannot be written.
    """
    path = run / RECIPE_FILE
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else recipe
    if is_new and changed_keys(before, recipe):
        shutil.rmtree(run / START, ignore_errors=True)
    try:
        write_atomically(path, json.dumps(recipe, indent=1) + "\n")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({disk_reason(error)})") from error


@contextmanager
def holding(run: Path, is_first: bool) -> Iterator[None]:
    """The run's folder locked by its first process."""
    if not is_first:
        yield
        return
    with only_run_in(run):
        yield
