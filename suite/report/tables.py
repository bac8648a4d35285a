"""Runs, failures and the requested columns become one table of models by tasks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from suite.errors import ConfigError
from suite.records import (
    Absence,
    Cell,
    Column,
    Failure,
    MetricScore,
    ModelRow,
    Row,
    RunRecord,
    Table,
)
from suite.report.grouped_notes import named
from suite.results.scores import pick_score as pick_score

ValueT = TypeVar("ValueT")

# Shares of items in 0-1 with a common meaning, so that their mean means something. Named one by
# one because values alone cannot tell: a bits-per-byte of 0.9 and a correlation (mcc, which may be
# negative) also fall into 0-1.
AVERAGED_METRICS = frozenset(
    {
        "acc",
        "acc_bytes",
        "acc_norm",
        "em",
        "exact_match",
        "f1",
        "inst_level_loose_acc",
        "inst_level_strict_acc",
        "mc1",
        "mc2",
        "pass@1",
        "pass_at_1",
        "prompt_level_loose_acc",
        "prompt_level_strict_acc",
    }
)

# Weights that were not scored as they were trained deserve a note of their own.
QUANTISED = re.compile(
    r"quanti[sz]|\b(?:i?q[2-8]_|tq[12]_|int[48]\b|fp[48]\b|nf4\b|mxfp4|gptq|awq|gguf)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ColumnSpec:
    """A requested column: the task entry's label, the task, and which of its metrics to show.

    `metric` None means the task's first metric; otherwise `"acc_norm"`, or
    `"exact_match,strict-match"` where a filter must be chosen too.
    """

    label: str
    task: str
    metric: str | None = None


def build_table(
    *,
    title: str,
    models: Sequence[ModelRow],
    columns_spec: Sequence[ColumnSpec],
    runs: Sequence[RunRecord],
    failures: Sequence[Failure],
    provenance: Mapping[str, str],
    absences: Sequence[Absence] = (),
) -> Table:
    """The table of `models` by `columns_spec`, with differences from the reference row.

    Runs, failures and absences are found by (model name, label); others are left out, so a folder
    that holds more runs than this table needs does no harm. The last run of a pair counts, and a
    run counts more than a failure. All averages are dashes where a column's metric was found in no
    run: it might have been one of them.

    Raises:
        ConfigError: More than one model is marked as the reference.
    """
    references = [model.name for model in models if model.is_reference]
    if len(references) > 1:
        raise ConfigError(f"models: {', '.join(references)} are all references; mark one at most")
    run_of = {(run.model, run.label): run for run in runs}
    reason_of = {(absence.model, absence.label): absence.reason for absence in absences}
    reason_of |= {(f.model, f.label): f"failed: {f.reason}" for f in failures}
    columns: list[Column] = []
    unscored: list[str] = []
    notes = [note for model in models if (note := _weights_note(model))]
    measured: dict[str, list[RunRecord]] = {}
    for spec in columns_spec:
        found = [run for model in models if (run := run_of.get((model.name, spec.label)))]
        columns.append(_column(spec, found))
        unscored += [spec.label] * (not any(pick_score(run, spec.metric) for run in found))
        # What disagrees with a reference row is told where it is compared with it.
        measured |= (
            {} if references and references[0] in {r.model for r in found} else {spec.label: found}
        )
    notes += _disagreements(measured)
    notes += _truncation_note(models, runs)
    grid = [
        tuple(
            _cell(column, run_of.get(pair), reason_of.get(pair))
            for column in columns
            for pair in [(model.name, column.label)]
        )
        for model in models
    ]
    averages = [None if unscored else _average(columns, cells) for cells in grid]
    average_columns = tuple(column.label for column in columns if column.unit_interval)
    notes += [_no_average_note(unscored)] * bool(unscored and average_columns)
    return Table(
        title=title,
        columns=tuple(columns),
        rows=_rows(models, grid, averages),
        average_columns=average_columns,
        notes=tuple(notes),
        provenance=dict(provenance),
    )


def metric_name(metric: str, filter_name: str) -> str:
    """A metric with its filter as lm-eval joins them, without the filter `none`."""
    return metric if filter_name in {"", "none"} else f"{metric},{filter_name}"


def _column(spec: ColumnSpec, runs: Sequence[RunRecord]) -> Column:
    """How one task was measured, as far as the runs agree on it."""
    first = next((score for run in runs if (score := pick_score(run, spec.metric))), None)
    if first is None:
        metric, _, filter_name = (spec.metric or "").partition(",")
        higher_is_better = None
    else:
        metric, filter_name = first.metric, first.filter
        higher_is_better = first.higher_is_better
    values = [
        score.value
        for run in runs
        if (score := _score(run, metric, filter_name)) and _is_number(score.value)
    ]
    return Column(
        label=spec.label,
        task=spec.task,
        metric=metric,
        filter=filter_name,
        higher_is_better=higher_is_better,
        unit_interval=metric in AVERAGED_METRICS
        and higher_is_better is True
        and all(value is not None and 0 <= value <= 1 for value in values),
        num_items=_common([run.task.num_items for run in runs]),
        num_fewshot=_common([run.task.num_fewshot for run in runs]),
        version=_common([run.task.version for run in runs]) or "",
        protocol=_common([protocol_of(run) for run in runs]) or "",
    )


def protocol_of(run: RunRecord) -> str:
    """How a run's prompts were tokenised, "" where that is not known."""
    found = run.conditions.get("protocol") or run.identity.get("protocol")
    return found if isinstance(found, str) else ""


