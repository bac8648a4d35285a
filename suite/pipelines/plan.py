"""What a run will do: pairs of model and task, and what makes two runs of a pair the same run."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from suite.config import content_hash
from suite.ensemble.config import DEVELOPED, Development, EnsembleEntry, FittedWeights
from suite.errors import ConfigError, ModelError
from suite.harness.protocol import BACKEND_VERSION
from suite.harness.tasks import TaskCatalog, TaskPlan
from suite.harness.upstream import check_upstream_backend
from suite.models.entry import ModelConfig
from suite.models.fingerprint import code_fingerprint, tokenizer_fingerprint, weights_fingerprint
from suite.models.loading import Placement, place
from suite.models.resolve import ResolvedModel, check_entry, resolve
from suite.models.sources import Source
from suite.pipelines.development import SPLIT_KEYS, same_split
from suite.pipelines.recipe import Recipe
from suite.pipelines.work import Job

# Raised whenever a backend's scores may change.
# Raised whenever the same development items may give other weights.
FIT_VERSION = 1
BACKEND_VERSIONS = {"hf": BACKEND_VERSION, "suite": "suite/1"}

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
    for entry in recipe.all_models:
        try:
            check_entry(entry)
        except ModelError as error:  # found before anything ran: the recipe is what is wrong
            raise ConfigError(str(error)) from error
        if entry.source.lm_eval is not None:
            check_upstream_backend(entry.source.lm_eval.model)
    tasks = [catalog.plan(entry, confirm_unsafe_code=confirm_unsafe_code) for entry in recipe.tasks]
    for ensemble in recipe.ensembles:
        _check_development_split(ensemble, tasks)
    return tasks


def _check_development_split(ensemble: EnsembleEntry, tasks: Sequence[TaskPlan]) -> None:
    """Refuse development items that are known to be the scored ones before any data is read."""
    weights = ensemble.ensemble.weights
    is_fitted = isinstance(weights, FittedWeights)
    if not is_fitted and ensemble.ensemble.combine not in DEVELOPED:
        return
    development = (
        weights.fit if isinstance(weights, FittedWeights) else ensemble.ensemble.development
    )
    for task in tasks:
        keys = task.definition.keys if task.definition and task.kind == "task" else {}
        scored = keys.get("test_split") or keys.get("validation_split")
        named = keys.get(SPLIT_KEYS[development.split])
        if scored is not None and named == scored and development.task in (None, task.entry.label):
            sentence = same_split(task.entry.label, development.split)
            raise ConfigError(f"model '{ensemble.name}': {sentence}")


def plan_model(entry: ModelConfig, console: Console | None = None) -> ModelPlan:
    """Find a model's files (fetching or making them if need be) and fingerprint them.

    `console` is told of work that takes long, by default standard error.

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
    # The cache has checked a transplant's folder, which is the time-consuming part of each start.
    is_verified = entry.source.transplant is not None
    resolved = resolve(_on_disk(entry, console), is_verified=is_verified)
    placement = place(entry, resolved)
    adapter = resolved.adapter_folder
    identity = settings | {
        "weights": weights_fingerprint(resolved.folder, is_verified=is_verified),
        "tokenizer": tokenizer_fingerprint(resolved.tokenizer_folder),
        "adapter": weights_fingerprint(adapter) if adapter else None,
        "code": code_fingerprint(resolved.folder) if entry.trust_remote_code else None,
        "dtype": placement.dtype,
        "device": placement.device,
    }
    return ModelPlan(entry, resolved, placement, _weights_text(resolved, placement), identity)


def _on_disk(entry: ModelConfig, console: Console | None) -> ModelConfig:
    """The entry, with a transplant replaced by the folder that it ends as."""
    if entry.source.transplant is None:
        return entry
    from suite.pipelines.transplant import transplanted_folder

    folder = transplanted_folder(entry.source.transplant, console or Console(stderr=True))
    return entry.model_copy(update={"source": Source(path=folder)})


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


def ensemble_identity(
    entry: EnsembleEntry, members: Sequence[ModelPlan], label: str, fitted_to: Any
) -> dict[str, Any]:
    """Everything of an ensemble that can change its scores on one task.

    `fitted_to` is the identity of the items that its weights are fitted to, if they are.
    """
    config = entry.ensemble
    weights = config.weights_for(label)
    return {
        "members": [member.identity for member in members],
        "combine": config.combine,
        "weights": weights.items if isinstance(weights, Development) else weights,
        "fitted_to": None if fitted_to is None else {"items": fitted_to, "fit": FIT_VERSION},
        "posterior_from": config.posterior_from,
        "renormalise": config.renormalise,
    }


def pair_identity(
    scored: dict[str, Any], job: Job, tasks: dict[str, Any], recipe: Recipe, *, generates: bool
) -> dict[str, Any]:
    """Everything that decides whether a finished run of this pair can stand for a new one.

    Names are no part of it: a renamed model keeps its scores. Nor is what only cuts the same
    positions into other forward passes, whose sums are rounded differently but not biased:
    `token_budget`, and `batch_size` of likelihoods on the engine. Batches of other backends are
    padded, and texts that are generated leave the common path at the first token that flips.

    Args:
        scored: What is scored: the identity of a model or an ensemble.
        job: Row and task.
        tasks: What lm-eval made of the task, items included.
        recipe: What else a run can change.
        generates: Whether texts are generated.
    """
    limit = job.task.entry.limit or recipe.limit
    is_served = isinstance(job.entry, ModelConfig) and job.entry.source.lm_eval is not None
    depends_on_batches = generates or is_served or recipe.backend == "hf"
    return {
        "model": scored | ({"batch_size": batch_size(job)} if depends_on_batches else {}),
        "tasks": tasks,
        "backend": BACKEND_VERSIONS[recipe.backend],
        "protocol": recipe.protocol,
        "limit": job.development.items if job.development else limit,
        "seeds": recipe.seeds.model_dump(),
        "versions": versions(),
    }


def batch_size(job: Job) -> int:
    """The task's batch size, else the row's."""
    return job.task.entry.batch_size or job.entry.batch_size


def pair_key(identity: dict[str, Any]) -> str:
    """A pair's identity as one hash."""
    return content_hash(identity)
