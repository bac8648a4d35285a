"""A benchmark recipe: which models, which tasks, and the choices a run makes once for all."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from suite.config import Config, PositiveInt, expand_path, parse_config, read_yaml
from suite.errors import ConfigError, near_names
from suite.harness.protocol import Protocol, Seeds
from suite.harness.tasks import TaskConfig
from suite.models.entry import ModelConfig
from suite.models.sources import parse_source


class Recipe(Config):
    """Models x tasks. Relative paths in a recipe file start at the file's folder.

    `reference` names the model that the others' deltas are taken against. `limit` scores the first
    items of each task only, and is said in the table. `task_folders` adds folders of lm-eval YAML.
    `notes` go under the table as they are. `samples_shown` items a cell go into the page.
    """

    title: str
    models: Annotated[tuple[ModelConfig, ...], Field(min_length=1)]
    tasks: Annotated[tuple[TaskConfig, ...], Field(min_length=1)]
    task_folders: tuple[Path, ...] = ()
    reference: str | None = None
    backend: Literal["hf"] = "hf"
    protocol: Protocol = "lm-eval"
    limit: PositiveInt | None = None
    seeds: Seeds = Seeds()
    samples_shown: Annotated[int, Field(ge=0)] = 5
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent_names(self) -> Recipe:
        names = [model.name for model in self.models]
        _refuse_repeats("models", "model", names)
        _refuse_repeats("tasks", "task", [task.label for task in self.tasks])
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"reference: no model '{self.reference}'; models: {', '.join(names)}")
        served = [model.name for model in self.models if model.source.lm_eval is not None]
        if self.protocol == "paper" and served:
            raise ValueError(
                f"protocol: paper needs our own backend, model '{served[0]}' is an lm_eval source"
            )
        return self


def _refuse_repeats(key: str, what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"{key}: {what} name '{name}' is used twice; give one of them another (key name)"
            )


def packaged_recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    folder = resources.files("suite.recipes")
    return tuple(sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".yaml")))


def load_recipe(name: str) -> tuple[Recipe, str]:
    """Read a recipe file, or a packaged recipe by name; returns it and its short name.

    Raises:
        ConfigError: There is no such recipe, or something in it is wrong.
    """
    if name in packaged_recipes():
        with resources.as_file(resources.files("suite.recipes") / f"{name}.yaml") as path:
            return _read(path), name
    path = Path(name)
    if not path.is_file():
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
    models = tuple(_absolute_model(model, base) for model in recipe.models)
    tasks = tuple(
        task.model_copy(
            update={"data": {split: expand_path(file, base) for split, file in task.data.items()}}
        )
        for task in recipe.tasks
    )
    folders = tuple(expand_path(folder, base) for folder in recipe.task_folders)
    return recipe.model_copy(update={"models": models, "tasks": tasks, "task_folders": folders})


def _absolute_model(model: ModelConfig, base: Path) -> ModelConfig:
    source = model.source
    changes: dict[str, object] = {}
    for kind in ("path", "gguf"):
        place = getattr(source, kind)
        if place is not None:
            changed = source.model_copy(update={kind: expand_path(place, base)})
            changes["source"] = changed
    # An adapter or tokenizer may also be a hub name, so only an existing folder becomes a path.
    for key in ("tokenizer", "adapter"):
        place = getattr(model, key)
        if place is not None and expand_path(Path(place), base).is_dir():
            changes[key] = expand_path(Path(place), base)
    return model.model_copy(update=changes)
