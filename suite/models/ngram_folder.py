"""Folders of models with n-gram embeddings: complete, and refused by plain transformers.

Beside the byte-level model's own files there is `ngram_embeddings.safetensors`, with the old
embeddings and the old tokens that they belong to. `config.json` holds the byte-level model's
configuration under the key `model`, below a model type that transformers does not know: it would
load the weights without the old embeddings, and say nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from suite.models.ngram_embeddings import NgramCausalLM
from suite.models.ngram_lookup import NgramTable
from suite.models.pretrained import load_complete, read_config

MODEL_TYPE = "alm_suite_ngram_embeddings"
EMBEDDINGS_FILE = "ngram_embeddings.safetensors"

_CONFIG = "config.json"


# Of the names of the weights that transformers' own model has.
_INNER = "model."


def is_ngram_folder(folder: Path) -> bool:
    """Whether a folder holds a model with n-gram embeddings, written by this package."""
    return read_config(folder).get("model_type") == MODEL_TYPE


def save_ngram_model(
    model: NgramCausalLM, folder: Path, state_dict: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Write a model's folder; its tokenizer is left to the caller.

    Args:
        model: The model.
        folder: Created if it is missing.
        state_dict: Its weights, where its own are cut over processes; None for its own.
    """
    from safetensors.torch import save_file

    if state_dict is None:
        model.model.save_pretrained(folder)
    else:
        names = [name for name in state_dict if name.startswith(_INNER)]
        inner = {name.removeprefix(_INNER): state_dict[name] for name in names}
        model.model.save_pretrained(folder, state_dict=inner)
    config = read_config(folder)
    outer = {
        "architectures": [NgramCausalLM.__name__],
        "dtype": config.get("dtype"),
        "model": config,
        "model_type": MODEL_TYPE,
    }
    (folder / _CONFIG).write_text(json.dumps(outer, indent=2) + "\n", encoding="utf-8")
    table = model.ngram.table
    tensors = {
        "rows": model.ngram.rows.detach().contiguous(),
        "entries": torch.frombuffer(bytearray(b"".join(table.entries)), dtype=torch.uint8),
        "entry_lengths": torch.tensor([len(entry) for entry in table.entries]),
        "symbols": torch.from_numpy(table.symbols),
        "alone": torch.from_numpy(table.alone),
    }
    save_file(tensors, folder / EMBEDDINGS_FILE)


def load_ngram_model(folder: Path, **options: Any) -> NgramCausalLM:
    """Open a folder that `save_ngram_model` wrote.

    Args:
        folder: The folder.
        options: Of transformers' `from_pretrained`, such as `dtype`.

    Raises:
        ValueError: Weights are missing.
        OSError: Files are missing.
    """
    from safetensors.torch import load_file
    from transformers import AutoConfig

    inner = dict(read_config(folder)["model"])
    config = AutoConfig.for_model(inner.pop("model_type"), **inner)
    model = load_complete(folder, config=config, **options)
    tensors = load_file(folder / EMBEDDINGS_FILE)
    ends = np.cumsum(tensors["entry_lengths"].numpy()).tolist()
    letters = tensors["entries"].numpy().tobytes()
    entries = [letters[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    table = NgramTable(entries, tensors["symbols"].numpy(), tensors["alone"].numpy())
    return NgramCausalLM(model, table, tensors["rows"])
