"""The models of a training run in memory: who teaches, who learns, and how a student is saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from suite.align.collate import BatchSide, collate
from suite.align.rows import Row
from suite.distill.cache_fingerprints import teacher_fingerprints
from suite.distill.lora import add_adapters
from suite.distill.losses.hidden_state import ChannelMoments, channel_moments
from suite.distill.shared_trunk import original_ends, shared_trunk_teacher
from suite.distill.signals import Teacher, TeacherSignal
from suite.distill.teacher import live_teacher
from suite.distill.teacher_cache import TeacherCache
from suite.likelihood.options import TokenLogProbs
from suite.models.adapters import load_adapter, save_adapter
from suite.models.checkpoint_folder import ADAPTER, MODEL
from suite.models.entry import ModelConfig
from suite.models.loading import Placement, load_model, place
from suite.models.resolve import resolve
from suite.models.sources import Source
from suite.models.trunk import trunk_of
from suite.pipelines.training_inputs import AnyRecipe, TrainingInputs
from suite.text.tokenizers import OpenedTokenizer

MOMENT_ROWS = 64


class RememberedTeacher:
    """A teacher's signals for a few fixed rows, kept; a `Teacher` for these."""

    def __init__(
        self, teacher: Teacher, number: int, rows: Sequence[Row], rows_per_pass: int
    ) -> None:
        """Ask the teacher once.

        Args:
            teacher: Who is asked.
            number: Which of the batch's teachers it is.
            rows: Numbered from 0.
            rows_per_pass: Rows that it reads at a time.
        """
        self._rows: list[TokenLogProbs] = []
        for first in range(0, len(rows), rows_per_pass):
            numbers = range(first, min(first + rows_per_pass, len(rows)))
            side = collate([rows[n] for n in numbers]).teachers[number]
            found = teacher.signal(side, list(numbers)).log_probs
            assert found.boundary is not None
            lengths = side.token_mask.sum(dim=1).tolist()
            for row, length in enumerate(lengths):
                self._rows.append(
                    TokenLogProbs(
                        found.token[row, :length].cpu(), found.boundary[row, :length].cpu()
                    )
                )

    def signal(self, side: BatchSide, row_numbers: Sequence[int]) -> TeacherSignal:
        """As `Teacher.signal`."""
        token, boundary = (torch.zeros(side.ids.shape) for _ in range(2))
        for place_, number in enumerate(row_numbers):
            own = self._rows[number]
            assert own.boundary is not None
            token[place_, : len(own.token)] = own.token
            boundary[place_, : len(own.token)] = own.boundary
        device = side.ids.device
        return TeacherSignal(TokenLogProbs(token.to(device), boundary.to(device)))


def open_teachers(inputs: TrainingInputs, device: torch.device) -> tuple[Teacher, ...]:
    """The models that teach, in evaluation mode.

    Args:
        inputs: For the entries and their tokenizers.
        device: Where they run unless an entry names another one.

    Raises:
        SuiteError: One cannot be loaded; one sentence.
    """
    wants_hidden = any(loss.needs.teacher_hidden for loss in inputs.recipe.losses)
    found = []
    for number, (entry, tokenizer) in enumerate(zip(inputs.teachers, inputs.readers, strict=True)):
        model = load_frozen(entry, device)
        found.append(
            live_teacher(
                model,
                tokenizer,
                name=str(entry.source),
                packing=inputs.recipe.pack.packing,
                # The first one is compared with.
                wants_hidden=wants_hidden and number == 0,
            )
        )
    return tuple(found)


def load_frozen(entry: ModelConfig, device: torch.device) -> Any:
    """A model that is not trained, in the dtype its entry says.

    Args:
        entry: The model.
        device: Where it goes unless the entry says otherwise.
    """
    return _load(_placed(entry, device), None)


def open_stored_teacher(inputs: TrainingInputs) -> TeacherCache:
    """The stored teacher of a recipe, after a check that it is of these models and this text.

    Raises:
        CacheError: It is not, or it is damaged.
    """
    recipe, (entry,) = inputs.recipe, inputs.teachers
    assert recipe.teacher_cache is not None
    resolved = resolve(entry)
    return TeacherCache.open(
        recipe.teacher_cache,
        teacher_fingerprints(
            inputs.corpus,
            recipe.pack,
            inputs.readers[0],
            inputs.student,
            entry=entry,
            resolved=resolved,
            dtype=place(entry, resolved).dtype,
        ),
    )


