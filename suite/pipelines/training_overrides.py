"""What the command line changes in a training recipe, and where the recipe's paths start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.config import Config, ConfigT, expand_path
from suite.errors import ConfigError
from suite.models.entry import ModelConfig, absolute_model
from suite.models.sources import Source
from suite.text.corpus_sources import find_files

_HUB = "hub:"
_PLACE = ("path", "hub", "packaged", "subset", "split", "revision")
# A text file is one field; rows of other data cannot be cut into passages.
_OF_ROWS = (
    *("text", "prompt", "completion", "separator", "chat", "messages"),
    *("streaming", "shuffle_block"),
)
_OF_TEXT_FILES = ("passage_bytes",)
# Which documents of a text; of another text they would be none or others.
_PART = ("skip", "limit")


@dataclass(frozen=True)
class Overrides:
    """Options in place of what a recipe says.

    Attributes:
        data: A path or `hub:org/name`, in place of where `data` is. A first stage and an
            evaluation that read other documents of the same data follow it. `skip` and `limit` are
            kept only where the held-out text is another part of the same data.
        held_out: The same for `evaluation.data`.
        steps: Of the training; also in place of epochs.
        seed: Of the training and of the order of its documents.
        device: Of all models.
    """

    data: str | None = None
    held_out: str | None = None
    steps: int | None = None
    seed: int | None = None
    device: str | None = None


NO_OVERRIDES = Overrides()


def overridden(recipe: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """A recipe as plain data, with the options laid over it; what is malformed stays as it is.

    Raises:
        ConfigError: An option does not go with the recipe.
    """
    changed = _with_text(recipe, overrides)
    training = changed.get("training")
    if isinstance(training, dict):
        training = dict(training)
        if overrides.steps is not None:
            training.pop("epochs", None)
            training["steps"] = overrides.steps
        if overrides.seed is not None:
            training["seed"] = overrides.seed
        changed["training"] = training
    if overrides.seed is not None and isinstance(changed.get("data"), dict):
        changed["data"] = changed["data"] | {"seed": overrides.seed}
    return changed if overrides.device is None else _on_device(changed, overrides.device)


def absolute_paths(config: ConfigT, base: Path) -> ConfigT:
    """Settings with every path absolute, relative ones taken from `base`.

    Raises:
        ConfigError: A path names an environment variable that is not set.
    """
    changes = {}
    for name in type(config).model_fields:
        before = getattr(config, name)
        after = _absolute(before, base)
        # What was not given must not look as if it had been.
        if after is not before:
            changes[name] = after
    return config.model_copy(update=changes) if changes else config


def _absolute(value: Any, base: Path) -> Any:
    if isinstance(value, ModelConfig):
        return absolute_model(value, base)
    if isinstance(value, Source):
        return absolute_model(ModelConfig(name="source", source=value), base).source
    if isinstance(value, Config):
        return absolute_paths(value, base)
    if isinstance(value, Path):
        return expand_path(value, base)
    if isinstance(value, tuple):
        parts = tuple(_absolute(part, base) for part in value)
        return parts if any(a is not b for a, b in zip(parts, value, strict=True)) else value
    return value


def _with_text(recipe: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """The recipe with its texts where the options say."""
    changed = dict(recipe)
    if overrides.data is not None and changed.get("teacher_samples") is not None:
        raise ConfigError(
            "--data has no effect on a recipe whose teacher writes the text (teacher_samples);"
            " leave one of the two out"
        )
    text = _Text(_place(changed.get("data")), _holds_out_a_part(changed, overrides))
    evaluation = changed.get("evaluation")
    if overrides.held_out is not None:
        evaluation = dict(evaluation) if isinstance(evaluation, dict) else {}
        given = _moved(evaluation.get("data"), overrides.held_out, "--held-out")
        keeps_part = overrides.held_out == overrides.data
        evaluation["data"] = given if keeps_part else _without(given, _PART)
        changed["evaluation"] = evaluation
    return _followed(changed, text, overrides, is_first=True)


@dataclass(frozen=True)
class _Text:
    """Where a recipe's text is, and whether a part of it is held out."""

    place: Mapping[str, Any]
    holds_out_a_part: bool


def _holds_out_a_part(recipe: Mapping[str, Any], overrides: Overrides) -> bool:
    """Whether the held-out text is another part of the text that is trained on."""
    if overrides.held_out is not None:
        return overrides.held_out == overrides.data
    evaluation = recipe.get("evaluation")
    held_out = evaluation.get("data") if isinstance(evaluation, dict) else None
    return isinstance(held_out, dict) and _place(held_out) == _place(recipe.get("data"))


def _followed(
    recipe: Mapping[str, Any], text: _Text, overrides: Overrides, *, is_first: bool
) -> dict[str, Any]:
    """A recipe or a stage of it whose texts of one place are where `--data` says."""
    changed = dict(recipe)

    def follow(data: Any) -> Any:
        if overrides.data is not None and _place(data) == text.place:
            moved = _moved(data, overrides.data, "--data")
            return moved if text.holds_out_a_part else _without(moved, _PART)
        return _without(data, _OF_TEXT_FILES) if _place(data).get("hub") else data

    if is_first and overrides.data is not None and "data" not in changed:
        changed["data"] = {}
    if "data" in changed:
        changed["data"] = follow(changed["data"])
    evaluation, stage = changed.get("evaluation"), changed.get("first_stage")
    was_given = is_first and overrides.held_out is not None
    if isinstance(evaluation, dict) and "data" in evaluation and not was_given:
        changed["evaluation"] = evaluation | {"data": follow(evaluation["data"])}
    if isinstance(stage, dict):
        changed["first_stage"] = _followed(stage, text, overrides, is_first=False)
    return changed


def _place(data: Any) -> dict[str, Any]:
    """Which data are read, whatever part of them."""
    return {key: data[key] for key in _PLACE if key in data} if isinstance(data, dict) else {}


def _moved(data: Any, where: str, option: str) -> dict[str, Any]:
    """Settings of a text for another place, without those that have no effect there."""
    kept = _without(data if isinstance(data, dict) else {}, _PLACE)
    if where.startswith(_HUB):
        return {"hub": where.removeprefix(_HUB), **_without(kept, _OF_TEXT_FILES)}
    path = Path(where).expanduser().absolute()
    try:
        kind, _ = find_files(path)
    except ConfigError as error:
        raise ConfigError(f"{option} {error}") from error
    return {"path": path, **_without(kept, _OF_ROWS if kind == "text" else _OF_TEXT_FILES)}


def _without(data: Any, keys: tuple[str, ...]) -> Any:
    return {k: v for k, v in data.items() if k not in keys} if isinstance(data, dict) else data


def _on_device(recipe: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The recipe with everything on one kind of device."""
    changed = dict(recipe)
    for key in ("training", "model", "student"):
        if isinstance(changed.get(key), dict):
            changed[key] = changed[key] | {"device": device}
    if isinstance(changed.get("teachers"), list):
        changed["teachers"] = [
            teacher | {"device": device} if isinstance(teacher, dict) else teacher
            for teacher in changed["teachers"]
        ]
    if isinstance(changed.get("first_stage"), dict):
        changed["first_stage"] = _on_device(changed["first_stage"], device)
    return changed
