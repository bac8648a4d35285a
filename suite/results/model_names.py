"""What a model is called, by the file that holds its results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What names a model, in lm-eval's order: an adapter is given together with its base.
_NAMING = ("peft", "delta", "pretrained", "model", "path", "engine")


def arguments_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the model was loaded with, by name; lm-eval writes a mapping or one text."""
    arguments = config.get("model_args")
    if isinstance(arguments, str):
        pairs = (part.partition("=") for part in arguments.split(",") if part.strip())
        return {name.strip(): value for name, _, value in pairs}
    return arguments if isinstance(arguments, Mapping) else {}


def model_name(path: Path, data: Mapping[str, Any]) -> str:
    """As lm-eval names the model, else by what it was loaded from, else the folder's name."""
    known = arguments_of(data.get("config") or {})
    names = [data.get("model_name"), *(known.get(name) for name in _NAMING)]
    return next((str(name) for name in names if name), path.resolve().parent.name)