def load_student(
    folder: Path, device: torch.device, *, attn_implementation: str | None = None
) -> Any:
    """A model folder in float32, to be trained.

    Args:
        folder: Of the start, or of a checkpoint's model.
        device: Where it goes.
        attn_implementation: As transformers names it; None for its own choice.
    """
    source, name = Source(path=folder), _name(device)
    attention = {"attn_implementation": attn_implementation}
    return _load(ModelConfig(name="student", source=source, device=name, **attention), "float32")


def prepare_student(recipe: AnyRecipe, model: Any, saved: Path | None) -> Any:
    """Set what is trained, and put back adapters.

    Args:
        recipe: For `train` and the adapters.
        model: Of the checkpoint under full training, else of the start.
        saved: The checkpoint to go on from.
    """
    if recipe.training.gradient_checkpointing:
        _save_activations(trunk_of(model))
    if recipe.train == "full":
        return model
    if saved is not None:
        return load_adapter(model, saved / ADAPTER, trainable=True)
    assert recipe.lora is not None
    torch.manual_seed(recipe.training.seed)
    return add_adapters(model, recipe.lora, trains_ends=recipe.kind == "transfer")


def shared_teacher(inputs: TrainingInputs, model: Any) -> Teacher:
    """The source of a transfer as a teacher that shares its student's trunk."""
    entry = inputs.teachers[0]
    name = str(entry.source)
    wants_hidden = any(loss.needs.teacher_hidden for loss in inputs.recipe.losses)
    source = _load(entry.model_copy(update={"device": "cpu"}), "float32")
    ends = original_ends(source, inputs.readers[0], name=name)
    del source
    return shared_trunk_teacher(
        model, ends, name=name, packing=inputs.recipe.pack.packing, wants_hidden=wants_hidden
    )


def write_student(
    recipe: AnyRecipe,
    model: Any,
    tokenizer: OpenedTokenizer,
    folder: Path,
    whole: Mapping[str, torch.Tensor] | None,
) -> None:
    """Fill `model/` or `adapter/` of a checkpoint.

    Args:
        recipe: For `train`.
        model: The student's.
        tokenizer: The student's.
        folder: Of the checkpoint.
        whole: The model's weights by name, where its own are cut over processes; else None.
    """
    if recipe.train == "lora":
        save_adapter(model, folder / ADAPTER, gathered=whole)
        return
    model.save_pretrained(folder / MODEL, **({} if whole is None else {"state_dict": whole}))
    tokenizer.hf.save_pretrained(folder / MODEL)


def mean_squares(teacher: Teacher, rows: Sequence[Row], rows_per_pass: int) -> torch.Tensor:
    """The mean square of each channel of the teacher's states over the first rows, float32 [D]."""
    moments: ChannelMoments | None = None
    for first in range(0, min(MOMENT_ROWS, len(rows)), rows_per_pass):
        numbers = range(first, min(first + rows_per_pass, MOMENT_ROWS, len(rows)))
        batch = collate([rows[number] for number in numbers])
        hidden = teacher.signal(batch.teacher, list(numbers)).hidden
        assert hidden is not None
        own = channel_moments(hidden, batch.teacher.chunk_last, batch.hidden_mask)
        moments = own if moments is None else moments + own
    assert moments is not None
    return moments.mean_square()


def _load(entry: ModelConfig, dtype: str | None) -> Any:
    from transformers.utils import logging

    # Its bar would be drawn into ours.
    logging.disable_progress_bar()
    resolved = resolve(entry)
    placement = place(entry, resolved)
    if dtype is not None:
        placement = Placement(placement.device, dtype)
    return load_model(entry, resolved, placement).model


def _save_activations(trunk: Any) -> None:
    """Compute activations again in the backward pass."""
    # The older name goes with transformers 6.
    newer = getattr(trunk, "activation_checkpointing_enable", None)
    if newer is not None:
        newer()
    else:
        trunk.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _placed(entry: ModelConfig, device: torch.device) -> ModelConfig:
    if entry.device != "auto" or entry.device_map is not None:
        return entry
    return entry.model_copy(update={"device": _name(device)})


def _name(device: torch.device) -> str:
    """As a model entry names it."""
    return str(device) if device.type == "cuda" else device.type
