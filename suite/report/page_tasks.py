"""Each task's page: every model with its interval, its difference, and how it was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from suite.records import Cell, Evidence, ModelRow, Table
from suite.report.page_answers import agreement_map, reliability
from suite.report.page_data import TaskPage, TaskRow
from suite.results.scored import Scored


@dataclass(frozen=True)
class _Line:
    """A model's cell; `is_score` is False where the cell holds a difference instead."""

    model: ModelRow
    cell: Cell
    is_score: bool


def task_pages(table: Table, scored: Mapping[tuple[str, str], Scored]) -> tuple[TaskPage, ...]:
    """One page a column, in the table's order, without published rows."""
    return tuple(_page(table, index, scored) for index in range(len(table.columns)))


def _page(table: Table, index: int, scored: Mapping[tuple[str, str], Scored]) -> TaskPage:
    label = table.columns[index].label
    lines = list(_lines(table, index, {model for model, _ in scored}))
    runs = {
        line.model.name: found
        for line in lines
        if (found := scored.get((line.model.name, label))) is not None
    }
    facts = {name: _conditions(run) for name, run in runs.items()}
    shared = _shared(list(facts.values()))
    rows = tuple(
        _row(line, runs.get(line.model.name), _rest(facts.get(line.model.name, {}), shared))
        for line in lines
    )
    curves = (reliability(name, run) for name, run in runs.items())
    return TaskPage(
        column=index,
        rows=rows,
        conditions=tuple(shared.items()),
        agreement=agreement_map(list(runs), runs),
        reliability=tuple(curve for curve in curves if curve is not None),
    )


def _lines(table: Table, index: int, models: Set[str]) -> Iterator[_Line]:
    """The rows of scores, and those of differences whose model has no row of scores."""
    rest = models - {row.model.name for row in table.rows if row.kind == "scores"}
    for row in table.rows:
        if row.kind == "scores":
            yield _Line(row.model, row.cells[index], is_score=True)
        elif row.kind == "delta" and row.model.name in rest:
            yield _Line(row.model, row.cells[index], is_score=False)


def _row(line: _Line, run: Scored | None, conditions: Mapping[str, str]) -> TaskRow:
    evidence = line.cell.evidence or Evidence()
    value = line.cell.value
    if not line.is_score:
        value = None if run is None else run.score.value
    estimate = evidence.estimate if line.is_score else None
    return TaskRow(
        model=line.model.name,
        section=line.model.section,
        is_reference=line.model.is_reference,
        value=value,
        estimate=estimate,
        comparison=evidence.versus_reference,
        is_significant=evidence.is_significant,
        num_items=_num_items(run),
        note=line.cell.note or (run.reason if run else None),
        conditions=tuple(conditions.items()),
    )


def _num_items(run: Scored | None) -> int | None:
    if run is None:
        return None
    return run.record.task.num_items if run.items is None else len(run.items)


def _conditions(run: Scored) -> dict[str, str]:
    """The known conditions as texts, the score's filter first."""
    known = {"filter": run.score.filter, **run.record.conditions}
    return {name: _text(value) for name, value in known.items() if value is not None}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shared(facts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What all models that tell it have in common; told by one of them at least."""
    names = dict.fromkeys(name for one in facts for name in one)
    values = {name: {one[name] for one in facts if name in one} for name in names}
    return {name: next(iter(found)) for name, found in values.items() if len(found) == 1}


def _rest(facts: Mapping[str, str], shared: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in facts.items() if name not in shared}
