"""Where checkpoints of a training run lie, and what in them is the model.

A run's folder has `checkpoints/step-00000100/`, each with `model/`, a plain model folder, or
`adapter/`, a folder of peft beside the folder that training began with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.errors import ModelError
from suite.models.manifest import FILE_NAME, find_difference, has_manifest, read_facts

CHECKPOINTS = "checkpoints"
MODEL = "model"
ADAPTER = "adapter"
STATE_FILE = "state.json"
# What a run's folder has from its start.
RECIPE_FILE = "recipe.json"
# In `adapter/`: embedding and head that were trained in full, beside peft's own files.
ENDS_FILE = "ends.safetensors"

_STEP = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    """A saved moment of a training run.

    Attributes:
        folder: Where it is.
        step: Optimiser steps done.
    """

    folder: Path
    step: int


@dataclass(frozen=True)
class ModelFolders:
    """What a place stands for.

    Attributes:
        model: A plain model folder.
        adapter: A folder of peft on top of it.
        checkpoint: The checkpoint they are of; None for a plain model folder.
    """

    model: Path
    adapter: Path | None = None
    checkpoint: Path | None = None


def step_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run / CHECKPOINTS / f"step-{step:08d}"


def list_checkpoints(run: Path) -> tuple[Checkpoint, ...]:
    """The finished checkpoints of a run's folder, steps rising.

    A damaged one counts, so that it is reported and not passed over; what was never finished, or is
    of another program, does not.
    """
    found = []
    for folder in (run / CHECKPOINTS).glob("step-*"):
        name = _STEP.fullmatch(folder.name)
        if name and any((folder / file).is_file() for file in (FILE_NAME, STATE_FILE)):
            found.append(Checkpoint(folder, int(name[1])))
    return tuple(sorted(found, key=lambda checkpoint: checkpoint.step))


def find_checkpoint(place: Path) -> Path | None:
    """The checkpoint that a folder is, or the newest one of a run's folder; None for any other."""
    if has_manifest(place) and read_facts(place).get("kind") == "checkpoint":
        return place
    found = list_checkpoints(place)
    return found[-1].folder if found else None


def model_folders(place: Path) -> ModelFolders:
    """Where the model of a folder is: of a checkpoint, of a run's newest one, or the folder itself.

    Raises:
        ModelError: A checkpoint without a model, or a run without a checkpoint.
    """
    is_model = (place / "config.json").is_file()
    checkpoint = None if is_model else find_checkpoint(place)
    if checkpoint is None:
        if not is_model and _is_run(place):
            raise ModelError(
                f"{place} is a run without a checkpoint yet; go on with it, or give another folder"
            )
        return ModelFolders(place)
    if (checkpoint / MODEL).is_dir():
        return ModelFolders(checkpoint / MODEL, checkpoint=checkpoint)
    if not (checkpoint / ADAPTER).is_dir():
        raise ModelError(f"checkpoint {checkpoint} has neither {MODEL}/ nor {ADAPTER}/; {_OTHER}")
    base = checkpoint_facts(checkpoint).get("base")
    if not isinstance(base, str):
        raise ModelError(f"{checkpoint / FILE_NAME} does not name the base of {ADAPTER}/; {_OTHER}")
    # Of the run's folder, so that it may be moved.
    folder = checkpoint.parent.parent / base
    if not folder.is_dir():
        raise ModelError(
            f"{folder}, on which the adapter of {checkpoint} was trained, does not exist; put it"
            " back"
        )
    return ModelFolders(folder, checkpoint / ADAPTER, checkpoint)


def _is_run(folder: Path) -> bool:
    return (folder / CHECKPOINTS).is_dir() or (folder / RECIPE_FILE).is_file()


def checkpoint_facts(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint's manifest says of it.

    Raises:
        ModelError: The manifest is missing or unreadable.
    """
    if not has_manifest(checkpoint):
        raise ModelError(f"{checkpoint / FILE_NAME}: no readable manifest; {_OTHER}")
    return read_facts(checkpoint)


def verify_model(checkpoint: Path) -> None:
    """Check the files of a checkpoint's model or adapter, not those that only training reads.

    Raises:
        ModelError: One is missing or differs, or there is no manifest.
    """
    for part in (MODEL, ADAPTER):
        difference = find_difference(checkpoint, within=part)
        if difference is not None:
            raise ModelError(f"{difference}; {_OTHER}")


_OTHER = "give another checkpoint"
