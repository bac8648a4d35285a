"""Result folders on disk, read back as records: this suite's and any of lm-eval's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from suite.errors import ConfigError, RecordError
from suite.records import RunRecord, Sample
from suite.results.derived import Item, Items, item_of
from suite.results.newest import newest_runs, with_distinct_names
from suite.results.results_file import find_results_files, read_results, time_of
from suite.results.run_records import records_of
from suite.results.sample_lines import Line, item_hash
from suite.results.sample_texts import sample_of
from suite.results.samples_file import SamplesFile, open_samples
from suite.results.scores import item_scores, scored

__all__ = [
    "LoadedRuns",
    "item_scores",
    "load_results",
    "load_runs",
    "read_items",
    "read_samples",
    "scored",
]


@dataclass(frozen=True)
class LoadedRuns:
    """Runs found on disk, oldest first, and one sentence on each file that could not be used."""

    records: tuple[RunRecord, ...]
    notes: tuple[str, ...]


def load_runs(paths: Sequence[Path], *, all_runs: bool = False) -> LoadedRuns:
    """The runs in results files and in all folders below the given ones.

    A file that cannot be used is left out and noted. Models of one name that were loaded with other
    weights get other names; an older run that was measured otherwise than its newer one is noted. A
    file of lm-eval's gives one record for each task and each group.

    Args:
        paths: Files and folders.
        all_runs: Keep every run; by default only the newest of a model and label counts.

    Raises:
        ConfigError: A path does not exist or holds no results file.
        RecordError: None of the files can be used.
    """
    found: list[tuple[str, RunRecord]] = []
    notes: list[str] = []
    for file in dict.fromkeys(file for path in paths for file in _files_below(path)):
        try:
            read = records_of(file, read_results(file))
        except RecordError as error:
            notes.append(str(error))
        else:
            notes += read.notes
            found += ((time_of(file), record) for record in read.records)
    if not found:
        raise RecordError(notes[0] if notes else "no results file was named; name a folder")
    found.sort(key=lambda pair: pair[0])
    records = with_distinct_names([record for _, record in found])
    if all_runs:
        return LoadedRuns(records, tuple(notes))
    kept, dropped = newest_runs(records)
    return LoadedRuns(kept, (*notes, *dropped))


def _files_below(path: Path) -> tuple[Path, ...]:
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file or folder; name one that lm-eval wrote")
    files = find_results_files(path)
    if not files:
        raise ConfigError(
            f"{path}: holds no results file (results_*.json); name a folder that lm-eval wrote"
        )
    return files


def load_results(folder: Path | str) -> tuple[RunRecord, ...]:
    """Every finished run below a folder, oldest first.

    Only files written by this suite are read: they carry the key `suite`.

    Raises:
        RecordError: A results file is not readable JSON; names it.
    """
    records: list[RunRecord] = []
    for path in sorted(Path(folder).glob("*/results_*.json"), key=lambda path: path.name):
        data = read_results(path)
        if "suite" in data:
            records += records_of(path, data).records
    return tuple(records)


def read_samples(record: RunRecord, filter_name: str, *, limit: int) -> tuple[Sample, ...]:
    """The first `limit` items of a run as scored under one filter, for the page's item browser.

    A run that was computed from the samples of others has none.

    Raises:
        RecordError: A samples file is not readable.
    """
    return tuple(islice(_samples(record, filter_name), limit))


def _samples(record: RunRecord, filter_name: str) -> Iterator[Sample]:
    for file in open_samples(record):
        yield from file.read(partial(sample_of, record), filter_name)


def read_items(record: RunRecord, metric: str, filter_name: str) -> Items:
    """What each item of a run was answered and how that was scored, under one metric and filter.

    Raises:
        RecordError: A results or samples file is not readable.
    """
    if record.file is None:
        raise RecordError(f"{record.model} · {record.label}: computed from samples, so it has none")
    items: Items = {}
    for file in open_samples(record):
        items.update(file.read(partial(_item, file, metric), filter_name))
    return items


def _item(file: SamplesFile, metric: str, line: Line) -> tuple[tuple[str, int, str], Item]:
    delimiter = file.config.get("target_delimiter", " ")
    key = (file.task, line["doc_id"], item_hash(line, file.path))
    return key, item_of(line, metric, delimiter)
