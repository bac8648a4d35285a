"""`suite track`: runs of a series, its pinned run, and the gate between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from suite.errors import ConfigError, RecordError
from suite.pipelines.track_index import mirror
from suite.records import RunRecord
from suite.results.index import ResultsIndex
from suite.results.item_table import ItemTable
from suite.results.samples_file import read_item_tables
from suite.track.entries import Entry, check_series_name
from suite.track.fingerprint import ReadTables
from suite.track.gate import Margins, pair_tasks
from suite.track.history import drift_flag, look_terms, past_terms
from suite.track.look_report import LookReport, report_for_store
from suite.track.looks import Spending, which_look
from suite.track.pinned import Pinned, export_pinned, hashed_like_a_file, read_pinned
from suite.track.regress import judge, with_flags
from suite.track.runs import TrackedRun, find_run, read_run
from suite.track.series import Store

NO_LOOK = (
    "--reference without a store cannot count looks; say which look of the series this is with"
    " --look N, or how many there will be with --planned-looks K"
)


@dataclass(frozen=True)
class Added:
    """What `add` did: the entry, whether it is new, and what was skipped in the run's folder."""

    entry: Entry
    is_new: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PinnedRun:
    """What `pin` did: the entry, labels of the tasks a gate judges, and why it judges no others.

    `num_bytes` is the size of the exported file, None without one.
    """

    entry: Entry
    tasks: tuple[str, ...]
    notes: tuple[str, ...]
    num_bytes: int | None


@dataclass(frozen=True)
class CheckOptions:
    """One check of a series.

    Attributes:
        series: The series.
        store: Its folder; not looked at with `reference`.
        run: The checkpoint's run; None for the newest one of the series.
        model: Which of the run's models.
        reference: A file of `pin --export`; None for the store's pinned run.
        margins: The smallest changes that matter.
        spending: How the error rate of all looks is shared.
        look: Which look it is; None where the store counts, or looks are planned.
        allow_missing: Judge what there is where the checkpoint lacks tasks.
        shared_items: Join the items that both runs have.
    """

    series: str
    store: Path
    run: Path | None = None
    model: str | None = None
    reference: Path | None = None
    margins: Margins = field(default_factory=Margins)
    spending: Spending = field(default_factory=Spending)
    look: int | None = None
    allow_missing: bool = False
    shared_items: bool = False


def add_run(
    run: Path,
    series: str,
    step: int,
    *,
    store: Path,
    model: str | None = None,
    replace: bool = False,
) -> Added:
    """Add a run to a series.

    Raises:
        ConfigError: There is no such run, or another one stands at the step.
    """
    check_series_name(series)
    if step < 0:
        raise ConfigError(f"--step is {step}, expected at least 0")
    with _tables() as tables:
        entry, notes = find_run(run, series, step, model, tables)
    is_new = Store(store).add(entry, replace=replace)
    mirror(store)
    return Added(entry, is_new, notes)


def pin_run(
    run: Path, series: str, *, store: Path, model: str | None = None, export: Path | None = None
) -> PinnedRun:
    """Make a run the reference of a series, and write it as one file if asked for.

    Raises:
        ConfigError: There is no such run, or none of its tasks can be judged.
    """
    check_series_name(series)
    with _tables() as tables:
        entry, notes = find_run(run, series, None, model, tables)
        tracked = read_run(entry, tables)
    pinned = _pinned_of(tracked)
    told = [f"{label}: not judged, {reason}" for label, reason in pinned.not_judged.items()]
    size = None if export is None else export_pinned(pinned, export)
    Store(store).pin(entry)
    mirror(store)
    return PinnedRun(entry, tuple(pinned.tasks), (*notes, *told), size)


def check_series(options: CheckOptions) -> LookReport:
    """Compare a checkpoint with the pinned run.

    In a store the look is counted and kept there; with a file as the reference nothing but that
    file and the run is read, and nothing is written.

    Raises:
        NotComparableError: The two were not measured alike.
        ConfigError: Something that was asked for is wrong, or a file cannot be read: then no
            verdict was reached, and 1 stays the exit code of a regression alone.
    """
    try:
        check_series_name(options.series)
        return _check_alone(options) if options.reference else _check_in_store(options)
    except RecordError as error:
        raise ConfigError(str(error)) from error


def _check_alone(options: CheckOptions) -> LookReport:
    assert options.reference is not None, "the caller has looked"
    if options.run is None:
        raise ConfigError("--reference needs the checkpoint's run: suite track check S RUN")
    if options.look is None and options.spending.planned_looks is None:
        raise ConfigError(NO_LOOK)
    alpha = options.spending.of_look(options.look or 1)
    pinned = read_pinned(options.reference)
    notes = []
    if pinned.series != options.series:
        notes.append(f"the reference was pinned for series {pinned.series}")
    read_tables = _reading_once()
    entry, skipped = find_run(options.run, options.series, None, options.model, read_tables)
    run = read_run(entry, read_tables, _metrics(pinned))
    hashed = {label: hashed_like_a_file(task) for label, task in run.tasks.items()}
    run = TrackedRun(run.entry, hashed, run.notes)
    report = _look(run, pinned, options, options.look, alpha)
    return _with_notes(report, (*notes, *skipped))


