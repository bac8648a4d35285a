"""A benchmark recipe: which models, which tasks, and the choices a run makes once for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, WrapValidator, model_validator

from suite.config import Config, PositiveInt, expand_path, parse_config, read_yaml
from suite.ensemble.config import EnsembleEntry
from suite.errors import ConfigError, near_names
from suite.harness.protocol import Protocol, Seeds
from suite.harness.tasks import TaskConfig
from suite.models.entry import ModelConfig, absolute_model
from suite.models.sources import parse_source
from suite.pipelines.members import (
    check_ensemble,
    check_task_filter,
    whole_members,
    with_members,
)
from suite.pipelines.packaged_recipes import packaged_names, packaged_recipe, refuse_other_command

_COMMAND = "run-benchmark"


def _entry_form(data: Any, handler: Any) -> Any:
    """A model or an ensemble, so that a wrong key is compared with the keys of one of them."""
    if isinstance(data, ModelConfig | EnsembleEntry):
        return data
    is_ensemble = isinstance(data, dict) and "ensemble" in data
    return (EnsembleEntry if is_ensemble else ModelConfig).model_validate(data)


Entry = Annotated[ModelConfig | EnsembleEntry, WrapValidator(_entry_form)]


class Recipe(Config):
    """Models x tasks. Relative paths in a recipe file start at the file's folder.

    `reference` names the model that the others' deltas are taken against. `limit` scores the first
    items of each task only, and is said in the table. `task_folders` adds folders of lm-eval YAML.
    `backend: hf` scores single models with lm-eval's own code. `notes` go under the table as they
    are. `samples_shown` items a cell go into the page.
    """

    title: str
    models: Annotated[tuple[Entry, ...], Field(min_length=1)]
    tasks: Annotated[tuple[TaskConfig, ...], Field(min_length=1)]
    task_folders: tuple[Path, ...] = ()
    reference: str | None = None
    backend: Literal["suite", "hf"] = "suite"
    protocol: Protocol = "lm-eval"
    limit: PositiveInt | None = None
    seeds: Seeds = Seeds()
    samples_shown: Annotated[int, Field(ge=0)] = 5
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent_names(self) -> Recipe:
        names = [model.name for model in self.models]
        labels = [task.label for task in self.tasks]
        _refuse_repeats("models", "model", names)
        _refuse_repeats("tasks", "task", labels)
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"reference: no model '{self.reference}'; models: {', '.join(names)}")
        for index, entry in enumerate(self.models):
            check_task_filter(f"models[{index}]", entry.tasks, labels)
            if isinstance(entry, EnsembleEntry):
                check_ensemble(f"models[{index}].ensemble", entry, self.models, labels)
        return self

    @model_validator(mode="after")
    def _backend_can_score_every_model(self) -> Recipe:
        served = [model.name for model in self.all_models if model.source.lm_eval is not None]
        if self.protocol == "paper" and served:
            raise ValueError(
                f"protocol: paper needs our own backend, model '{served[0]}' is an lm_eval source"
            )
        scored = [e.name for e in self.ensembles if not e.ensemble.is_from_samples]
        if self.backend == "hf" and scored:
            raise ValueError(
                f"backend: hf scores single models, '{scored[0]}' is an ensemble; leave backend out"
            )
        return self

    @property
    def single_models(self) -> tuple[ModelConfig, ...]:
        """The entries that are one model."""
        return tuple(entry for entry in self.models if isinstance(entry, ModelConfig))

    @property
    def all_models(self) -> tuple[ModelConfig, ...]:
        """The entries that are one model, and the models that only ensembles have."""
        return (*self.single_models, *whole_members(self.models))

    @property
    def ensembles(self) -> tuple[EnsembleEntry, ...]:
        """The entries that are several models."""
        return tuple(entry for entry in self.models if isinstance(entry, EnsembleEntry))


def _refuse_repeats(key: str, what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"{key}: {what} name '{name}' is used twice; give one of them another (key name)"
            )


def packaged_recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    return packaged_names(_COMMAND)


def load_recipe(name: str) -> tuple[Recipe, str]:
    """Read a recipe file, or a packaged recipe by name; returns it and its short name.

    Raises:
        ConfigError: There is no such recipe, it is of another command, or something in it is wrong.
    """
    if name in packaged_recipes():
        with resources.as_file(packaged_recipe(_COMMAND, name)) as path:
            return _read(path), name
    path = Path(name)
    if not path.is_file():
        refuse_other_command(name, (_COMMAND,))
        raise ConfigError(
            f"no recipe '{name}': neither a file nor a packaged recipe;"
            f" {near_names(name, packaged_recipes())}"
        )
    return _read(path), path.stem


def quick_recipe(models: Iterable[str], tasks: Iterable[str]) -> Recipe:
    """The recipe of a quick question: sources and task names from the command line.

    Raises:
        ConfigError: A source cannot be read, or one of the two lists is empty.
    """
    sources = [parse_source(text) for text in models]
    names = list(tasks)
    if not sources or not names:
        missing = "--task" if sources else "--model"
        raise ConfigError(
            f"give a RECIPE, or at least one --model and one --task ({missing} missing)"
        )
    labels = [_short_name(str(source)) for source in sources]
    entries = [
        # Two folders or repositories may end alike; then the whole source is the name.
        {"name": label if labels.count(label) == 1 else str(source), "source": source}
        for source, label in zip(sources, labels, strict=True)
    ]
    data = {"title": "Quick question", "models": entries, "tasks": names}
    return _with_absolute_paths(parse_config(Recipe, data, "command line"), Path.cwd())


def with_protocol(recipe: Recipe, protocol: str) -> Recipe:
    """The recipe under another tokenisation protocol.

    Raises:
        ConfigError: One of its models cannot be scored under it.
    """
    given = recipe.model_dump(exclude_unset=True) | {"protocol": protocol}
    return parse_config(Recipe, given, "command line")


def with_device(recipe: Recipe, device: str) -> Recipe:
    """The recipe with every model on one kind of device."""

    def placed(model: ModelConfig) -> ModelConfig:
        # What lm-eval serves has no device of ours; its arguments name one.
        return model if model.source.lm_eval else model.model_copy(update={"device": device})

    return _each_model(recipe, placed)


def _each_model(recipe: Recipe, change: Callable[[ModelConfig], ModelConfig]) -> Recipe:
    """The recipe with every model changed, whole entries among an ensemble's members too."""
    models = tuple(
        change(entry) if isinstance(entry, ModelConfig) else with_members(entry, change)
        for entry in recipe.models
    )
    return recipe.model_copy(update={"models": models})


def _short_name(source: str) -> str:
    """`hub:org/name` is called `name` in tables."""
    return source.partition(":")[2].rstrip("/").split("/")[-1]


def _read(path: Path) -> Recipe:
    recipe = parse_config(Recipe, read_yaml(path), str(path))
    try:
        return _with_absolute_paths(recipe, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _with_absolute_paths(recipe: Recipe, base: Path) -> Recipe:
    """The recipe with every path absolute, relative ones taken from `base`."""
    recipe = _each_model(recipe, lambda model: absolute_model(model, base))
    tasks = tuple(
        task.model_copy(
            update={"data": {split: expand_path(file, base) for split, file in task.data.items()}}
        )
        for task in recipe.tasks
    )
    folders = tuple(expand_path(folder, base) for folder in recipe.task_folders)
    return recipe.model_copy(update={"tasks": tasks, "task_folders": folders})
