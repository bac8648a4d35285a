"""Everything that the HTML page shows beside the table, gathered from the runs behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from suite.records import Table
from suite.report.page_answers import pooled_map
from suite.report.page_data import Cost, CostPoint, CurvePanel, FidelityRow, PageDetails, RunFile
from suite.report.page_flips import ItemSource, flip_pairs
from suite.report.page_tasks import task_pages
from suite.results.scored import Scored


def page_details(
    scored: Mapping[tuple[str, str], Scored],
    table: Table,
    *,
    curves: Sequence[CurvePanel] = (),
    costs: Mapping[str, Cost] | None = None,
    fidelity: Sequence[FidelityRow] = (),
    source: ItemSource | None = None,
) -> PageDetails:
    """The parts of the page that the runs of a table have something to say about.

    Args:
        scored: The run behind each cell, by model and column label.
        table: The table with its evidence.
        curves: Scores over checkpoints.
        costs: By model; where seconds are missing they are taken from the runs.
        fidelity: How near students are to their teachers.
        source: Where items' texts are read; by default the runs' own files.

    What a damaged file leaves out is said in the notes.
    """
    tasks = task_pages(table, scored)
    models = list(dict.fromkeys(row.model for page in tasks for row in page.rows))
    flips = flip_pairs(table, scored, source or ItemSource())
    maps = [page.agreement for page in tasks if page.agreement is not None]
    return PageDetails(
        tasks=tasks,
        flips=flips.pairs,
        curves=tuple(curves),
        agreement=pooled_map(models, maps) if len(maps) > 1 else None,
        costs=tuple(_costs(table, scored, costs or {})),
        fidelity=tuple(fidelity),
        files=tuple(_files(table, scored)),
        notes=flips.notes,
    )


def _costs(
    table: Table, scored: Mapping[tuple[str, str], Scored], costs: Mapping[str, Cost]
) -> Iterator[CostPoint]:
    """The models whose average and seconds are known; one point alone compares nothing."""
    points = []
    for row in table.rows:
        if row.kind != "scores" or row.average is None:
            continue
        name = row.model.name
        runs = [scored[name, c.label] for c in table.columns if (name, c.label) in scored]
        cost = costs.get(name, Cost())
        seconds = cost.seconds_per_item or _seconds_per_item(runs)
        if seconds is not None:
            places = ", ".join(dict.fromkeys(run.record.hardware for run in runs))
            points.append(
                CostPoint(name, seconds, row.average, cost.parameters, cost.hardware or places)
            )
    yield from points if len(points) > 1 else ()


def _seconds_per_item(runs: Sequence[Scored]) -> float | None:
    """Wall time of the runs by items; None where a run does not tell one of them."""
    items = [run.record.task.num_items for run in runs]
    if not runs or not all(items) or any(run.record.seconds <= 0 for run in runs):
        return None
    return sum(run.record.seconds for run in runs) / sum(n for n in items if n)


def _files(table: Table, scored: Mapping[tuple[str, str], Scored]) -> Iterator[RunFile]:
    labels = {column.label for column in table.columns}
    for (model, label), run in scored.items():
        record = run.record
        if label in labels and record.file is not None:
            yield RunFile(
                model=model,
                column=label,
                file=record.file,
                stamp=record.stamp,
                key=record.key,
                seconds=record.seconds,
                hardware=record.hardware,
            )
