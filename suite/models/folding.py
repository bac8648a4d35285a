"""Adapters of a training run folded into the weights they were trained on: one plain model folder.

W + (alpha / rank) B A for every adapted matrix W, in float32 (LoRA, arXiv 2106.09685), and the
embedding and head that were trained beside them.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

from suite.config import content_hash
from suite.errors import ModelError
from suite.models.cache import cached_folder
from suite.models.fingerprint import tokenizer_fingerprint, weights_fingerprint
from suite.models.pretrained import load_complete

# Raised when a change of the code changes what is written, so that old folders are made again.
FOLDING_VERSION = 1

# Embedding and head that were trained in full, beside peft's own files.
ENDS_FILE = "ends.safetensors"

# Everything of a model folder but weights, what belongs to them, and what could run.
_SETTINGS = ("*.json", "*.model", "*.txt", "*.jinja")
_OF_THE_WEIGHTS = (".safetensors.index.json", "manifest.json")
_CHAT_TEMPLATES = "additional_chat_templates"


def folded_folder(base: Path, adapter: Path, facts: dict[str, Any]) -> Path:
    """The cached folder of a model with its adapters folded in, made at the first call.

    Args:
        base: The model's folder.
        adapter: A folder of peft, with embedding and head if these were trained, too.
        facts: For the folder's manifest.

    Raises:
        ModelError: The two do not fit, or the cache folder cannot be written.
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
        copy_settings(base, folder)
        load_adapted(base, adapter).merge_and_unload().save_pretrained(folder)
        return facts

    return cached_folder("folded", key, build)


def load_adapted(base: Path, adapter: Path) -> Any:
    """A model on the processor in float32 with its adapters beside the weights, as it was trained.

    Args:
        base: The model's folder.
        adapter: A folder of peft, with embedding and head if these were trained, too.

    Returns:
        It wrapped by peft, whose `merge_and_unload` folds.

    Raises:
        ModelError: The two do not fit.
    """
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file

    try:
        plain = load_complete(base, dtype=torch.float32)
        with warnings.catch_warnings():
            # peft asks transformers for an attribute that transformers renamed.
            warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated")
            model = PeftModel.from_pretrained(plain, str(adapter))
        if (adapter / ENDS_FILE).is_file():
            places = _ends(plain)
            with torch.no_grad():
                for name, saved in load_file(adapter / ENDS_FILE).items():
                    places[name].copy_(saved)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ModelError(f"adapter {adapter} does not fit {base} ({reason})") from error
    return model.eval()


def copy_settings(source: Path, folder: Path) -> None:
    """Copy tokenizer, chat templates and settings of a model folder as they are."""
    for path in (path for pattern in _SETTINGS for path in source.glob(pattern)):
        if not path.name.endswith(_OF_THE_WEIGHTS):
            shutil.copyfile(path, folder / path.name)
    if (source / _CHAT_TEMPLATES).is_dir():
        shutil.copytree(source / _CHAT_TEMPLATES, folder / _CHAT_TEMPLATES)


def _ends(model: Any) -> dict[str, Any]:
    """Parameters of embedding and head by their names in the file."""
    head = model.get_output_embeddings()
    return {
        "embedding.weight": model.get_input_embeddings().weight,
        "head.weight": head.weight,
        "head.bias": getattr(head, "bias", None),
    }
