"""Which runs a report shows: found below the folders given, named, chosen and sorted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from suite.errors import ConfigError, near_names
from suite.pipelines.report_options import ReportOptions
from suite.records import ModelRow, RunRecord
from suite.report.sections import read_groups, section_of
from suite.report.tables import ColumnSpec, pick_score
from suite.results.importer import load_runs
from suite.results.results_file import leaves, read_results


@dataclass(frozen=True)
class ReportRuns:
    """The runs of a report under the names it gives them, its rows and its columns."""

    records: tuple[RunRecord, ...]
    models: tuple[ModelRow, ...]
    columns: tuple[ColumnSpec, ...]
    notes: tuple[str, ...]


def choose_runs(options: ReportOptions) -> ReportRuns:
    """Read the results files and choose rows and columns.

    Raises:
        ConfigError: A path, model, task, metric or section that is not there, or too few models.
        RecordError: None of the files can be used.
    """
    records, notes = _named_records(options)
    records = _renamed(records, options.renames)
    models = list(dict.fromkeys(record.model for record in records))
    if options.models:
        for name in options.models:
            if name not in models:
                raise ConfigError(f"--model: no model '{name}'; {near_names(name, models)}")
        models = list(dict.fromkeys(options.models))
    _check_roles(options, models)
    records = [record for record in records if record.model in models]
    labels, hidden = _labels(records, options.tasks)
    records = [record for record in records if record.label in labels]
    if hidden:
        are = "task of groups is" if len(hidden) == 1 else "tasks of groups are"
        notes.append(f"{len(hidden)} single {are} not shown; --task NAME shows one of them")
    groups = read_groups(options.groups, models)
    rows = tuple(_row(name, records, groups, options) for name in models)
    _check_students(options, rows)
    columns = _columns(records, labels, options.metrics)
    return ReportRuns(tuple(records), rows, columns, tuple(notes))


def _named_records(options: ReportOptions) -> tuple[list[RunRecord], list[str]]:
    """All runs; a model that several paths or repeated runs hold gets a name for each of them."""
    found: list[tuple[Path, RunRecord]] = []
    notes: list[str] = []
    for path in dict.fromkeys(options.runs):
        loaded = load_runs([path], all_runs=options.all_runs)
        found += [(path, record) for record in loaded.records]
        notes += loaded.notes
    # A file that lies below two of the paths is one run.
    found = list({(r.file, r.label): (path, r) for path, r in reversed(found)}.values())[::-1]
    paths_of: dict[str, dict[Path, None]] = {}
    places: dict[tuple[str, str], Counter[Path]] = {}
    for path, record in found:
        paths_of.setdefault(record.model, {})[path] = None
        places.setdefault((record.model, record.label), Counter())[path] += 1
    clashing = {model for (model, _), counted in places.items() if len(counted) > 1}
    seen: Counter[tuple[str, str, Path]] = Counter()
    records = []
    for path, record in found:
        name, pair = record.model, (record.model, record.label)
        if name in clashing:
            name = f"{name} ({_short(path, tuple(paths_of[name]))})"
        if places[pair][path] > 1:
            seen[*pair, path] += 1
            name = f"{name} (run {seen[*pair, path]})"
        records.append(replace(record, model=name))
    if clashing:
        notes.append(
            f"{', '.join(sorted(clashing))}: in several of the folders given, so named after them; "
            "--rename OLD=NEW gives other names"
        )
    return records, notes


def _short(path: Path, paths: Sequence[Path]) -> str:
    """The end of a path that tells it from the others."""
    parts = {one: one.resolve().parts for one in paths}
    for length in range(1, max(map(len, parts.values())) + 1):
        ends = {"/".join(own[-length:]) for own in parts.values()}
        if len(ends) == len(paths):
            return "/".join(parts[path][-length:])
    return str(path)


def _renamed(records: Iterable[RunRecord], renames: Sequence[tuple[str, str]]) -> list[RunRecord]:
    """The runs under their new names, which must stay different from each other."""
    found = list(records)
    known = dict.fromkeys(record.model for record in found)
    for old, _ in renames:
        if old not in known:
            raise ConfigError(f"--rename: no model '{old}'; {near_names(old, known)}")
    new_names = dict(renames)
    counted = Counter(new_names.get(name, name) for name in known)
    twice = [name for name, count in counted.items() if count > 1]
    if twice:
        raise ConfigError(f"--rename: two models would be called '{twice[0]}'; give another name")
    return [replace(r, model=new_names.get(r.model, r.model)) for r in found]


def _check_roles(options: ReportOptions, models: Sequence[str]) -> None:
    roles = {
        "--reference": options.reference,
        "--teacher": options.teacher,
        "--start": options.start,
    }
    for option, name in roles.items():
        if name is not None and name not in models:
            raise ConfigError(f"{option}: no model '{name}'; {near_names(name, models)}")
    if options.style != "paper" and options.reference is None:
        raise ConfigError(
            f"--style {options.style} needs --reference NAME; models: {', '.join(models)}"
        )
    if options.style != "paper" and len(models) < 2:
        raise ConfigError(
            f"--style {options.style} compares models, and there is only {models[0]}; "
            "name another run"
        )
    if options.start is not None and options.teacher is None and options.reference is None:
        raise ConfigError("--start needs --teacher NAME: it is where the gap to the teacher begins")


def _check_students(options: ReportOptions, rows: Sequence[ModelRow]) -> None:
    """Refuse a teacher or a start that no row is measured by."""
    given = {"--teacher": options.teacher, "--start": options.start}
    names = [option for option, name in given.items() if name is not None]
    roles = {options.teacher or options.reference, options.start}
    transferred = [row.name for row in rows if row.section == "transferred"]
    if names and not set(transferred) - roles:
        raise ConfigError(
            f"{' and '.join(names)}: no other model is in the section transferred; --group "
            "NAME=transferred puts one there"
        )


def _labels(
    records: Sequence[RunRecord], wanted: Sequence[str]
) -> tuple[list[str], tuple[str, ...]]:
    """The tasks to show; by default all but those that a shown group is made of."""
    known = list(dict.fromkeys(record.label for record in records))
    for name in wanted:
        if name not in known:
            raise ConfigError(f"--task: no task '{name}'; {near_names(name, known)}")
    if wanted:
        return list(dict.fromkeys(wanted)), ()
    inside = {label for record in records for label in _members(record)}
    hidden = tuple(label for label in known if label in inside)
    return [label for label in known if label not in inside], hidden


def _members(record: RunRecord) -> tuple[str, ...]:
    """The labels that a foreign run's group is made of, on all levels."""
    if record.origin != "lm-eval" or record.file is None:
        return ()
    members: dict[str, list[str]] = read_results(Path(record.file)).get("group_subtasks") or {}
    single = set(leaves(record.label, members)) - {record.label}
    below = {name for name in members if members[name] and set(leaves(name, members)) < single}
    return tuple(single | below)


