"""From a planned model to a backend of lm-eval in memory, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from suite.errors import ModelError
from suite.harness.tasks import TaskPlan
from suite.models.entry import ModelConfig
from suite.pipelines.plan import ModelPlan
from suite.pipelines.recipe import Recipe

if TYPE_CHECKING:
    from suite.harness.run import EvaluationSettings


def open_backend(model: ModelPlan, recipe: Recipe) -> Any:
    """Load a planned model behind lm-eval's interface.

    Raises:
        SuiteError: It cannot be loaded.
    """
    from suite.harness.backends import HfBackend
    from suite.harness.upstream import open_upstream_backend
    from suite.models.loading import load_model

    entry = model.entry
    if entry.source.lm_eval is not None:
        upstream = entry.source.lm_eval
        return open_upstream_backend(upstream.model, upstream.args, entry.batch_size)
    assert model.resolved is not None
    assert model.placement is not None
    loaded = load_model(entry, model.resolved, model.placement)
    if entry.chat.template and not loaded.tokenizer.chat_template:
        raise ModelError(
            f"model '{entry.name}': chat.template is on, but its tokenizer has no chat template"
        )
    backend = HfBackend(
        loaded.model,
        loaded.tokenizer,
        batch_size=entry.batch_size,
        max_length=entry.max_length,
        protocol=recipe.protocol,
        enable_thinking=entry.chat.enable_thinking,
        strip_reasoning=entry.chat.strip_reasoning,
    )
    backend.facts = {
        "name": entry.name,
        "pretrained": str(entry.source),
        "weights": model.weights,
        "dtype": model.placement.dtype,
        "protocol": recipe.protocol,
    }
    return backend


def set_batch_size(backend: Any, batch_size: int) -> None:
    """Score the next task with this batch size, on a backend of ours."""
    from suite.harness.backends import HfBackend

    if isinstance(backend, HfBackend):
        backend.batch_size_per_gpu = batch_size


def evaluation_settings(
    entry: ModelConfig, task: TaskPlan, recipe: Recipe, *, confirm_unsafe_code: bool
) -> EvaluationSettings:
    """What lm-eval is told beside model and task."""
    from suite.harness.run import EvaluationSettings

    return EvaluationSettings(
        limit=task.entry.limit or recipe.limit,
        seeds=recipe.seeds,
        chat=entry.chat,
        protocol=recipe.protocol,
        confirm_unsafe_code=confirm_unsafe_code,
    )


def drop_backend(backend: Any) -> None:
    """Free a model's memory before the next one is loaded."""
    for name in ("_model", "model"):
        backend.__dict__.pop(name, None)
    free_memory()


def free_memory() -> None:
    """Give back what a dropped model, or a failed pair, held on its device."""
    from suite.models.loading import release_memory

    release_memory()
