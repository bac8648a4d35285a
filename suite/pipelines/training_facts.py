"""What is told of a training run: in a checkpoint's manifest, and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from suite.align.documents import DocumentReader
from suite.distill.state import TrainingState
from suite.models.licence import model_types as types_in
from suite.models.resolve import resolve
from suite.pipelines.recipe_changes import resolved
from suite.pipelines.training_inputs import AnyRecipe, TrainingInputs
from suite.pipelines.training_recipe import TransferRecipe
from suite.pipelines.training_start import START

Facts = tuple[tuple[str, str], ...]


def describe_run(inputs: TrainingInputs, name: str) -> dict[str, Any]:
    """What the manifests of all checkpoints of a run say.

    Args:
        inputs: For the recipe and the models.
        name: The recipe's short name.
    """
    recipe = inputs.recipe
    facts = {
        "command": recipe.kind,
        "title": recipe.title,
        "name": name,
        "recipe": resolved(recipe),
        "text": inputs.corpus.fingerprint(),
        "sources": sources(inputs),
        "model_types": model_types(inputs),
        "weights": f"float32, {recipe.kind} by {losses(recipe)}",
    }
    if recipe.train == "lora":
        facts["base"] = START
    return facts


def checkpoint_facts(
    described: Mapping[str, Any],
    state: TrainingState,
    figures: Mapping[str, Any],
    *,
    is_last: bool,
) -> dict[str, Any]:
    """What a checkpoint's manifest says: enough for a model card and for tables.

    Args:
        described: From `describe_run`.
        state: Where the run is.
        figures: Of the last held-out measurement; empty for none.
        is_last: The run ends with this step.
    """
    return {
        **described,
        "weights": f"{described['weights']}, step {state.step:,}",
        "figures": dict(figures),
        "step": state.step,
        "is_last": is_last,
        "num_student_tokens": state.num_student_tokens,
        "num_bytes": state.num_bytes,
    }


def sources(inputs: TrainingInputs) -> dict[str, str]:
    """Where the models come from, by their part in it."""
    recipe = inputs.recipe
    if isinstance(recipe, TransferRecipe):
        return {
            "model": str(inputs.teachers[0].source),
            "tokenizer": str(recipe.target_tokenizer),
        }
    names = {"student": str(recipe.student.source)}
    numbers = range(1, len(inputs.teachers) + 1)
    for number, teacher in zip(numbers, inputs.teachers, strict=True):
        key = "teacher" if len(inputs.teachers) == 1 else f"teacher {number}"
        names[key] = str(teacher.source)
    return names


def model_types(inputs: TrainingInputs) -> list[str]:
    """The types of all models that went into the student, those of their own teachers too."""
    entries = list(inputs.teachers)
    if not isinstance(inputs.recipe, TransferRecipe):
        entries.append(inputs.recipe.student)
    return sorted({kind for entry in entries for kind in types_in(resolve(entry).folder)})


def losses(recipe: AnyRecipe) -> str:
    """The names of the losses."""
    return " + ".join(loss.name for loss in recipe.losses)


def run_facts(inputs: TrainingInputs, state: TrainingState, num_steps: int) -> Facts:
    """Labels and values of a run for the terminal."""
    recipe = inputs.recipe
    return (
        ("recipe", recipe.title),
        *sources(inputs).items(),
        ("losses", losses(recipe)),
        ("steps", f"{state.step:,} of {num_steps:,}"),
        ("text", f"{state.num_bytes:,} bytes"),
        ("tokens", f"{state.num_teacher_tokens:,} teacher, {state.num_student_tokens:,} student"),
    )


def reading_notes(reader: DocumentReader) -> tuple[str, ...]:
    """What was not read, and why."""
    return (*reader.counts.reasons, *reader.counts.warnings)
