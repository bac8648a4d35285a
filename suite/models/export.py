"""A trained model as a folder that plain transformers opens, checked after it was written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from suite.errors import ModelError
from suite.models.gguf import PROBE_TEXT
from suite.models.pretrained import load_tokenizer
from suite.models.trunk import probe_ids, relative_difference

Dtype = Literal["float32", "bfloat16"]

# Everything of a model folder but weights, what belongs to them, and what could run.
_SETTINGS = ("*.json", "*.model", "*.txt", "*.jinja")
_OF_THE_WEIGHTS = (".safetensors.index.json", "manifest.json")
_CHAT_TEMPLATES = "additional_chat_templates"

_PROBE_TOKENS = 16
# Of the same numbers, summed up in another order at most.
_SAME = 1e-4


def probe_logits(model: Any) -> Tensor:
    """Logits of a few tokens from all over the vocabulary, float32 [T, V]."""
    ids = probe_ids(model, _PROBE_TOKENS)
    positions = torch.arange(_PROBE_TOKENS, device=ids.device)[None]
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    return logits[0].float()


def fold_checked(model: Any) -> Any:
    """Fold a model's adapters into its weights, in place.

    Args:
        model: Wrapped by peft, in float32.

    Returns:
        The plain model.

    Raises:
        ModelError: It is not the same model afterwards.
    """
    before = probe_logits(model)
    folded = model.merge_and_unload()
    _check_same(probe_logits(folded), before, "with its adapters folded in")
    return folded


def copy_settings(source: Path, folder: Path) -> None:
    """Copy tokenizer, chat templates and settings of a model folder as they are."""
    for path in (path for pattern in _SETTINGS for path in source.glob(pattern)):
        if not path.name.endswith(_OF_THE_WEIGHTS):
            shutil.copyfile(path, folder / path.name)
    if (source / _CHAT_TEMPLATES).is_dir():
        shutil.copytree(source / _CHAT_TEMPLATES, folder / _CHAT_TEMPLATES)


def write_export(folder: Path, model: Any, settings: Path, dtype: Dtype, *, is_plain: bool) -> None:
    """Write a model, open it again as a user would, and compare.

    Args:
        folder: Empty.
        model: On the processor; its weights are changed to `dtype`.
        settings: The folder with its tokenizer, chat template and generation settings.
        dtype: Of the weights in the folder.
        is_plain: Whether plain transformers opens it; otherwise only the suite does.

    Raises:
        ModelError: What is opened is another model or tokenizer.
    """
    copy_settings(settings, folder)
    _cast(model, getattr(torch, dtype))
    model.save_pretrained(folder)
    opened, wanted = (load_tokenizer(place) for place in (folder, settings))
    same_ids = opened(PROBE_TEXT).input_ids == wanted(PROBE_TEXT).input_ids
    if not same_ids or opened.chat_template != wanted.chat_template:
        raise ModelError(
            f"transformers opens the written tokenizer as another {type(opened).__name__} than that"
            f" of {settings}; save it again with save_pretrained"
        )
    before = probe_logits(model)
    del model
    _check_same(probe_logits(_open(folder, is_plain=is_plain)), before, "opened again")


def _cast(model: Any, dtype: torch.dtype) -> None:
    """Change what is saved; tables that a model makes itself, of angles say, stay as they are."""
    saved = model.state_dict().keys()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name in saved and tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)


def _open(folder: Path, *, is_plain: bool) -> Any:
    if not is_plain:
        from suite.models.ngram_folder import load_ngram_model

        return load_ngram_model(folder).eval()
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto", use_safetensors=True).eval()


def _check_same(found: Tensor, expected: Tensor, when: str) -> None:
    change = relative_difference(found, expected)
    # Written so that logits which are no numbers are refused, too.
    if not change <= _SAME:
        raise ModelError(
            f"the model is another one {when} (its logits differ by {change:.1%}); give another"
            " checkpoint"
        )