def _score(run: RunRecord, metric: str, filter_name: str) -> MetricScore | None:
    """Exactly this metric and filter, so that a column never mixes two metrics."""
    fits = (s for s in run.task.scores if (s.metric, s.filter) == (metric, filter_name))
    return next(fits, None)


def _common(values: Sequence[ValueT]) -> ValueT | None:
    """The value all runs share, None where they differ: one number would be wrong for some."""
    return values[0] if values and all(value == values[0] for value in values) else None


def _disagreements(runs: Mapping[str, Sequence[RunRecord]]) -> list[str]:
    """A sentence for each of items, shots and version that differs, with the tasks."""
    labels_of: dict[str, list[str]] = {}
    for label, found in runs.items():
        measured: dict[str, list[int | None] | list[str]] = {
            "number of items": [run.task.num_items for run in found],
            "number of shots": [run.task.num_fewshot for run in found],
            "task version": [run.task.version for run in found],
        }
        for what, values in measured.items():
            if len(set(values)) > 1:
                models = [run.model for run in found]
                text = f"the models differ in the {what} ({_by_value(models, values)})"
                labels_of.setdefault(text, []).append(label)
    return [
        f"{named(labels, 'columns')}: {text}, so their scores are not comparable"
        for text, labels in labels_of.items()
    ]


def _by_value(models: Sequence[str], values: Sequence[int | None] | Sequence[str]) -> str:
    """Each value with the models that have it."""
    models_of: dict[str, list[str]] = {}
    for model, value in zip(models, values, strict=True):
        models_of.setdefault("unknown" if value is None else str(value), []).append(model)
    return "; ".join(f"{value} for {named(found, 'models')}" for value, found in models_of.items())


def _weights_note(model: ModelRow) -> str | None:
    """A note for weights that are quantised, or were before they were loaded."""
    if QUANTISED.search(model.weights):
        return f"{model.name}: weights {model.weights}"
    return None


def _truncation_note(models: Sequence[ModelRow], runs: Sequence[RunRecord]) -> list[str]:
    """A note for backends that may have cut prompts without saying so."""
    silent = {run.model for run in runs if run.task.num_truncated is None}
    names = [model.name for model in models if model.name in silent]
    if not names:
        return []
    what = "its backend does" if len(names) == 1 else "their backends do"
    return [f"{named(names, 'models')}: {what} not tell whether prompts were cut"]


def _no_average_note(labels: Sequence[str]) -> str:
    """Why there is a dash in place of every average."""
    they_enter = "it enters" if len(labels) == 1 else "they enter"
    return (
        f"Average: a dash, because {', '.join(labels)} could not be scored for any model, "
        f"so whether {they_enter} the average is unknown"
    )


def _cell(column: Column, run: RunRecord | None, reason: str | None) -> Cell:
    """One score, or a missing one with the reason."""
    if run is None:
        return Cell(value=None, note=reason or "not run")
    score = _score(run, column.metric, column.filter)
    if score is None:
        return Cell(value=None, note=_unknown_metric(column, run))
    if not _is_number(score.value):
        written = "no value" if score.value is None else f"{score.value}"
        return Cell(value=None, note=f"lm-eval gave {written} for {column.metric}")
    return Cell(
        value=score.value,
        stderr=score.stderr if _is_number(score.stderr) else None,
        num_truncated=run.task.num_truncated,
    )


def _unknown_metric(column: Column, run: RunRecord) -> str:
    """What was asked for and which metrics the run has instead."""
    known = ", ".join(metric_name(score.metric, score.filter) for score in run.task.scores)
    if not column.metric:
        return f"{run.task.task} has no metric"
    wanted = metric_name(column.metric, column.filter)
    return f"{run.task.task} has no metric '{wanted}'; its metrics: {known or 'none'}"


def _is_number(value: float | None) -> bool:
    """Whether a value can be shown and averaged."""
    return value is not None and math.isfinite(value)


def _rows(
    models: Sequence[ModelRow],
    grid: Sequence[tuple[Cell, ...]],
    averages: Sequence[float | None],
) -> tuple[Row, ...]:
    """The finished rows, with differences from the reference row if there is one."""
    reference = next((i for i, model in enumerate(models) if model.is_reference), None)
    if reference is None:
        return tuple(
            Row(model=model, cells=cells, average=average)
            for model, cells, average in zip(models, grid, averages, strict=True)
        )
    rows = []
    for index, (model, cells, average) in enumerate(zip(models, grid, averages, strict=True)):
        if index == reference:
            rows.append(Row(model=model, cells=cells, average=average))
            continue
        compared = tuple(
            replace(cell, delta=_difference(cell.value, base.value))
            for cell, base in zip(cells, grid[reference], strict=True)
        )
        delta = _difference(average, averages[reference])
        rows.append(Row(model=model, cells=compared, average=average, average_delta=delta))
    return tuple(rows)


def _average(columns: Sequence[Column], cells: Sequence[Cell]) -> float | None:
    """The plain mean over the averaged columns, None if one of them is missing."""
    values = [
        cell.value for column, cell in zip(columns, cells, strict=True) if column.unit_interval
    ]
    present = [value for value in values if value is not None]
    if not present or len(present) < len(values):
        return None
    return math.fsum(present) / len(present)


def _difference(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base
