"""A recipe as it is stored beside a run, and what has changed when the run goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.config import Config

# What may change between two runs of one folder: what is shown and saved, and where and in
# which portions the same numbers are computed (up to rounding). All else decides the weights.
FREE_KEYS = {
    "title": "shown only",
    "notes": "shown only",
    "evaluation.every": "measuring changes no weight",
    "evaluation.benchmark": "measuring changes no weight",
    "checkpoints": "saving changes no weight",
    "training.log_every": "shown only",
    "training.trackers": "shown only",
    "training.device": "the same sums elsewhere",
    "training.rows_per_pass": "the same sums in other portions",
    "training.gradient_checkpointing": "the same activations, computed twice",
    "model.device": "the same sums elsewhere",
    "student.device": "the same sums elsewhere",
    "teachers.device": "the same sums elsewhere",
}
_SHOWN = 60


@dataclass(frozen=True)
class Change:
    """One setting that differs; a value is None where a recipe has no such key."""

    key: str
    old: Any
    new: Any


def resolved(recipe: Config) -> dict[str, Any]:
    """A recipe as plain data, every default written out."""
    return recipe.model_dump(mode="json")


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    """What differs between two resolved recipes and bears on the weights, in the recipe's order."""
    return tuple(change for change in _changes("", old, new) if not _is_free(change.key))


def describe_change(folder: Path, changes: tuple[Change, ...]) -> str:
    """The sentence for a run that cannot go on; at least one change."""
    first, num_others = changes[0], len(changes) - 1
    more = f" (and {num_others} more change{'s'[: num_others - 1]})" if num_others else ""
    return (
        f"{folder}: the recipe has changed since this run began: {first.key} was"
        f" {_shown(first.old)} and is {_shown(first.new)}{more}; give the recipe as it was, or"
        " another --output"
    )


def _changes(key: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*new, *old)):
            inner = f"{key}.{name}" if key else name
            yield from _changes(inner, old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            yield from _changes(f"{key}[{number}]", *pair)
    elif old != new:
        yield Change(key, old, new)


def _is_free(key: str) -> bool:
    plain = re.sub(r"\[\d+\]", "", key).removeprefix("first_stage.")
    return any(plain == free or plain.startswith(f"{free}.") for free in FREE_KEYS)


def _shown(value: Any) -> str:
    if value is None:
        return "not given"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
