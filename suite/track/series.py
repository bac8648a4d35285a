"""The store of series: a folder of small JSON files, which is the truth about what was added.

STORE/
    SERIES/
        step-00000100.json      a run that was added
        pinned.json             the reference run
        checks/....json         what a check of a checkpoint against the pinned run found

Every file is written by a rename under the series' lock, so two processes may work on one store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from suite.errors import ConfigError, near_names
from suite.files import write_atomically
from suite.track.entries import (
    Entry,
    check_series_name,
    entry_from_json,
    entry_to_json,
    read_json_object,
)

PINNED = "pinned.json"
CHECKS = "checks"
LOCK = ".lock"


class Store:
    """The series below one folder; nothing is made before something is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def series(self) -> tuple[str, ...]:
        """Names of the series that have an entry or a pinned run."""
        if not self.folder.is_dir():
            return ()
        found = [path for path in self.folder.iterdir() if path.is_dir() and self._files(path)]
        return tuple(sorted(path.name for path in found))

    def entries(self, series: str) -> tuple[Entry, ...]:
        """The runs of a series, steps rising.

        Raises:
            RecordError: An entry's file is damaged.
        """
        paths = (self.folder / series).glob("step-*.json")
        found = [entry_from_json(path, self.base) for path in paths]
        return tuple(sorted(found, key=lambda entry: entry.step or 0))

    def newest(self, series: str) -> Entry:
        """The run at the series' highest step.

        Raises:
            ConfigError: The series has none.
        """
        found = self.entries(series)
        if not found:
            raise ConfigError(self._no_series(series, "suite track add"))
        return found[-1]

    def pinned(self, series: str) -> Entry | None:
        """The reference run of a series; None where none is pinned.

        Raises:
            RecordError: Its file is damaged.
        """
        path = self.folder / series / PINNED
        return entry_from_json(path, self.base) if path.is_file() else None

    def no_pinned(self, series: str) -> str:
        """What to say where no run is pinned."""
        return self._no_series(series, "suite track pin", "no pinned run")

    def add(self, entry: Entry, *, replace: bool = False) -> bool:
        """Write an entry; returns whether anything was written.

        The same scores of the same model may be written again, from other files or another place:
        the entry then names those.

        Raises:
            ConfigError: Another run stands at the step, or the store cannot be written.
        """
        assert entry.step is not None, "only a pinned run stands nowhere"
        with self.locked(entry.series):
            path = self.folder / entry.series / f"step-{entry.step:08d}.json"
            if path.is_file() and not replace:
                old = entry_from_json(path, self.base)
                if old == entry:
                    return False
                if not old.is_same(entry):
                    raise ConfigError(
                        f"series {entry.series} has another run at step {entry.step} ({old.model}"
                        f" in {old.run}); give another --step, or --replace"
                    )
            self._write(path, entry_to_json(entry, self.base))
            return True

    def pin(self, entry: Entry) -> None:
        """Make a run the reference of its series; one that was pinned before is replaced.

        Raises:
            ConfigError: The store cannot be written.
        """
        with self.locked(entry.series):
            path = self.folder / entry.series / PINNED
            self._write(path, entry_to_json(entry, self.base))

    def checks(self, series: str) -> tuple[dict[str, Any], ...]:
        """What checks of a series found, the first look first.

        Raises:
            RecordError: A file is damaged.
        """
        paths = sorted((self.folder / series / CHECKS).glob("*.json"))
        found = [
            read_json_object(path, "move it away, its look then counts no more") for path in paths
        ]
        return tuple(sorted(found, key=lambda check: int(check.get("look") or 0)))

    def write_check(self, series: str, name: str, data: Mapping[str, Any]) -> Path:
        """Keep what a check found; one of the same name is replaced.

        Raises:
            ConfigError: The store cannot be written.
        """
        path = self.folder / series / CHECKS / f"{name}.json"
        self._write(path, data)
        return path

    @contextmanager
    def locked(self, series: str) -> Iterator[None]:
        """A series for this process alone; another one waits.

        Raises:
            ConfigError: The name fits no folder, or the store cannot be written.
        """
        folder = self.folder / check_series_name(series)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            ignored = self.folder / ".gitignore"
            if not ignored.exists():
                # All but the locks belongs into version control.
                ignored.write_text(f"{LOCK}\n", encoding="utf-8")
            lock = FileLock(folder / LOCK)
            lock.acquire()
        except OSError as error:
            raise self._not_written(error) from error
        try:
            yield
        finally:
            lock.release()

    @property
    def base(self) -> Path:
        """Runs are named from where the store lies, so that both can be moved together."""
        return self.folder.parent

    def _write(self, path: Path, data: Mapping[str, Any]) -> None:
        text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text)
        except OSError as error:
            raise self._not_written(error) from error

    def _not_written(self, error: OSError) -> ConfigError:
        reason = error.strerror or str(error)
        return ConfigError(f"cannot write to {self.folder} ({reason}); give another --store")

    def _files(self, folder: Path) -> bool:
        return (folder / PINNED).is_file() or any(folder.glob("step-*.json"))

    def _no_series(self, series: str, command: str, lack: str = "no run") -> str:
        known = self.series()
        near = f" ({near_names(series, known)})" if known and series not in known else ""
        return f"series {series} in {self.folder} has {lack}{near}; give it one with {command}"
