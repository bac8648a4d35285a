"""The rows of a recipe among each other: whom an ensemble means by its members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from suite.ensemble.config import Development, EnsembleEntry, FittedWeights, common_chat
from suite.errors import near_names
from suite.models.entry import ModelConfig, TaskFilter


def member_entries(
    entry: EnsembleEntry, models: Sequence[ModelConfig | EnsembleEntry]
) -> tuple[ModelConfig, ...]:
    """The members of a checked ensemble as whole entries, in order."""
    named = {model.name: model for model in models if isinstance(model, ModelConfig)}
    return tuple(named[m] if isinstance(m, str) else m for m in entry.ensemble.members)


def whole_members(models: Sequence[ModelConfig | EnsembleEntry]) -> tuple[ModelConfig, ...]:
    """The models that ensembles bring as whole entries, equal ones once."""
    found: list[ModelConfig] = []
    for entry in models:
        members = entry.ensemble.members if isinstance(entry, EnsembleEntry) else ()
        found += [m for m in members if not isinstance(m, str) and m not in found]
    return tuple(found)


_COMBINED = {
    "majority_vote": "majority vote of",
    "best_member": "best on development items of",
    "best_member_per_task": "oracle, best on each task of",
    "any_member_correct": "ceiling, any correct of",
}


def weights_text(entry: EnsembleEntry) -> str:
    """What a table says in the place of an ensemble's weights."""
    config = entry.ensemble
    names = " + ".join(config.member_names)
    if config.is_from_samples:
        return f"from samples: {_COMBINED[config.combine]} {names}"
    given = config.weights
    if isinstance(given, FittedWeights):
        how = f"weights fitted to {given.fit.items} {given.fit.split} items"
    elif isinstance(given, dict):
        how = "weights by task"
    elif isinstance(given, tuple):
        how = "weights " + " : ".join(f"{weight:g}" for weight in given)
    else:
        how = "uniform weights"
    return f"{config.combine} of {names}, {how}"


def with_members(
    entry: EnsembleEntry, change: Callable[[ModelConfig], ModelConfig]
) -> EnsembleEntry:
    """The ensemble with its members changed where they are whole entries."""
    members = tuple(m if isinstance(m, str) else change(m) for m in entry.ensemble.members)
    ensemble = entry.ensemble.model_copy(update={"members": members})
    return entry.model_copy(update={"ensemble": ensemble})


def check_task_filter(where: str, tasks: TaskFilter, labels: Sequence[str]) -> None:
    """Check that a row's tasks are tasks of the recipe.

    Raises:
        ValueError: One is not.
    """
    for label in tasks if isinstance(tasks, tuple) else ():
        _check_label(f"{where}.tasks", label, labels)


def check_ensemble(
    where: str,
    entry: EnsembleEntry,
    models: Sequence[ModelConfig | EnsembleEntry],
    labels: Sequence[str],
) -> None:
    """Check an ensemble against the other rows and the tasks of its recipe.

    Raises:
        ValueError: A member or a task does not exist, or a member cannot be one.
    """
    config = entry.ensemble
    ensembles = {model.name for model in models if isinstance(model, EnsembleEntry)}
    singles = {model.name for model in models if isinstance(model, ModelConfig)}
    whole = whole_members(models)
    for member in config.members:
        if isinstance(member, str) and member in ensembles:
            raise ValueError(
                f"{where}.members: '{member}' is an ensemble itself; list its members instead"
            )
        if isinstance(member, str) and member not in singles:
            raise ValueError(f"{where}.members: no model '{member}'; {near_names(member, singles)}")
        if not isinstance(member, str) and member.name in singles:
            raise ValueError(
                f"{where}.members: '{member.name}' is also a model of the recipe; give the name"
                " alone, or another one"
            )
        if not isinstance(member, str) and member.name in ensembles:
            raise ValueError(
                f"{where}.members: '{member.name}' is also an ensemble of the recipe; give the"
                " member another name"
            )
        if not isinstance(member, str) and any(_is_namesake(member, m) for m in whole):
            raise ValueError(
                f"{where}.members: '{member.name}' is another model in another ensemble; give one"
                " of them another name"
            )
    members = member_entries(entry, models)
    if not config.is_from_samples:
        _check_can_be_combined(where, members)
    given = config.weights
    if isinstance(given, dict):
        for label in given:
            _check_label(f"{where}.weights", label, labels)
        _check_weights_for_all(where, entry, given, labels)
    needed = given.fit if isinstance(given, FittedWeights) else config.development
    _check_development(where, needed, labels)


def _is_namesake(member: ModelConfig, other: ModelConfig) -> bool:
    return member.name == other.name and member != other


def _check_can_be_combined(where: str, members: Sequence[ModelConfig]) -> None:
    for member in members:
        if member.source.lm_eval is not None:
            raise ValueError(
                f"{where}.members: '{member.name}' is an lm_eval source, whose distributions are"
                " not told; give a model of its own"
            )
    try:
        common_chat(tuple(members))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _check_weights_for_all(
    where: str, entry: EnsembleEntry, given: dict[str, Any], labels: Sequence[str]
) -> None:
    asked = entry.tasks if isinstance(entry.tasks, tuple) else labels
    missing = [label for label in asked if label not in given]
    # What "likelihood" means is known once the tasks are found; their pairs say what they lack.
    if missing and entry.tasks != "likelihood":
        raise ValueError(
            f"{where}.weights: none for task '{missing[0]}'; give weights for every task of the"
            " row, or narrow the row with the key tasks"
        )


def _check_development(where: str, development: Development, labels: Sequence[str]) -> None:
    if development.task is not None:
        _check_label(f"{where}: development items", development.task, labels)


def _check_label(where: str, label: str, labels: Sequence[str]) -> None:
    if label not in labels:
        raise ValueError(f"{where}: no task '{label}'; {near_names(label, labels)}")
