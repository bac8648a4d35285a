"""The curves of a series: scores over steps with their bands, and the pinned run as a line."""

from __future__ import annotations

from pathlib import Path

from suite.errors import ConfigError, near_names
from suite.records import Estimate
from suite.report.page_data import Curve, CurvePanel, ReferenceLine
from suite.results.index import ResultsIndex
from suite.results.scored import Scored
from suite.stats.compare import estimate
from suite.track.runs import TrackedRun, read_run
from suite.track.series import Store

# Beyond this many a figure tells nobody anything.
MOST_CURVES = 8


def series_panels(store: Path, series: str, tasks: tuple[str, ...] = ()) -> tuple[CurvePanel, ...]:
    """One panel a task and metric of a series, in the order of the newest run's tasks.

    Args:
        store: The store's folder.
        series: The series.
        tasks: Labels; () for all.

    Raises:
        ConfigError: The series has no run, or no such task.
        RecordError: A run's files are missing or have changed.
    """
    found = Store(store)
    found.newest(series)
    pinned_entry = found.pinned(series)
    with ResultsIndex.open() as index:
        runs = [read_run(entry, index.tables) for entry in found.entries(series)]
        pinned = None if pinned_entry is None else read_run(pinned_entry, index.tables)
    labels = tuple(dict.fromkeys(label for run in reversed(runs) for label in run.tasks))
    for task in tasks:
        if task not in labels:
            raise ConfigError(
                f"--task {task}: series {series} has none; {near_names(task, labels)}"
            )
    return tuple(_panel(label, runs, pinned) for label in tasks or labels)


def plot_series(
    store: Path, series: str, output: Path, tasks: tuple[str, ...] = ()
) -> tuple[Path, ...]:
    """Draw a series; returns the files, one a task where several tasks do not share one metric.

    Raises:
        ConfigError: The series has no run or no such task, or the file's ending is unknown.
    """
    from suite.report.figures import curve_figure, save_figure

    panels = series_panels(store, series, tasks)
    together = _joined(series, panels)
    files = []
    for panel in together:
        path = output
        if len(together) > 1:
            path = output.with_name(f"{output.stem}-{_file_name(panel.title)}{output.suffix}")
        figure = curve_figure(panel.curves, unit=panel.unit, references=panel.references)
        save_figure(figure, path)
        files.append(path)
    return tuple(files)


def _joined(series: str, panels: tuple[CurvePanel, ...]) -> tuple[CurvePanel, ...]:
    """All curves on one pair of axes where they share a unit and no line is drawn."""
    if len(panels) == 1 or len({panel.unit for panel in panels}) > 1 or len(panels) > MOST_CURVES:
        return panels
    curves = tuple(
        Curve(panel.title, curve.steps, curve.estimates)
        for panel in panels
        for curve in panel.curves
    )
    if any(panel.references for panel in panels):
        return panels
    return (CurvePanel(series, curves, panels[0].unit),)


def _panel(label: str, runs: list[TrackedRun], pinned: TrackedRun | None) -> CurvePanel:
    # The metric of the newest run that has the task; what measured another one leaves a gap.
    newest = next(run.tasks[label] for run in reversed(runs) if label in run.tasks)
    name = (newest.score.metric, newest.score.filter)
    steps = tuple(float(run.entry.step or 0) for run in runs)
    curve = Curve(label, steps, tuple(_estimate(run.tasks.get(label), name) for run in runs))
    references: tuple[ReferenceLine, ...] = ()
    if pinned is not None:
        value = _estimate(pinned.tasks.get(label), name).value
        if value is not None:
            references = (ReferenceLine(f"pinned: {pinned.entry.model}", value),)
    return CurvePanel(label, (curve,), newest.score.metric, references)


def _estimate(task: Scored | None, name: tuple[str, str]) -> Estimate:
    if task is None or (task.score.metric, task.score.filter) != name:
        return Estimate(None, None, None, 0.95, 0, "", "the run was not scored on it")
    if task.items is None or len(task.items) == 0:
        return Estimate(task.score.value, None, None, 0.95, 0, "aggregate", task.reason)
    return estimate(task.items)


def _file_name(title: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in title)
