"""From runs on disk to one report: intervals, tests, and every format."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import suite
from suite.errors import ConfigError, RecordError, near_names
from suite.pipelines.report_options import ReportOptions
from suite.pipelines.report_runs import ReportRuns, choose_runs
from suite.pipelines.track_plot import series_panels
from suite.records import RunRecord, Sample, Table
from suite.report.delta_style import delta_table
from suite.report.evidence import TableEvidence, gather_evidence
from suite.report.fidelity_record import read_fidelity
from suite.report.fidelity_rows import fidelity_rows
from suite.report.flips import in_turns
from suite.report.page_data import PageDetails
from suite.report.page_details import page_details
from suite.report.pairs import EvidenceOptions
from suite.report.paper_rows import Roles, paper_table, with_evidence
from suite.report.published_tables import read_published, with_published
from suite.report.regression_style import RegressionReport, regression_report
from suite.report.tables import build_table
from suite.report.write import FILES, write_regression, write_report
from suite.results.importer import read_samples, scored
from suite.results.index import ResultsIndex
from suite.results.item_table import ItemTable
from suite.results.samples_file import read_item_tables
from suite.results.scored import Scored

# Items that the page shows for each task and model beside those that flipped.
SAMPLES_SHOWN = 5


@dataclass(frozen=True)
class WrittenReport:
    """What was made of the runs, and where it was written."""

    content: Table | RegressionReport
    files: tuple[Path, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ReportPlan:
    """What a report would show and write."""

    runs: ReportRuns
    metrics: tuple[str, ...]
    num_comparisons: int
    files: tuple[Path, ...]


def plan_report(options: ReportOptions) -> ReportPlan:
    """The rows, columns, tests and files of a report, without reading any item.

    Raises:
        SuiteError: As `write_run_report`.
    """
    _check(options)
    runs = choose_runs(options)
    table = _score_table(options, runs)
    known = {(record.model, record.label) for record in runs.records}
    compared = [
        (model.name, column.label)
        for model in runs.models
        for column in table.columns
        if options.reference not in (None, model.name)
        and {(model.name, column.label), (options.reference, column.label)} <= known
    ]
    files = tuple(options.output / name for name in FILES)
    metrics = tuple(column.metric for column in table.columns)
    return ReportPlan(runs, metrics, len(compared), files)


def write_run_report(options: ReportOptions) -> WrittenReport:
    """Read runs with their items, test what can be tested, and write the report.

    Raises:
        ConfigError: A path, name, metric or section that is not there, options that exclude each
            other, or a folder that cannot be written.
        RecordError: None of the files can be used.
    """
    _check(options)
    runs = choose_runs(options)
    table = _score_table(options, runs)
    found = _read_items(options, runs, table)
    evidence = gather_evidence(
        found,
        runs.models,
        table.columns,
        EvidenceOptions(options.level, seed=options.seed, shared_items=options.shared_items),
    )
    files = tuple(dict.fromkeys(r.file for r in runs.records if r.file is not None))
    content = _styled(options, table, evidence)
    if isinstance(content, RegressionReport):
        scores = with_evidence(table, evidence)
        details = _page_details(scores, found, options)
        written = write_regression(content, options.output, scores=scores, details=details)
        return WrittenReport(content, written, runs.notes)
    samples = _samples(content, runs.records)
    details = _page_details(content, found, options)
    written = write_report(content, samples, (), files, options.output, details=details)
    return WrittenReport(content, written, runs.notes)


def _check(options: ReportOptions) -> None:
    if not 0 < options.level < 1:
        raise ConfigError(f"--level is {options.level:g}; give a number between 0 and 1, as 0.95")
    if not options.margin >= 0:
        raise ConfigError(f"--margin is {options.margin:g}; give 0 or more, as 0.02")
    for path in options.fidelity:
        if not path.is_file():
            raise ConfigError(f"--fidelity {path}: there is no such file; suite fidelity writes it")
    if options.style != "paper" and (options.teacher or options.start):
        raise ConfigError(
            f"--teacher and --start have no place in --style {options.style}; leave them out"
        )
    if options.published is not None:
        read_published(options.published)
        if options.style == "regression":
            raise ConfigError(
                "--published has no place in --style regression; leave one of the two out"
            )


def _score_table(options: ReportOptions, runs: ReportRuns) -> Table:
    """The table of scores alone."""
    table = build_table(
        title=options.title,
        models=runs.models,
        columns_spec=runs.columns,
        runs=runs.records,
        failures=(),
        provenance=_provenance(runs.records),
    )
    return replace(table, notes=(*table.notes, *runs.notes))


def _read_items(
    options: ReportOptions, runs: ReportRuns, table: Table
) -> dict[tuple[str, str], Scored]:
    """Every cell's run with its items, under the metric and filter that its column shows."""
    fields = dict(options.clusters)
    labels = [column.label for column in table.columns]
    for label in fields:
        if label not in labels:
            raise ConfigError(f"--cluster: no task '{label}'; {near_names(label, labels)}")
    record_of = {(record.model, record.label): record for record in runs.records}
    found = {}
    with ResultsIndex.open() if options.use_cache else nullcontext() as index:
        read = read_item_tables if index is None else index.tables
        for column in table.columns:
            for model in runs.models:
                record = record_of.get((model.name, column.label))
                if record is None or not column.metric:
                    continue
                metric = f"{column.metric},{column.filter}"
                one = _scored(record, metric, fields.get(column.label), read)
                if one is not None:
                    found[model.name, column.label] = one
    return found


