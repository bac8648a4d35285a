"""Frozen settings read from YAML; a wrong one is a sentence with file, key path and what fits."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import types
import typing
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from suite.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound="Config")

PositiveInt = Annotated[int, Field(ge=1)]


class Config(BaseModel):
    """Base of all settings: unknown keys are refused and nothing changes after construction."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Loader(yaml.SafeLoader):
    """The safe loader, but a key given twice is an error: plain YAML drops the first silently."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                problem = f"key '{key.value}' is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return node


def read_yaml(path: Path) -> Any:
    """Parse a YAML file with the safe loader.

    Raises:
        ConfigError: The file cannot be read or is not YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read (not UTF-8 text)") from error
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f" in line {place.line + 1}" if place is not None else ""
        problem = getattr(error, "problem", None) or "no further detail"
        raise ConfigError(f"{path}: not valid YAML{line}: {problem}") from error


def parse_config(kind: type[ConfigT], data: Any, where: str) -> ConfigT:
    """Build settings from plain data; `where` names the file or option in messages.

    Raises:
        ConfigError: The first problem in one sentence, with the number of further ones.
    """
    if not isinstance(data, dict):
        found = type(data).__name__ if data is not None else "nothing"
        raise ConfigError(f"{where}: expected keys and values, found {found}")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        problems = _without_echoes(error.errors(include_url=False))
        # A misspelt required key is both unknown and missing; that it is unknown helps more.
        problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")
        places: dict[str, list[Any]] = {}
        for problem in problems:
            places.setdefault(_key_path(_as_written(problem, data)), []).append(problem)
        (place, first), *others = places.items()
        more = f" (and {len(others)} more problem{'s'[: len(others) - 1]})" if others else ""
        raise ConfigError(f"{where}: {_sentence(kind, data, place, first)}{more}") from error


def _without_echoes(problems: list[Any]) -> list[Any]:
    """Problems but for lists that are too short only because pydantic dropped a wrong entry."""
    parents = {tuple(p["loc"][:depth]) for p in problems for depth in range(len(p["loc"]))}
    return [p for p in problems if p["type"] != "too_short" or tuple(p["loc"]) not in parents]


def _sentence(kind: type[BaseModel], data: Any, place: str, problems: list[Any]) -> str:
    """The pydantic problems of one place in the words of this project."""
    problem = problems[0]
    location = tuple(problem["loc"])
    if problem["type"] == "extra_forbidden":
        owner = _model_at(kind, location[:-1], data)
        accepted = ", ".join(sorted(owner.model_fields)) if owner else "none"
        inside = f" in {_key_path(location[:-1])}" if location[:-1] else ""
        return f"unknown key '{location[-1]}'{inside}; accepted keys: {accepted}"
    if problem["type"] == "missing":
        return f"{place} is missing"
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"])
        return f"{place}: {message}" if place else message
    # One value of a key that accepts several types fails once for each of them.
    expected = " or ".join(_expected(problem) for problem in problems)
    return f"{place} is {problem['input']!r}, {expected}"


def _expected(problem: Any) -> str:
    if problem["type"] in ("model_type", "dict_type"):
        return "should be keys and values"
    if problem["type"] == "path_type":
        return "should be a path"
    if problem["type"] == "too_short":
        least = problem["ctx"]["min_length"]
        return f"should have at least {least} {'entry' if least == 1 else 'entries'}"
    return str(problem["msg"]).removeprefix("Input ")


def _as_written(problem: Any, data: Any) -> tuple[int | str, ...]:
    """A problem's location without the parts that pydantic adds for alternatives of a type."""
    *parents, last = problem["loc"] or ("",)
    written: list[int | str] = []
    for part in parents:
        with contextlib.suppress(LookupError, TypeError):
            data = data[part]
            written.append(part)
    is_there = isinstance(data, list | tuple) or (isinstance(data, dict) and last in data)
    return (*written, last) if is_there or problem["type"] == "missing" else tuple(written)


def _key_path(location: tuple[int | str, ...]) -> str:
    """`("models", 0, "source")` as a reader of the YAML would write it: `models[0].source`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _model_at(
    kind: type[BaseModel], location: tuple[int | str, ...], data: Any
) -> type[BaseModel] | None:
    """The settings class at a key path; of several that fit there, the one `data` is most like."""
    candidates = [kind]
    for part in location:
        if isinstance(part, str):
            field = _most_like(data, candidates).model_fields.get(part)
            candidates = _models_in(field.annotation) if field is not None else []
        if not candidates:
            return None
        with contextlib.suppress(LookupError, TypeError):
            data = data[part]
    return _most_like(data, candidates)


def _most_like(data: Any, candidates: list[type[BaseModel]]) -> type[BaseModel]:
    """The settings class that was meant: its required keys are there, and most of the others."""
    written = set(data) if isinstance(data, dict) else set()

    def likeness(model: type[BaseModel]) -> tuple[int, int]:
        fields = model.model_fields
        num_missing = sum(fields[key].is_required() for key in set(fields) - written)
        return -num_missing, len(written & set(fields))

    return max(candidates, key=likeness)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes inside an annotation such as `tuple[TaskConfig, ...] | None`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for inner in typing.get_args(annotation) for model in _models_in(inner)]


def expand_path(path: Path, base: Path) -> Path:
    """An absolute path: `~` and `${NAME}` expanded, relative ones taken from folder `base`.

    Raises:
        ConfigError: A named environment variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(f"{path}: the environment variable {name} is not set; set it first")
        return os.environ[name]

    text = re.sub(r"\$\{(\w+)\}", value, str(path))
    return (base / Path(text).expanduser()).absolute()


def content_hash(data: Any) -> str:
    """SHA-256 (hex) of plain data, whatever the order of its keys."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
