"""The runs of a series read back: one cell's items for each task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from suite.errors import ConfigError, near_names
from suite.results.importer import load_runs
from suite.results.samples_file import read_item_tables
from suite.results.scored import Scored
from suite.results.scores import scored
from suite.track.entries import Entry, check_files, entry_of
from suite.track.fingerprint import ReadTables


@dataclass(frozen=True, eq=False)
class TrackedRun:
    """An entry with what its files say.

    Attributes:
        entry: Which files, and of which series.
        tasks: The scored tasks by label, also those without items.
        notes: What was skipped or damaged, one sentence each.
    """

    entry: Entry
    tasks: Mapping[str, Scored]
    notes: tuple[str, ...] = ()

    def gated(self) -> dict[str, Scored]:
        """The tasks that a gate can judge."""
        return {label: task for label, task in self.tasks.items() if why_not_gated(task) is None}

    def not_gated(self) -> dict[str, str]:
        """Why it cannot judge the others, by label."""
        reasons = {label: why_not_gated(task) for label, task in self.tasks.items()}
        return {label: reason for label, reason in reasons.items() if reason is not None}


def why_not_gated(task: Scored) -> str | None:
    """Why a gate cannot judge a task, one sentence; None where it can."""
    if task.items is None:
        return task.reason or "there are no scores of single items"
    if len(task.items) == 0:
        return "there are no items"
    if task.items.higher_is_better is None:
        return f"whether more of {task.score.metric} is better is not known"
    return None


def find_run(
    place: Path,
    series: str,
    step: int | None,
    model: str | None,
    read_tables: ReadTables = read_item_tables,
) -> tuple[Entry, tuple[str, ...]]:
    """The entry of a run on disk, and what was skipped in its folder.

    Args:
        place: A folder with results files below it, or one such file.
        series: The series it is for.
        step: Where in the series it stands.
        model: Which of the folder's models; needed where there are several.
        read_tables: The items of a record.

    Raises:
        ConfigError: There is no run, or it is not told which one.
    """
    if not place.exists():
        raise ConfigError(f"{place} does not exist; give the folder of a run")
    loaded = load_runs([place])
    models = sorted({record.model for record in loaded.records})
    if not models:
        raise ConfigError(f"{place}: no results of a run there; give the folder of a run")
    if model is None and len(models) > 1:
        raise ConfigError(
            f"{place} holds the results of {len(models)} models ({', '.join(models)}); choose one"
            " with --model"
        )
    chosen = model or models[0]
    if chosen not in models:
        raise ConfigError(
            f"{place} has no results of model '{chosen}'; {near_names(chosen, models)}"
        )
    own = [record for record in loaded.records if record.model == chosen and record.file]
    if not own:
        raise ConfigError(
            f"{place}: the scores of '{chosen}' were computed from other runs; add one of those"
        )
    return entry_of(place, own, series, step, read_tables), loaded.notes


def read_run(
    entry: Entry, read_tables: ReadTables, metrics: Mapping[str, str] | None = None
) -> TrackedRun:
    """The scores of an entry, after a check that its files are the same.

    Args:
        entry: From a store, or of `find_run`.
        read_tables: The items of a record.
        metrics: Which `metric,filter` of a task is meant, by label; a task that lacks it is left
            out. Of other tasks the first metric is taken.

    Raises:
        RecordError: A file is missing, damaged or has changed.
    """
    check_files(entry)
    loaded = load_runs(entry.results_files)
    tasks, wanted = {}, metrics or {}
    for record in loaded.records:
        if record.model == entry.model:
            found = scored(record, wanted.get(record.label), read_tables(record))
            if found is not None:
                tasks[record.label] = found
    return TrackedRun(entry, tasks, loaded.notes)
