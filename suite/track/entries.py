"""An entry of a series: which run a checkpoint's scores are, as one small JSON file."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.errors import ConfigError, RecordError
from suite.records import RunRecord
from suite.results.samples_file import open_samples
from suite.track.fingerprint import ReadTables, scores_fingerprint

SCHEMA_VERSION = 1
_SERIES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Entry:
    """One run in a series.

    Attributes:
        series: The series' name.
        step: Where in the series the run stands; None for a pinned run that stands nowhere in it.
        model: The model's name in the run.
        run: The run's folder.
        results: Names of the results files below `run`.
        files: Names of these and of the samples files below `run`, and the SHA-256 of each.
        fingerprint: Of the scores in them, see `scores_fingerprint`.
    """

    series: str
    step: int | None
    model: str
    run: Path
    results: tuple[str, ...]
    files: Mapping[str, str]
    fingerprint: str

    def is_same(self, other: Entry) -> bool:
        """Whether both are one model with the same scores, wherever and whenever written."""
        return (self.model, self.fingerprint) == (other.model, other.fingerprint)

    @property
    def results_files(self) -> tuple[Path, ...]:
        """The files with scores, without those of single items."""
        return tuple(self.run / name for name in self.results)


def check_series_name(name: str) -> str:
    """The name, if a folder can be called so.

    Raises:
        ConfigError: It cannot.
    """
    if not _SERIES.fullmatch(name):
        raise ConfigError(
            f"--series {name!r}: a series is named by up to 100 letters, digits, dots, hyphens and"
            " underscores, the first a letter or digit; give another name"
        )
    return name


def entry_of(
    run: Path,
    records: Sequence[RunRecord],
    series: str,
    step: int | None,
    read_tables: ReadTables,
) -> Entry:
    """The entry of a run: the results files of one model's records, and their samples files.

    Args:
        run: The folder that was given, or one results file.
        records: At least one, all of one model and with files.
        series: The series.
        step: Where in it the run stands.
        read_tables: The items of a record.

    Raises:
        RecordError: A file cannot be read.
    """
    folder = (run if run.is_dir() else run.parent).absolute()
    results, files, model = set(), {}, ""
    for record in records:
        model, own = record.model, Path(str(record.file)).absolute()
        results.add(own.relative_to(folder).as_posix())
        for path in (own, *(samples.path for samples in open_samples(record))):
            name = path.absolute().relative_to(folder).as_posix()
            if name not in files:
                files[name] = file_hash(path)
    return Entry(
        series=series,
        step=step,
        model=model,
        run=Path(os.path.normpath(folder)),
        results=tuple(sorted(results)),
        files=dict(sorted(files.items())),
        fingerprint=scores_fingerprint(records, read_tables),
    )


def file_hash(path: Path, mend: str = "put the run's files back") -> str:
    """SHA-256 (hex) of a file.

    Args:
        path: The file.
        mend: What to do where it cannot be read, as a clause.

    Raises:
        RecordError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecordError(f"{path}: cannot be read ({reason}); {mend}") from error


def check_files(entry: Entry) -> None:
    """Check that an entry's files are what they were when it was written.

    Raises:
        RecordError: One is missing or has changed; says how to go on.
    """
    again = "pin the run again" if entry.step is None else "add the run again with --replace"
    mend = f"put the file back, or {again}"
    for name, expected in entry.files.items():
        if file_hash(entry.run / name, mend) != expected:
            raise RecordError(
                f"{entry.run / name}: changed since series {entry.series} was told of it; {mend}"
            )


def entry_to_json(entry: Entry, base: Path) -> dict[str, Any]:
    """Plain data of an entry; a run below `base` is named from there, so both may be moved."""
    return {
        "schema_version": SCHEMA_VERSION,
        "series": entry.series,
        "step": entry.step,
        "model": entry.model,
        "run": place_from(entry.run, base),
        "results": list(entry.results),
        "files": dict(entry.files),
        "fingerprint": entry.fingerprint,
    }


def place_from(place: Path, base: Path) -> str:
    """A place as it is named from `base`; as a whole path where it is not below it."""
    return place.relative_to(base).as_posix() if place.is_relative_to(base) else str(place)


def entry_from_json(path: Path, base: Path) -> Entry:
    """Read an entry's file.

    Raises:
        RecordError: It is no such file.
    """
    data = read_json_object(path, "add or pin the run again with --replace")
    try:
        files = {str(name): str(value) for name, value in data["files"].items()}
        step = None if data["step"] is None else int(data["step"])
        run = Path(os.path.normpath(base / str(data["run"])))
        results = tuple(str(name) for name in data["results"])
        series, model, fingerprint = (str(data[k]) for k in ("series", "model", "fingerprint"))
        return Entry(series, step, model, run, results, files, fingerprint)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(
            f"{path}: not an entry of a series ({type(error).__name__}: {error}); add or pin the"
            " run again with --replace"
        ) from error


def read_json_object(path: Path, mend: str) -> dict[str, Any]:
    """The keys and values of a small JSON file of this project.

    Args:
        path: The file.
        mend: What to do where it cannot be read, as a clause.

    Raises:
        RecordError: It is not readable JSON with keys and values, or of a later version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecordError(f"{path}: cannot be read ({reason}); {mend}") from error
    except ValueError as error:
        raise RecordError(f"{path}: not readable JSON ({error}); {mend}") from error
    if not isinstance(data, dict):
        raise RecordError(f"{path}: expected keys and values; {mend}")
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"{path}: schema_version is {version!r}, this version of the suite reads"
            f" {SCHEMA_VERSION}; {mend}"
        )
    return data
