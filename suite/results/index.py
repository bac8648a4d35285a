"""The local index: what samples files say about items, kept so that no file is parsed twice.

It is a cache of files that stay the truth. Deleting it loses nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from platformdirs import user_cache_path

from suite.errors import ConfigError, RecordError
from suite.records import RunRecord
from suite.results.importer import load_runs
from suite.results.item_columns import DamagedColumnsError, pack_table, unpack_table
from suite.results.item_table import ItemTable
from suite.results.results_file import leaves, read_results, stamp_of
from suite.results.samples_file import read_item_tables

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

# Raised with every change of the tables below or of what the columns mean.
SCHEMA_VERSION = 2
# How long a process waits for another one that writes.
BUSY_SECONDS = 30.0
# SQLite's own limit for one value.
MAX_BLOB_BYTES = 1_000_000_000
# Write-ahead logs need memory shared by all users of a file, which only a local disk gives.
LOCAL_FILE_SYSTEMS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay"}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

_SCHEMA = (
    """CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        file TEXT NOT NULL,
        label TEXT NOT NULL,
        cluster_field TEXT NOT NULL,
        state TEXT NOT NULL,
        UNIQUE (file, label, cluster_field))""",
    """CREATE TABLE item_table (
        run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
        position INTEGER NOT NULL,
        task TEXT NOT NULL,
        filter TEXT NOT NULL,
        columns BLOB NOT NULL,
        PRIMARY KEY (run_id, position))""",
    "CREATE TABLE entry (position INTEGER PRIMARY KEY, series TEXT, content TEXT NOT NULL)",
)


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild read: runs with samples, and one sentence on each that was left out.

    The items of a group in lm-eval's file of many tasks count with its single tasks.
    """

    num_runs: int
    num_lines: int
    seconds: float
    notes: tuple[str, ...]


