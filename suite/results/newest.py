"""Which of several runs of one name count, and what they are called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from suite.records import RunRecord
from suite.results.differing import differs, texts_of
from suite.results.known_conditions import plain_conditions
from suite.results.model_names import arguments_of

# What a model is loaded with that makes it another model.
_OF_WEIGHTS = (
    "pretrained",
    "revision",
    "subfolder",
    "peft",
    "delta",
    "gguf_file",
    "load_in_4bit",
    "load_in_8bit",
)
# And what says only how it was run.
_OF_MACHINE = frozenset(
    {"batch_size", "device", "device_map", "max_batch_size", "num_concurrent", "parallelize"}
)


def with_distinct_names(records: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    """The same runs; models of one name that were loaded with other weights are told apart.

    What differs is added to the name: `org/m (revision=step1000)`.
    """
    loaded: dict[str, list[dict[str, str]]] = defaultdict(list)
    for record in records:
        loaded[record.model].append(_arguments(record))
    differing = {
        model: [name for name in _OF_WEIGHTS if len({one.get(name) for one in found}) > 1]
        for model, found in loaded.items()
    }
    return tuple(_named(record, differing[record.model]) for record in records)


def _named(record: RunRecord, names: Sequence[str]) -> RunRecord:
    arguments = _arguments(record)
    told = ", ".join(f"{name}={arguments[name]}" for name in names if name in arguments)
    return replace(record, model=f"{record.model} ({told})") if told else record


def _arguments(record: RunRecord) -> dict[str, str]:
    """What a model was loaded with, as far as its file says; what is off is not written."""
    config = record.identity.get("config") if record.origin == "lm-eval" else None
    found = arguments_of(config) if isinstance(config, dict) else {}
    return {name: str(value) for name, value in found.items() if value not in (None, False, "")}


def newest_runs(records: Sequence[RunRecord]) -> tuple[tuple[RunRecord, ...], tuple[str, ...]]:
    """The newest run of each model and label, and what is said of older ones measured otherwise.

    Args:
        records: Oldest first.
    """
    newest = {(record.model, record.label): record for record in records}
    dropped: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in records:
        kept = newest[record.model, record.label]
        told = "; ".join(_differences(record, kept)) if kept is not record else ""
        if told:
            where = (
                f"{record.file}: the run of {record.model} is left out for the newer {kept.file}"
            )
            dropped[where, told].append(record.label)
    notes = (
        f"{where}, though they differ on {', '.join(labels)} ({told}); name one of the files alone"
        " to choose it"
        for (where, told), labels in dropped.items()
    )
    found = tuple(r for r in records if newest[r.model, r.label] is r)
    return found, tuple(notes)


def _differences(first: RunRecord, second: RunRecord) -> list[str]:
    left, right = _facts(first), _facts(second)
    told = []
    for name in [name for name in left if name in right and differs(left[name], right[name])]:
        here, there = texts_of(left[name], right[name])
        told.append(f"{name}: {here} against {there}")
    return told


def _facts(record: RunRecord) -> dict[str, Any]:
    arguments = {n: value for n, value in _arguments(record).items() if n not in _OF_MACHINE}
    return {**plain_conditions(record), "model arguments": arguments}
