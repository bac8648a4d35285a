"""Terms that models hand on to what is made from them, or taught by them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from suite.models.manifest import has_manifest, read_facts


@dataclass(frozen=True)
class Terms:
    """The terms of a family of models.

    Attributes:
        family: How its model types begin.
        name: Of the terms.
        hub_name: As model cards of the hub call them.
        address: Where they are.
        notice: What must go with every copy, in a file NOTICE.
    """

    family: str
    name: str
    hub_name: str
    address: str
    notice: str


# The type of other models does not tell their terms: many models of type llama are not Meta's.
GEMMA = Terms(
    family="gemma",
    name="Gemma Terms of Use",
    hub_name="gemma",
    address="https://ai.google.dev/gemma/terms",
    notice=(
        "Gemma is provided under and subject to the Gemma Terms of Use found at"
        " ai.google.dev/gemma/terms"
    ),
)


def terms_of(types: Iterable[str]) -> Terms | None:
    """The terms that come with any of these model types."""
    return GEMMA if any(name.startswith(GEMMA.family) for name in types) else None


def model_types(folder: Path) -> tuple[str, ...]:
    """The type of a model, and those of all models it was made from or taught by, sorted.

    Args:
        folder: A model folder; its manifest, or that of the checkpoint it is in, says where it
            comes from.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # A model with n-gram embeddings has the configuration of the model inside under this key.
    found = {one["model_type"] for one in (config, config.get("model", {})) if "model_type" in one}
    for place in (folder, folder.parent):
        if has_manifest(place):
            found.update(read_facts(place).get("model_types", ()))
    return tuple(sorted(found))
