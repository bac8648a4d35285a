"""From planned models to backends of lm-eval in memory, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from suite.ensemble.config import Development, EnsembleEntry, common_chat
from suite.errors import ModelError
from suite.models.entry import ChatConfig
from suite.pipelines.development import fit_pairs
from suite.pipelines.plan import ModelPlan
from suite.pipelines.ranks import Ranks
from suite.pipelines.recipe import Recipe
from suite.pipelines.work import Job, Unit

if TYPE_CHECKING:
    from suite.harness.run import EvaluationSettings


class OpenUnit(Protocol):
    """The models of a unit, in memory."""

    def backend(self, job: Job, store: Any) -> Any:
        """lm-eval's interface to them for one job."""

    def close(self) -> None:
        """Let go of them."""


def open_unit(unit: Unit, members: Sequence[ModelPlan], recipe: Recipe, ranks: Ranks) -> OpenUnit:
    """Load a unit's models.

    Raises:
        SuiteError: One cannot be loaded; names it.
    """
    if is_ensemble(unit):
        return _Several(members, recipe, ranks)
    return _Single(members[0], recipe, ranks)


def is_ensemble(unit: Unit) -> bool:
    """Whether a unit's jobs combine its models."""
    return isinstance(unit.jobs[0].entry, EnsembleEntry)


class _Single:
    """One model behind one backend."""

    def __init__(self, model: ModelPlan, recipe: Recipe, ranks: Ranks) -> None:
        self._backend = open_backend(model, recipe)
        ranks.hold_together(self._backend)

    def backend(self, job: Job, store: Any) -> Any:
        return self._backend

    def close(self) -> None:
        for name in ("_model", "model", "opened"):
            self._backend.__dict__.pop(name, None)
        free_memory()


class _Several:
    """Models that ensembles are made of, each with its own rule and weights."""

    def __init__(self, members: Sequence[ModelPlan], recipe: Recipe, ranks: Ranks) -> None:
        self._members = members
        self._opened = [_open_member(member, recipe) for member in members]
        self._recipe = recipe
        self._ranks = ranks

    def backend(self, job: Job, store: Any) -> Any:
        from suite.harness.contract import EngineOptions
        from suite.harness.ensemble_backend import SuiteEnsembleLM
        from suite.harness.ensemble_opening import configured

        assert isinstance(job.entry, EnsembleEntry)
        chats = [member.entry.chat for member in self._members]
        options = EngineOptions(
            batch_size=job.entry.batch_size,
            token_budget=job.entry.token_budget,
            protocol=self._recipe.protocol,
            enable_thinking=any(chat.enable_thinking for chat in chats) or None,
            strip_reasoning=chats[0].strip_reasoning,
        )
        label = job.task.entry.label
        opened = configured(job.entry.name, self._opened, job.entry.ensemble, label)
        backend = SuiteEnsembleLM(opened, options, store)
        self._ranks.hold_together(backend)
        return backend

    def close(self) -> None:
        self._opened.clear()
        free_memory()


def new_store(unit: Unit) -> Any:
    """What ensembles of the same members keep of their passes over one task; None for one model."""
    if not is_ensemble(unit):
        return None
    from suite.harness.ensemble_backend import KeptStore

    return KeptStore(with_contexts=any(_learns_from_context(job) for job in unit.jobs))


def _learns_from_context(job: Job) -> bool:
    assert isinstance(job.entry, EnsembleEntry)
    config = job.entry.ensemble
    return config.combine == "sequence_mixture" and config.posterior_from == "context"


def open_backend(model: ModelPlan, recipe: Recipe) -> Any:
    """Load a planned model behind lm-eval's interface.

    Raises:
        SuiteError: It cannot be loaded.
    """
    from suite.harness.contract import EngineOptions
    from suite.harness.engine_backend import SuiteLM
    from suite.harness.upstream import open_upstream_backend

    entry = model.entry
    if entry.source.lm_eval is not None:
        upstream = entry.source.lm_eval
        return open_upstream_backend(upstream.model, upstream.args, entry.batch_size)
    if recipe.backend == "hf":
        return _open_hf(model, recipe)
    options = EngineOptions(
        batch_size=entry.batch_size,
        token_budget=entry.token_budget,
        protocol=recipe.protocol,
        enable_thinking=entry.chat.enable_thinking,
        strip_reasoning=entry.chat.strip_reasoning,
    )
    return SuiteLM(_open_member(model, recipe), options)