def _row(
    name: str, records: Sequence[RunRecord], groups: dict[str, str], options: ReportOptions
) -> ModelRow:
    record = next((record for record in records if record.model == name), None)
    weights = _weights_text(record) if record else ""
    section = groups.get(name) or (section_of(record, weights) if record else "original")
    return ModelRow(name, weights, is_reference=name == options.reference, section=section)


def _weights_text(record: RunRecord) -> str:
    """How the run's own file describes the weights that were scored; "" where it does not."""
    if record.file is None:
        return ""
    data = read_results(Path(record.file))
    own: dict[str, Any] = data.get("suite") or {}
    if own:
        return str(own.get("weights", ""))
    dtype = (data.get("config") or {}).get("model_dtype")
    return str(dtype).removeprefix("torch.") if dtype else ""


def _columns(
    records: Sequence[RunRecord], labels: Sequence[str], metrics: Sequence[tuple[str, str]]
) -> tuple[ColumnSpec, ...]:
    wanted = dict(metrics)
    for label in wanted:
        if label not in labels:
            raise ConfigError(f"--metric: no task '{label}'; {near_names(label, labels)}")
    specs = []
    for label in labels:
        runs = [record for record in records if record.label == label]
        metric = wanted.get(label)
        if metric is not None and not any(pick_score(run, metric) for run in runs):
            known = [
                s.metric if s.filter in {"", "none"} else f"{s.metric},{s.filter}"
                for run in runs
                for s in run.task.scores
            ]
            raise ConfigError(
                f"--metric {label}: no metric '{metric}'; {near_names(metric, known)}"
            )
        specs.append(ColumnSpec(label, runs[0].task.task, metric))
    return tuple(specs)