def _check_in_store(options: CheckOptions) -> LookReport:
    store = Store(options.store)
    pinned_entry = store.pinned(options.series)
    if pinned_entry is None:
        raise ConfigError(store.no_pinned(options.series))
    with store.locked(options.series), _tables() as tables:
        entry, skipped = _checkpoint(store, options, tables)
        checks = [
            check
            for check in store.checks(options.series)
            if check["pinned"] == pinned_entry.fingerprint
        ]
        look = which_look(checks, entry.fingerprint, options.spending, options.look)
        alpha = options.spending.of_look(look)
        pinned = _pinned_of(read_run(pinned_entry, tables))
        run = read_run(entry, tables, _metrics(pinned))
        if entry.is_same(pinned_entry):
            skipped = (*skipped, "the checkpoint is the pinned run itself")
        report = _with_notes(_look(run, pinned, options, look, alpha), skipped)
        report = _with_drift(report, [check for check in checks if int(check["look"]) < look])
        name = f"{entry.fingerprint[:16]}-{pinned_entry.fingerprint[:16]}"
        store.write_check(options.series, name, report_for_store(report, store.base))
    return report


def _checkpoint(
    store: Store, options: CheckOptions, read_tables: ReadTables
) -> tuple[Entry, tuple[str, ...]]:
    """The run that is checked: the one that was given, or the newest of the series."""
    if options.run is None:
        return store.newest(options.series), ()
    entry, notes = find_run(options.run, options.series, None, options.model, read_tables)
    same = [e for e in store.entries(options.series) if e.is_same(entry)]
    # Of several steps with the same scores the one whose run was given.
    same.sort(key=lambda e: e.run != entry.run)
    return (replace(entry, step=same[0].step) if same else entry), notes


def _look(
    run: TrackedRun, pinned: Pinned, options: CheckOptions, look: int | None, alpha: float
) -> LookReport:
    pairs, notes = pair_tasks(
        run,
        pinned,
        options.margins,
        allow_missing=options.allow_missing,
        shared_items=options.shared_items,
    )
    return LookReport(
        series=options.series,
        step=run.entry.step,
        model=run.entry.model,
        run=str(run.entry.run),
        checkpoint=run.entry.fingerprint,
        pinned_model=pinned.model,
        pinned=pinned.fingerprint,
        look=look,
        spending=options.spending,
        alpha=alpha,
        tasks=judge(pairs, alpha),
        notes=(*run.notes, *notes),
        terms={pair.task: look_terms(pair) for pair in pairs},
    )


def _with_drift(report: LookReport, before: list[dict[str, Any]]) -> LookReport:
    """The report with a flag on each task that has drifted over the looks before."""
    tasks = []
    for task in report.tasks:
        drift = drift_flag(past_terms(before, task.task), report.terms[task.task])
        tasks.append(task if drift is None else with_flags(task, [drift]))
    return replace(report, tasks=tuple(tasks))


def _pinned_of(run: TrackedRun) -> Pinned:
    """A run as a reference: the tasks of it that a gate can judge."""
    gated, not_judged = run.gated(), run.not_gated()
    if not gated:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in not_judged.items())
        raise ConfigError(
            f"{run.entry.run}: none of the tasks of '{run.entry.model}' can be judged"
            f" ({reasons or 'no task has a score'}); pin a run with samples"
        )
    entry = run.entry
    return Pinned(entry.series, entry.model, entry.fingerprint, gated, not_judged)


def _metrics(pinned: Pinned) -> dict[str, str]:
    """The metric and filter that each task of the pinned run was pinned under."""
    return {
        label: f"{task.score.metric},{task.score.filter}" for label, task in pinned.tasks.items()
    }


def _with_notes(report: LookReport, notes: tuple[str, ...]) -> LookReport:
    return replace(report, notes=(*notes, *report.notes))


def _reading_once() -> ReadTables:
    """How items are read where nothing is kept on disk."""
    found: dict[tuple[str, str], Sequence[ItemTable]] = {}

    def read(record: RunRecord) -> Sequence[ItemTable]:
        key = (str(record.file), record.label)
        if key not in found:
            found[key] = read_item_tables(record)
        return found[key]

    return read


@contextmanager
def _tables() -> Iterator[Any]:
    """How items are read where there is a cache for them."""
    with ResultsIndex.open() as index:
        yield index.tables
