"""Results files as records: this suite's own, and those of lm-eval of any version."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.config import content_hash
from suite.errors import RecordError
from suite.records import MetricScore, RunRecord, TaskScores
from suite.results.conditions import conditions_of
from suite.results.model_names import model_name
from suite.results.numbers import number
from suite.results.results_file import leaves, stamp_of
from suite.results.task_definition import metric_entries

# Entries of a task's block that are no metrics, where metrics have no filter in their names.
_NO_METRICS = frozenset({"alias", "name", "sample_len", "sample_count", "samples"})


_ODD_DATA = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class FileRecords:
    """The runs in one results file, and one sentence on each task that could not be read."""

    records: tuple[RunRecord, ...]
    notes: tuple[str, ...] = ()


def records_of(path: Path, data: Mapping[str, Any]) -> FileRecords:
    """The runs in one results file: one of this suite's, or each task and group of lm-eval's.

    Raises:
        RecordError: The file was written by another version, or by another program.
    """
    if "suite" not in data:
        return _foreign_records(path, data)
    try:
        return FileRecords((_own_record(path, data),))
    except _ODD_DATA as error:
        raise RecordError(
            f"{path}: written by another version of the suite ({error} is missing or different);"
            " move it away"
        ) from error


def _own_record(path: Path, data: Mapping[str, Any]) -> RunRecord:
    facts = data["suite"]
    task = facts["task"]
    return RunRecord(
        model=facts["model"],
        label=facts["label"],
        task=_task_scores(task, data, facts["num_truncated"]),
        key=facts["key"],
        identity=facts["identity"],
        seconds=facts["seconds"],
        hardware=facts["hardware"],
        file=str(path),
        weights=tuple(weights) if (weights := facts.get("ensemble_weights")) else None,
        has_converged=facts.get("weights_fit", {}).get("converged", True),
        conditions=conditions_of(data, leaves(task, data.get("group_subtasks", {}))),
        stamp=stamp_of(path),
    )


def _foreign_records(path: Path, data: Mapping[str, Any]) -> FileRecords:
    if not isinstance(data.get("config", data.get("configs")), Mapping):
        raise RecordError(
            f"{path}: not a results file of lm-eval (neither 'config' nor 'configs' is there)"
        )
    version = data.get("lm_eval_version", "unknown")
    records: list[RunRecord] = []
    odd: dict[str, Exception] = {}
    for task in dict.fromkeys([*data["results"], *_mapping(data, "groups")]):
        try:
            record = _foreign_record(path, data, task)
        except _ODD_DATA as error:
            odd[task] = error
        else:
            records += [record] if record.task.scores else []
    if not records and odd:
        cause = next(iter(odd.values()))
        raise RecordError(
            f"{path}: written by lm-eval {version} in a form that is not known ({cause}); evaluate"
            " the tasks again with lm-eval 0.4"
        ) from cause
    if not records:
        raise RecordError(
            f"{path}: holds no score that can be read (lm-eval {version}); evaluate the tasks again"
            " with lm-eval 0.4"
        )
    notes = (
        f"{path}: {task} is left out, being in a form that is not known ({reason}); evaluate it"
        " again with lm-eval 0.4"
        for task, reason in odd.items()
    )
    return FileRecords(tuple(records), tuple(notes))


def _foreign_record(path: Path, data: Mapping[str, Any], task: str) -> RunRecord:
    if not isinstance(data["results"].get(task, {}), Mapping):
        raise ValueError("its block of 'results' holds no metrics")
    model = model_name(path, data)
    conditions = conditions_of(data, leaves(task, data.get("group_subtasks") or {}))
    identity = {
        "model": model,
        "config": data.get("config") or {},
        "task": task,
        "conditions": conditions,
        "stamp": stamp_of(path),
    }
    return RunRecord(
        model=model,
        label=task,
        task=_task_scores(task, data, None),
        key=content_hash(identity),
        identity=identity,
        # Of the whole file: lm-eval does not time tasks. Nothing is known of old versions.
        seconds=number(data.get("total_evaluation_time_seconds")) or 0.0,
        hardware="unknown",
        file=str(path),
        conditions=conditions,
        stamp=stamp_of(path),
        origin="lm-eval",
    )


def _mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    return found if isinstance(found, Mapping) else {}


def _task_scores(task: str, data: Mapping[str, Any], num_truncated: int | None) -> TaskScores:
    """Scores of a task, or of a group where the task's name is a group's."""
    # Old versions leave a group's block of `results` without scores.
    block = {**(data.get("groups") or {}).get(task, {}), **data["results"].get(task, {})}
    members = leaves(task, data.get("group_subtasks") or {})
    directions = _directions([task, *members], data.get("higher_is_better") or {})
    known_shots = data.get("n-shot") or {}
    shots = {known_shots[name] for name in members if name in known_shots}
    return TaskScores(
        task=task,
        scores=_in_declared_order(_metric_scores(block, directions, task, data), task, data),
        num_items=_num_items(members, data),
        num_fewshot=shots.pop() if len(shots) == 1 else None,
        version=str((data.get("versions") or {}).get(task, "unknown")),
        num_truncated=num_truncated,
    )


def _num_items(members: Sequence[str], data: Mapping[str, Any]) -> int | None:
    """Items scored, None where one of the single tasks does not tell."""
    counted, blocks = _mapping(data, "n-samples"), _mapping(data, "results")
    sizes = [
        number((counted.get(name) or {}).get("effective", _mapping(blocks, name).get("sample_len")))
        for name in members
    ]
    known = [int(size) for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _directions(
    names: Sequence[str], declared: Mapping[str, Mapping[str, bool | None]]
) -> dict[str, bool | None]:
    """Whether more is better, by metric; lm-eval leaves it open for groups of groups."""
    found: dict[str, bool | None] = {}
    for name in names:
        for metric, better in (declared.get(name) or {}).items():
            if found.get(metric) is None:
                found[metric] = better
    return found


def _metric_scores(
    block: Mapping[str, Any],
    directions: Mapping[str, bool | None],
    task: str,
    data: Mapping[str, Any],
) -> tuple[MetricScore, ...]:
    """lm-eval joins metric and filter with a comma; before 0.4 there were no filters."""
    declared = _declared_directions(task, data)
    has_filters = any("," in key for key in block)
    scores = []
    for key, value in block.items():
        metric, comma, filter_name = key.partition(",")
        if bool(comma) != has_filters or metric.endswith("_stderr") or metric in _NO_METRICS:
            continue
        if not has_filters and number(value) is None:
            continue
        stderr = block.get(f"{metric}_stderr,{filter_name}" if comma else f"{metric}_stderr")
        better = directions.get(metric)
        scores.append(
            MetricScore(
                metric=metric,
                filter=filter_name or "none",
                value=number(value),
                stderr=number(stderr),
                higher_is_better=declared.get(metric) if better is None else better,
            )
        )
    return tuple(scores)


# For files that do not say whether more is better.
_KNOWN_DIRECTIONS = re.compile(
    r"(?P<up>(acc|acc_norm|acc_bytes|em|exact_match|f1|mc[12]|mcc|bleu|chrf|rouge\w*|pass@\d+)$)"
    r"|(?P<down>(bits_per_byte|ter|\w*perplexity)$)"
)


def _declared_directions(task: str, data: Mapping[str, Any]) -> dict[str, bool]:
    """What the task's own definition says, and what is known of common metrics."""
    block = (data["results"].get(task) or {}) | ((data.get("groups") or {}).get(task) or {})
    names = {key.partition(",")[0] for key in block}
    known = {name: match for name in names if (match := _KNOWN_DIRECTIONS.match(name))}
    found = {name: match.group("up") is not None for name, match in known.items()}
    for entry in metric_entries(_mapping(data, "configs").get(task)):
        if isinstance(entry.get("higher_is_better"), bool):
            found[entry["metric"]] = entry["higher_is_better"]
    return found


def _in_declared_order(
    scores: tuple[MetricScore, ...], task: str, data: Mapping[str, Any]
) -> tuple[MetricScore, ...]:
    """Metrics as the task's definition lists them: its first is its main one."""
    names = [e.get("metric") for e in metric_entries(_mapping(data, "configs").get(task))]
    return tuple(
        sorted(scores, key=lambda s: names.index(s.metric) if s.metric in names else len(names))
    )