def _scored(
    record: RunRecord, metric: str, field: str | None, read: Callable[..., Sequence[ItemTable]]
) -> Scored | None:
    try:
        tables = read(record, cluster_field=field)
    except RecordError as error:
        without = scored(record, metric, ())
        return without and replace(without, reason=str(error))
    return scored(record, metric, tables)


def _styled(
    options: ReportOptions, table: Table, evidence: TableEvidence
) -> Table | RegressionReport:
    if options.style == "regression":
        return regression_report(table, evidence, options.margin)
    if options.style == "delta":
        styled = delta_table(table, evidence)
    else:
        roles = Roles(options.teacher or options.reference, options.start)
        styled = paper_table(table, evidence, roles)
    if options.published is None:
        return styled
    return with_published(styled, read_published(options.published))


def _samples(table: Table, records: Sequence[RunRecord]) -> list[Sample]:
    """The first items of each cell, as answered under the filter that the cell shows."""
    filters = {column.label: column.filter for column in table.columns}
    return [sample for record in records for sample in _first_items(record, filters[record.label])]


def _page_details(
    table: Table, found: Mapping[tuple[str, str], Scored], options: ReportOptions
) -> PageDetails:
    """What the page shows beside the table, with as many flips as were asked for."""
    details = page_details(
        found,
        table,
        curves=[panel for name in options.series for panel in series_panels(options.store, name)],
        fidelity=[row for path in options.fidelity for row in fidelity_rows(read_fidelity(path))],
    )
    sizes = [len(pair.flips) for pair in details.flips]
    order = in_turns(sizes, [pair.first == options.reference for pair in details.flips])
    shown = Counter(place for place, _ in islice(order, options.max_flips))
    flips = (replace(pair, flips=pair.flips[: shown[i]]) for i, pair in enumerate(details.flips))
    return replace(details, flips=tuple(flips))


def _first_items(record: RunRecord, filter_name: str) -> tuple[Sample, ...]:
    """None of a run whose samples are damaged: the notes say so already."""
    try:
        return read_samples(record, filter_name, limit=SAMPLES_SHOWN)
    except RecordError:
        return ()


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _provenance(records: Sequence[RunRecord]) -> dict[str, str]:
    """What is known of the runs, one line a heading."""
    hardware = sorted({record.hardware for record in records if record.hardware})
    origins = sorted({record.origin for record in records})
    return {
        "Runs": f"{_counted(len(records), 'result')} of "
        f"{_counted(len({r.model for r in records}), 'model')}, written by "
        + " and ".join(origins),
        "Report": f"alm-suite {suite.__version__}, Python {platform.python_version()}",
        **({"Hardware": "; ".join(hardware)} if hardware else {}),
    }
