"""Adapters of a training run folded into the weights they were trained on: one plain model folder.

W + (alpha / rank) B A for every adapted matrix W, in float32 (LoRA, arXiv 2106.09685), and the
embedding and head that were trained beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from suite.config import content_hash
from suite.models.cache import cached_folder
from suite.models.fingerprint import tokenizer_fingerprint, weights_fingerprint

# Raised when a change of the code changes what is written, so that old folders are made again.
FOLDING_VERSION = 1


def folded_folder(base: Path, adapter: Path, facts: dict[str, Any]) -> Path:
    """The cached folder of a model with its adapters folded in, made at the first call.

    Args:
        base: The model's folder.
        adapter: A folder of peft, with embedding and head if these were trained, too.
        facts: For the folder's manifest.

    Raises:
        ModelError: The two do not fit, or fold to another model; or the cache folder cannot be
            written.
    """
    key = content_hash(
        {
            "version": FOLDING_VERSION,
            "base": weights_fingerprint(base),
            "tokenizer": tokenizer_fingerprint(base),
            "adapter": weights_fingerprint(adapter),
        }
    )[:24]

    def build(folder: Path) -> dict[str, Any]:
        from suite.models.adapters import load_adapted
        from suite.models.export import copy_settings, fold_checked

        copy_settings(base, folder)
        fold_checked(load_adapted(base, adapter)).save_pretrained(folder)
        return facts

    return cached_folder("folded", key, build)
