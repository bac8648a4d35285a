"""What a run will do: pairs of model and task, and what makes two runs of a pair the same run."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.config import content_hash
from suite.errors import ConfigError, ModelError
from suite.harness.identity import task_identity
from suite.harness.protocol import BACKEND_VERSION
from suite.harness.tasks import TaskCatalog, TaskPlan
from suite.harness.upstream import check_upstream_backend
from suite.models.entry import ModelConfig
from suite.models.fingerprint import code_fingerprint, tokenizer_fingerprint, weights_fingerprint
from suite.models.loading import Placement, place
from suite.models.resolve import ResolvedModel, check_entry, resolve
from suite.pipelines.recipe import Recipe

VERSIONED = (
    "lm_eval",
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "peft",
    "bitsandbytes",
    "vllm",
)


@dataclass(frozen=True)
class ModelPlan:
    """A model entry after its files were found.

    `resolved` and `placement` are None for a backend of lm-eval. `identity` holds fingerprints and
    all settings that can change a score.
    """

    entry: ModelConfig
    resolved: ResolvedModel | None
    placement: Placement | None
    weights: str
    identity: dict[str, Any]


def versions() -> dict[str, str]:
    """Installed versions of what computes scores; what is not installed is left out."""
    found = {}
    for name in VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def check_recipe(
    recipe: Recipe, catalog: TaskCatalog, *, confirm_unsafe_code: bool
) -> list[TaskPlan]:
    """Check models and tasks without loading weights or data; returns the tasks found.

    Raises:
        SuiteError: The first thing that is wrong.
    """
    for entry in recipe.models:
        try:
            check_entry(entry)
        except ModelError as error:  # found before anything ran: the recipe is what is wrong
            raise ConfigError(str(error)) from error
        if entry.source.lm_eval is not None:
            check_upstream_backend(entry.source.lm_eval.model)
    return [catalog.plan(entry, confirm_unsafe_code=confirm_unsafe_code) for entry in recipe.tasks]


def plan_model(entry: ModelConfig) -> ModelPlan:
    """Find a model's files (fetching or converting them if need be) and fingerprint them.

    Raises:
        ModelError: They cannot be had.
    """
    settings = {
        "quantization": entry.quantization,
        "attn_implementation": entry.attn_implementation,
        "device_map": entry.device_map,
        "max_length": entry.max_length,
        "chat": entry.chat.model_dump(),
    }
    if entry.source.lm_eval is not None:
        upstream = entry.source.lm_eval.model_dump()
        weights = entry.weights or f"as served by lm-eval's {upstream['model']}"
        identity = settings | {"lm_eval": upstream, "folders": _argument_folders(upstream["args"])}
        return ModelPlan(entry, None, None, weights, identity)
    resolved = resolve(entry)
    placement = place(entry, resolved)
    adapter = resolved.adapter_folder
    identity = settings | {
        "weights": weights_fingerprint(resolved.folder),
        "tokenizer": tokenizer_fingerprint(resolved.tokenizer_folder),
        "adapter": weights_fingerprint(adapter) if adapter else None,
        "code": code_fingerprint(resolved.folder) if entry.trust_remote_code else None,
        "dtype": placement.dtype,
        "device": placement.device,
    }
    return ModelPlan(entry, resolved, placement, _weights_text(resolved, placement), identity)


def _argument_folders(args: dict[str, Any]) -> dict[str, str]:
    """Fingerprints of the local folders among the arguments of a backend of lm-eval."""
    folders = {key: Path(value) for key, value in args.items() if isinstance(value, str)}
    return {
        key: weights_fingerprint(folder) + tokenizer_fingerprint(folder)
        for key, folder in folders.items()
        if folder.is_dir()
    }


def _weights_text(resolved: ResolvedModel, placement: Placement) -> str:
    """`Q4_1, dequantised to bfloat16`, and the dtype it runs in where that is another."""
    if placement.dtype in resolved.weights:
        return resolved.weights
    return f"{resolved.weights}, run in {placement.dtype}"


def pair_identity(
    model: ModelPlan, task: TaskPlan, built: Sequence[Any], recipe: Recipe
) -> dict[str, Any]:
    """Everything that decides whether a finished run of this pair can stand for a new one.

    Names are no part of it: a renamed model keeps its scores. `built` is what lm-eval made of the
    task, items included.
    """
    return {
        "model": model.identity | {"batch_size": task.entry.batch_size or model.entry.batch_size},
        "tasks": task_identity(built),
        "backend": BACKEND_VERSION,
        "protocol": recipe.protocol,
        "limit": task.entry.limit or recipe.limit,
        "seeds": recipe.seeds.model_dump(),
        "versions": versions(),
    }


def pair_key(identity: dict[str, Any]) -> str:
    """A pair's identity as one hash."""
    return content_hash(identity)