class ResultsIndex:
    """Items of runs and entries of series in one SQLite file.

    A damaged file, or one of another version, is made anew. Where the file cannot be made or
    written, everything still works from the runs' own files; one warning says so.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._is_writable = True
        self._has_warned = False
        self._connect()

    @classmethod
    def open(cls, path: Path | None = None) -> ResultsIndex:
        """The index at `path`, by default `results-index.sqlite` in the cache folder."""
        return cls(path or _cache_root() / "results-index.sqlite")

    def close(self) -> None:
        """Close the file; the index then reads the runs' own files."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> ResultsIndex:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def tables(
        self, record: RunRecord, *, cluster_field: str | None = None
    ) -> tuple[ItemTable, ...]:
        """The items of a run, one table for each single task and filter; () without samples.

        Parses the samples files only where they have changed since they were last read.

        Raises:
            RecordError: A samples file is not readable.
        """
        members = _single_tasks(record)
        if members:
            found = (self.tables(member, cluster_field=cluster_field) for member in members)
            return tuple(table for tables in found for table in tables)
        state = _state(record)
        if state is None:
            return read_item_tables(record, cluster_field=cluster_field)
        key = (str(record.file), record.label, cluster_field or "")
        stored = self._attempt(lambda connection: _load(connection, key, state))
        if stored is not None:
            return stored
        tables = read_item_tables(record, cluster_field=cluster_field)
        # A file that changed while it was read would be kept under the wrong state.
        if _state(record) == state:
            self._store(key, state, tables)
        return tables

    def rebuild(self, folders: Sequence[Path], on_lines: Callable[[int], None]) -> Rebuilt:
        """Forget all items and read every run below the folders; entries stay.

        Args:
            folders: Folders with results files.
            on_lines: Called with the number of sample lines read, run by run.
        """
        start = time.perf_counter()
        self._write(lambda connection: connection.execute("DELETE FROM run"))
        notes: list[str] = []
        num_runs = num_lines = 0
        for record in _all_runs(folders, notes):
            if _single_tasks(record):
                # Its items are those of other runs of the same file.
                continue
            try:
                tables = self.tables(record)
            except RecordError as error:
                notes.append(str(error))
                continue
            num_runs += bool(tables)
            count = sum(len(table.keys) for table in tables)
            num_lines += count
            on_lines(count)
        return Rebuilt(num_runs, num_lines, time.perf_counter() - start, tuple(notes))

    def mirror_entries(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Replace the mirrored entries of all series by these; each is one JSON file's content."""
        rows = [
            (position, entry.get("series"), json.dumps(entry, ensure_ascii=False))
            for position, entry in enumerate(entries)
        ]

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM entry")
            connection.executemany("INSERT INTO entry VALUES (?, ?, ?)", rows)

        self._write(insert)

    def entries(self, series: str | None = None) -> tuple[dict[str, Any], ...]:
        """The mirrored entries (of one series) in the order they were given."""

        def read(connection: sqlite3.Connection) -> list[tuple[str]]:
            query = "SELECT content FROM entry WHERE ? IS NULL OR series = ? ORDER BY position"
            return connection.execute(query, (series, series)).fetchall()

        return tuple(json.loads(content) for (content,) in self._attempt(read) or ())

    def _store(self, key: tuple[str, str, str], state: str, tables: Sequence[ItemTable]) -> None:
        packed = [(table.task, table.filter, pack_table(table)) for table in tables]
        if any(len(columns) > MAX_BLOB_BYTES for *_, columns in packed):
            return

        def insert(connection: sqlite3.Connection) -> None:
            where = "file = ? AND label = ? AND cluster_field = ?"
            connection.execute(f"DELETE FROM run WHERE {where}", key)
            query = "INSERT INTO run (file, label, cluster_field, state) VALUES (?, ?, ?, ?)"
            run_id = connection.execute(query, (*key, state)).lastrowid
            connection.executemany(
                "INSERT INTO item_table VALUES (?, ?, ?, ?, ?)",
                [(run_id, position, *row) for position, row in enumerate(packed)],
            )

        self._write(insert)

    def _write(self, action: Callable[[sqlite3.Connection], object]) -> None:
        """Run `action` as one transaction, or not at all where the file cannot be written."""

        def write(connection: sqlite3.Connection) -> None:
            with _transaction(connection):
                action(connection)

        if self._is_writable:
            self._attempt(write, is_write=True)

    def _attempt(
        self, action: Callable[[sqlite3.Connection], ResultT], *, is_write: bool = False
    ) -> ResultT | None:
        """The action's result; None without a usable file. Never raises for the file's sake."""
        if self._connection is None:
            return None
        try:
            return action(self._connection)
        except (sqlite3.Error, DamagedColumnsError) as error:
            if _is_damage(error):
                self._make_anew()
            else:
                self._warn(error)
                self._is_writable = False
                if not is_write:
                    self.close()
        return None

    def _connect(self) -> None:
        try:
            self._connection = _connection(self.path)
        except (sqlite3.Error, OSError) as error:
            if _is_damage(error):
                self._make_anew()
            else:
                self._warn(error)

    def _make_anew(self) -> None:
        log.warning("%s is damaged and is made again", self.path)
        self.close()
        try:
            for suffix in ("", "-wal", "-shm", "-journal"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            self._connection = _connection(self.path)
        except (sqlite3.Error, OSError) as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            reason = getattr(error, "strerror", None) or str(error)
            log.warning(
                "%s: cannot be used (%s), so samples files are read each time;"
                " set SUITE_CACHE to a folder that can be written",
                self.path,
                reason,
            )
        self._has_warned = True


def _cache_root() -> Path:
    """`$SUITE_CACHE`, else the platform's cache folder, as for models."""
    given = os.environ.get("SUITE_CACHE")
    return Path(given).expanduser() if given else user_cache_path("alm-suite")


def _connection(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Transactions are begun by hand, because Python's own begin too late for two writers.
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        if _file_system(path.parent.resolve()) in LOCAL_FILE_SYSTEMS:
            # Another process may be opening the file; whoever comes later switches.
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        _ensure_schema(connection)
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _file_system(folder: Path) -> str:
    """The kind of file system a folder is on; "" where the system does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    mounts = [(place, kind) for _, place, kind, *_ in map(str.split, lines)]
    holding = [(len(place), kind) for place, kind in mounts if folder.is_relative_to(place)]
    return max(holding)[1] if holding else ""


def _ensure_schema(connection: sqlite3.Connection) -> None:
    """Make the tables; those of another version are dropped."""
    if _version(connection) == SCHEMA_VERSION:
        return
    with _transaction(connection):
        # Another process may have made them while this one waited.
        if _version(connection) == SCHEMA_VERSION:
            return
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        for (name,) in connection.execute(query).fetchall():
            connection.execute(f'DROP TABLE "{name}"')
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        # Some errors, such as a full disk, have rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _load(
    connection: sqlite3.Connection, key: tuple[str, str, str], state: str
) -> tuple[ItemTable, ...] | None:
    """The stored tables of a run, None where it is not stored in this state of its files."""
    query = "SELECT id FROM run WHERE file = ? AND label = ? AND cluster_field = ? AND state = ?"
    found = connection.execute(query, (*key, state)).fetchone()
    if found is None:
        return None
    rows = connection.execute(
        "SELECT task, filter, columns FROM item_table WHERE run_id = ? ORDER BY position", found
    )
    return tuple(unpack_table(task, filter_name, columns) for task, filter_name, columns in rows)


def _all_runs(folders: Sequence[Path], notes: list[str]) -> Iterator[RunRecord]:
    """Every run below the folders; what cannot be used is added to `notes`."""
    for folder in folders:
        try:
            loaded = load_runs([folder], all_runs=True)
        except (ConfigError, RecordError) as error:
            notes.append(str(error))
        else:
            notes += loaded.notes
            yield from loaded.records


def _single_tasks(record: RunRecord) -> tuple[RunRecord, ...]:
    """The runs of a group's single tasks in lm-eval's file of many tasks; () for any other run.

    This suite writes a file for each run, so its groups are kept whole.
    """
    if record.file is None or record.origin == "suite":
        return ()
    members = read_results(Path(record.file)).get("group_subtasks") or {}
    names = leaves(record.task.task, members)
    if names == (record.task.task,):
        return ()
    return tuple(
        replace(record, label=name, task=replace(record.task, task=name)) for name in names
    )


def _state(record: RunRecord) -> str | None:
    """What the system says of each file that may tell of a run's items; None without any."""
    if record.file is None:
        return None
    results = Path(record.file)
    stamp = stamp_of(results)
    facts = []
    try:
        with os.scandir(results.parent) as files:
            for file in files:
                if stamp in file.name and file.name.endswith((".json", ".jsonl", ".jsonl.gz")):
                    seen = file.stat()
                    # A copy may keep the time and size of another file, not these two.
                    own = (seen.st_ctime_ns, seen.st_ino)
                    facts.append((file.name, seen.st_mtime_ns, seen.st_size, *own))
    except OSError:
        return None
    return json.dumps(sorted(facts))


def _is_damage(error: Exception) -> bool:
    if isinstance(error, sqlite3.Error):
        # Raised by the module itself, an error carries no code.
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
    return isinstance(error, DamagedColumnsError)
