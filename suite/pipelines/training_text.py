"""The text a run trains on: a corpus, or what its teacher writes first."""

from __future__ import annotations

from typing import Any

import torch
from rich.console import Console

from suite.config import content_hash
from suite.distill.samples import teacher_samples
from suite.models.entry import ModelConfig
from suite.models.fingerprint import tokenizer_fingerprint, weights_fingerprint
from suite.models.loading import place, release_memory
from suite.models.resolve import resolve
from suite.pipelines.training_inputs import AnyRecipe, open_entry_tokenizer
from suite.pipelines.training_models import load_frozen
from suite.progress import DocumentProgress
from suite.text.corpus import CorpusConfig


def training_text(
    recipe: AnyRecipe,
    teachers: tuple[ModelConfig, ...],
    device: torch.device,
    accelerator: Any,
    console: Console,
) -> tuple[CorpusConfig, tuple[str, ...]]:
    """Where the training text is, after the teacher wrote it if the recipe wants that.

    Args:
        recipe: For the data, or the settings of samples.
        teachers: The first one writes.
        device: Where it runs.
        accelerator: The processes; the first one writes, the others read what it wrote.
        console: For progress.

    Returns:
        The text, and what a user should know of samples that were left out.

    Raises:
        SuiteError: The samples cannot be made; one sentence.
    """
    if recipe.data is not None:
        return recipe.data, ()
    config = recipe.teacher_samples
    assert config is not None
    entry = teachers[0]
    resolved = resolve(entry)
    dtype = place(entry, resolved).dtype
    adapter = resolved.adapter_folder
    fingerprint = content_hash(
        [
            weights_fingerprint(resolved.folder),
            weights_fingerprint(adapter) if adapter else None,
            tokenizer_fingerprint(resolved.tokenizer_folder),
            entry.quantization,
            dtype,
        ]
    )
    with accelerator.main_process_first(), DocumentProgress(console, "samples", config.num) as bar:
        made = teacher_samples(
            config,
            lambda: load_frozen(entry, device),
            open_entry_tokenizer(entry, "the teacher"),
            fingerprint=fingerprint,
            on_progress=bar.advance,
        )
    release_memory()
    counts = made.counts
    left_out = {
        "without a usable prompt": counts.num_without_prompt,
        "empty": counts.num_empty,
        "not UTF-8": counts.num_broken,
        "below min_log_prob": counts.num_improbable,
        "refused by the verifier": counts.num_unverified,
    }
    listed = ", ".join(f"{number:,} {why}" for why, number in left_out.items() if number)
    note = f"of {counts.num_drawn:,} samples {counts.num_kept:,} are kept"
    return made.corpus, (f"{note} ({listed})" if listed else note,)
