"""A training run on disk: saved whole or not at all, read only if every file is as it was written.

checkpoints/step-00000100/
    model/ or adapter/      a plain model folder, or the trained part of one
    optimizer.safetensors   moments of every trained parameter
    losses.safetensors      state of the losses, if they have any
    state.json              `TrainingState`
    manifest.json           how it was made, and the SHA-256 of each file
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from suite.distill.settings import CheckpointConfig
from suite.distill.state import SavedTensors, TrainingState
from suite.errors import CheckpointError, ModelError
from suite.models.checkpoint_folder import (
    CHECKPOINTS,
    STATE_FILE,
    Checkpoint,
    list_checkpoints,
    step_folder,
)
from suite.models.disk_errors import disk_reason
from suite.models.manifest import find_difference, read_checksums, write_manifest

__all__ = ["Checkpoint", "list_checkpoints", "load_checkpoint", "load_state", "save_checkpoint"]

OPTIMISER_FILE = "optimizer.safetensors"
LOSSES_FILE = "losses.safetensors"


def save_checkpoint(
    run: Path,
    state: TrainingState,
    tensors: SavedTensors,
    write_model: Callable[[Path], None],
    *,
    facts: Mapping[str, Any],
    config: CheckpointConfig,
) -> Checkpoint:
    """Save a moment of a run; it appears under its name when all of it is on the disk.

    Older ones beyond `config.keep_last` are removed afterwards, but not the best one. So are later
    ones: a run that went back makes them anew.

    Args:
        run: The run's folder.
        state: Where the run is.
        tensors: The optimiser's, and the losses'.
        write_model: Fills `model/` or `adapter/` inside the folder it is given.
        facts: How it was made, for the manifest.
        config: How many are kept.

    Raises:
        CheckpointError: It cannot be written; what was saved before is kept.
    """
    target = step_folder(run, state.step)
    with _told(run, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            write_model(unfinished)
            _write_tensors(unfinished / OPTIMISER_FILE, tensors.optimiser)
            if tensors.losses:
                _write_tensors(unfinished / LOSSES_FILE, tensors.losses)
            text = json.dumps(state.to_json(), indent=1, ensure_ascii=False) + "\n"
            (unfinished / STATE_FILE).write_text(text, encoding="utf-8")
            write_manifest(unfinished, {"kind": "checkpoint", **facts})
            _make_readable(unfinished)
            _reach_the_disk(unfinished)
            _put_in_place(unfinished, target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        _prune(run, state, config)
    return Checkpoint(target, state.step)


def load_checkpoint(folder: Path) -> tuple[TrainingState, SavedTensors]:
    """Read a checkpoint after a check of every file in it.

    Returns:
        Where the run was, and its tensors on the processor, equal to the last bit.

    Raises:
        CheckpointError: A file is missing, damaged or of something else; the sentence names it and
            the checkpoint before.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} does not exist; give a folder {CHECKPOINTS}/step-... of a run"
        )
    try:
        difference = find_difference(folder)
    except ModelError as error:
        raise CheckpointError(f"{error}; {_way_back(folder)}") from error
    if difference is not None:
        raise CheckpointError(f"{difference}; {_way_back(folder)}")
    losses = folder / LOSSES_FILE
    tensors = SavedTensors(
        optimiser=_read_tensors(folder / OPTIMISER_FILE),
        losses=_read_tensors(losses) if losses.is_file() else {},
    )
    return load_state(folder), tensors


def load_state(folder: Path) -> TrainingState:
    """Where the run of a checkpoint was; its file alone is read.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    path = folder / STATE_FILE
    try:
        return TrainingState.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"{path}: not the state of a run ({reason}); {_way_back(path.parent)}"
        ) from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}); {_way_back(path.parent)}"
        ) from error


def _way_back(folder: Path) -> str:
    """What to do about a damaged checkpoint, as a clause."""
    run = folder.parent.parent
    steps = list_checkpoints(run)
    own = [checkpoint.step for checkpoint in steps if checkpoint.folder.name == folder.name]
    before = [checkpoint for checkpoint in steps if own and checkpoint.step < own[0]]
    if not before:
        return "no checkpoint is before it, so start the run in another folder"
    return f"go on from the checkpoint before it with --checkpoint {before[-1].folder}"


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)


def _make_readable(folder: Path) -> None:
    """The modes of ordinary files; those of temporary ones would hide them from everyone else."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _reach_the_disk(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        _flush(path)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put_in_place(unfinished: Path, target: Path) -> None:
    """Give a finished folder its name. One that has the name already is of a run that went back."""
    if target.exists():
        if _is_same(unfinished, target):
            return
        _set_aside(target)
    unfinished.rename(target)
    _flush(target.parent)


def _is_same(new: Path, old: Path) -> bool:
    try:
        return find_difference(old) is None and read_checksums(old) == read_checksums(new)
    except ModelError:
        return False


def _set_aside(folder: Path) -> None:
    """Remove a checkpoint; a kill on the way must not leave a part of it under its name."""
    aside = folder.with_name(f".{folder.name}.removed")
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _remove_leftovers(parent: Path) -> None:
    for leftover in parent.glob(".step-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _prune(run: Path, state: TrainingState, config: CheckpointConfig) -> None:
    found = list_checkpoints(run)
    until_now = [checkpoint.step for checkpoint in found if checkpoint.step <= state.step]
    kept = set(until_now[-config.keep_last :])
    if config.keep_best:
        kept |= {step for step in until_now if step == state.best_step}
    for checkpoint in found:
        if checkpoint.step not in kept:
            _set_aside(checkpoint.folder)


@contextmanager
def _told(run: Path, target: Path) -> Iterator[None]:
    """Make one sentence of whatever a full disk makes a library raise."""
    try:
        yield
    except Exception as error:
        reason = disk_reason(error)
        if reason is None:
            raise
        kept = list_checkpoints(run)
        mend = "make room or mend the folder, then give the same command again"
        raise CheckpointError(
            f"{target}: the checkpoint cannot be written ({reason}); "
            + (f"{kept[-1].folder} is kept: {mend} with --resume" if kept else mend)
        ) from error
