"""From a checkpoint's manifest and state to a model card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import suite
from suite.distill.state import TrainingState
from suite.models.licence import Terms
from suite.report.model_card import ModelCard

# A tokenizer that is of no model.
_BYTES = "bytes"
_LABELS = {
    "num_groups": "groups",
    "mean_distance": "mean |t - s| (nats a group)",
    "rank_correlation": "rank correlation (Spearman's, of s with t)",
    "loss": "loss (mean a group)",
}
_PLAIN = (
    "from transformers import AutoModelForCausalLM, AutoTokenizer",
    "",
    "tokenizer = AutoTokenizer.from_pretrained({place!r})",
    "model = AutoModelForCausalLM.from_pretrained({place!r})",
)
_OURS = (
    "from pathlib import Path",
    "",
    "from suite.models.ngram_folder import load_ngram_model",
    "",
    "model = load_ngram_model(Path({place!r}))",
)


@dataclass(frozen=True)
class CardInputs:
    """What a card is made of.

    Attributes:
        facts: Of the checkpoint's manifest.
        state: Of the run.
        weights: What is in the folder.
        terms: That come with the model; None if none are known.
        loading_note: Why plain transformers does not open it; empty where it does.
        place: How users will call it.
    """

    facts: Mapping[str, Any]
    state: TrainingState
    weights: str
    terms: Terms | None
    loading_note: str
    place: str


def model_card(inputs: CardInputs) -> ModelCard:
    """The card of an exported model; paths of this machine are shown by their last part."""
    facts, terms = inputs.facts, inputs.terms
    command = facts.get("command", "train")
    sources = {part: str(source) for part, source in facts.get("sources", {}).items()}
    hub = tuple(dict.fromkeys(_hub_names(sources)))
    return ModelCard(
        title=str(facts.get("title", "A trained model")),
        summary=f"Trained with alm-suite {suite.__version__} by suite {command}.",
        sources=tuple((part, shown_source(source)) for part, source in sources.items()),
        training=tuple(_training(facts.get("recipe", {}), inputs.state, inputs.weights)),
        figures=tuple(_held_out(facts)),
        usage=tuple(
            line.format(place=inputs.place) for line in (_OURS if inputs.loading_note else _PLAIN)
        ),
        usage_note=inputs.loading_note,
        licence=_licence(terms, sources),
        front_matter={
            "library_name": "alm-suite" if inputs.loading_note else "transformers",
            "pipeline_tag": "text-generation",
            "license": None if terms is None else terms.hub_name,
            "base_model": hub,
            "tags": ("alm-suite", "cross-tokenizer", str(command)),
        },
    )


def shown_source(source: str) -> str:
    """A source for everyone: names of the hub in full, of a path its last part."""
    kind, _, place = source.partition(":")
    is_local = kind in ("path", "gguf") and place
    return f"{place.rstrip('/').rpartition('/')[2]} (local)" if is_local else source


def _hub_names(sources: Mapping[str, str]) -> Iterator[str]:
    for source in sources.values():
        kind, _, name = source.partition(":")
        if kind == "hub":
            yield name


def _training(
    recipe: Mapping[str, Any], state: TrainingState, weights: str
) -> Iterator[tuple[str, str]]:
    training = recipe.get("training", {})
    losses = ", ".join(_loss(loss) for loss in recipe.get("losses", ()))
    yield from (("losses", losses),) if losses else ()
    for label, value in (
        ("balance", training.get("balance")),
        ("trained", _trained(recipe)),
        ("rows a step", training.get("rows_per_step")),
        ("learning rate", training.get("optimiser", {}).get("learning_rate")),
        ("seed", training.get("seed")),
    ):
        if value is not None:
            yield label, str(value)
    yield "steps", f"{state.step:,}"
    yield "bytes of text", f"{state.num_bytes:,}"
    yield "teacher tokens", f"{state.num_teacher_tokens:,}"
    yield "student tokens", f"{state.num_student_tokens:,}"
    yield "weights", weights


def _loss(loss: Mapping[str, Any]) -> str:
    """`alm (temperature 5.0)`: the name, and what else is set."""
    return _with_settings(str(loss.get("name")), loss)


def _trained(recipe: Mapping[str, Any]) -> str | None:
    train, lora = recipe.get("train"), recipe.get("lora")
    return train if lora is None else _with_settings(str(train), lora)


def _with_settings(name: str, settings: Mapping[str, Any]) -> str:
    shown = ", ".join(
        f"{key.replace('_', ' ')} {value}"
        for key, value in settings.items()
        if key != "name" and value is not None
    )
    return f"{name} ({shown})" if shown else name


def _held_out(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was measured, and on which text."""
    figures = tuple(_figures(facts.get("figures", {})))
    text = facts.get("recipe", {}).get("evaluation", {}).get("data")
    place = next((k for k in ("path", "hub", "packaged") if text and text.get(k)), None)
    if figures and text and place is not None:
        part = {key: text.get(key) or None for key in ("subset", "split", "skip", "limit")}
        if place != "hub":
            part.pop("split")
        yield "held-out text", _with_settings(shown_source(f"{place}:{text[place]}"), part)
    yield from figures


def _figures(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for label, value in figures.items():
        if isinstance(value, Mapping):
            yield from ((f"{label} {inner}", text) for inner, text in _figures(value))
        elif value is not None:
            text = f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
            yield _LABELS.get(label, label.replace("_", " ")), text


def _licence(terms: Terms | None, sources: Mapping[str, str]) -> tuple[str, ...]:
    models = (source for source in sources.values() if source != _BYTES)
    named = ", ".join(shown_source(source) for source in models) or "unknown"
    of_all = (
        f"The terms of every model that this one was made from or taught by apply to it: {named}."
    )
    if terms is None:
        return (of_all,)
    return (
        f"This model is a modified version of, or was taught by, a model under the {terms.name}"
        f" ({terms.address}), and carries these terms. {terms.notice}.",
        of_all,
    )