def _open_member(model: ModelPlan, recipe: Recipe) -> Any:
    """A model in the engine.

    Raises:
        SuiteError: It cannot be loaded or run.
    """
    from suite.harness.opening import open_model

    entry = model.entry
    return open_model(
        _load(model),
        name=entry.name,
        max_length=entry.max_length,
        protocol=recipe.protocol,
        enable_thinking=entry.chat.enable_thinking,
        facts=_facts(model, recipe),
    )


def _open_hf(model: ModelPlan, recipe: Recipe) -> Any:
    from suite.harness.backends import HfBackend

    entry, loaded = model.entry, _load(model)
    backend = HfBackend(
        loaded.model,
        loaded.tokenizer,
        batch_size=entry.batch_size,
        max_length=entry.max_length,
        protocol=recipe.protocol,
        enable_thinking=entry.chat.enable_thinking,
        strip_reasoning=entry.chat.strip_reasoning,
    )
    backend.facts = _facts(model, recipe)
    return backend


def _load(model: ModelPlan) -> Any:
    from suite.harness.opening import own_placement
    from suite.models.loading import load_model

    entry = model.entry
    assert model.resolved is not None
    assert model.placement is not None
    loaded = load_model(entry, model.resolved, own_placement(model.placement))
    if entry.chat.template and not loaded.tokenizer.chat_template:
        raise ModelError(
            f"model '{entry.name}': chat.template is on, but its tokenizer has no chat template"
        )
    return loaded


def _facts(model: ModelPlan, recipe: Recipe) -> dict[str, Any]:
    assert model.placement is not None
    return {
        "name": model.entry.name,
        "pretrained": str(model.entry.source),
        "weights": model.weights,
        "weights_fingerprint": model.identity["weights"],
        "tokenizer_fingerprint": model.identity["tokenizer"],
        "dtype": model.placement.dtype,
        "protocol": recipe.protocol,
    }


def set_batch_size(backend: Any, batch_size: int) -> None:
    """Score the next task with this batch size, on a backend of ours."""
    from suite.harness.reporting import ReportingBackend

    if isinstance(backend, ReportingBackend):
        backend.set_batch_size(batch_size)


def evaluation_settings(
    job: Job, recipe: Recipe, members: Sequence[ModelPlan], *, confirm_unsafe_code: bool
) -> EvaluationSettings:
    """What lm-eval is told beside model and task."""
    from suite.harness.run import EvaluationSettings

    return EvaluationSettings(
        limit=job.task.entry.limit or recipe.limit,
        seeds=recipe.seeds,
        chat=_chat(members),
        protocol=recipe.protocol,
        confirm_unsafe_code=confirm_unsafe_code,
    )


def _chat(members: Sequence[ModelPlan]) -> ChatConfig:
    """What decides how lm-eval builds prompts; members of an ensemble agree on it."""
    return common_chat(tuple(member.entry for member in members))


def fit_weights(
    backend: Any, job: Job, development: Sequence[Any], settings: EvaluationSettings
) -> dict[str, Any]:
    """Fit an ensemble's weights to development items; returns them, as they are recorded.

    Raises:
        SuiteError: An item cannot be scored.
    """
    from suite.harness.run import chat_options

    assert isinstance(job.entry, EnsembleEntry)
    wanted = job.entry.ensemble.weights_for(job.task.entry.label)
    assert isinstance(wanted, Development)
    chat = chat_options(settings, list(development))
    pairs = fit_pairs(
        development, wanted.items, settings.seeds.fewshot, chat, backend.apply_chat_template
    )
    fit = backend.fit_weights(pairs)
    return {
        "ensemble_weights": list(fit.weights),
        "weights_fit": {
            "task": wanted.task or job.task.entry.label,
            "split": wanted.split,
            "num_items": len(pairs),
            "num_terms": fit.num_items,
            "log_likelihood": float(fit.log_likelihood),
            "num_steps": fit.num_steps,
            "converged": fit.converged,
        },
    }


def free_memory() -> None:
    """Give back what a dropped model, or a failed pair, held on its device."""
    from suite.models.loading import release_memory

    release_memory()
