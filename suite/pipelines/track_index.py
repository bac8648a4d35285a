"""What a store holds as rows to list, its mirror in the index, and its curves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from suite.errors import ConfigError, RecordError, near_names
from suite.results.index import Rebuilt, ResultsIndex
from suite.track.entries import Entry, entry_to_json
from suite.track.series import Store


@dataclass(frozen=True)
class ListedRun:
    """One run of a series as a list shows it.

    `step` is None for a pinned run that stands nowhere in the series. `look` and `verdict` are
    those of its newest check against the run that is pinned now, None without one.
    """

    series: str
    step: int | None
    model: str
    run: str
    is_pinned: bool
    look: int | None
    verdict: str | None


def list_runs(store: Path, series: str | None = None) -> tuple[ListedRun, ...]:
    """The runs of all series, or of one; the pinned run of a series first where it has no step.

    Raises:
        ConfigError: There is no such series.
        RecordError: A file of the store is damaged.
    """
    found = Store(store)
    names = found.series()
    if series is not None and series not in names:
        known = near_names(series, names) if names else "there is none yet, begin with add"
        raise ConfigError(f"{found.folder} has no series {series}; {known}")
    wanted = names if series is None else (series,)
    return tuple(row for name in wanted for row in _rows(found, name))


def _rows(store: Store, series: str) -> list[ListedRun]:
    pinned, entries = store.pinned(series), store.entries(series)
    stands_there = pinned is None or any(entry.is_same(pinned) for entry in entries)
    alone = [] if pinned is None or stands_there else [pinned]
    checks = {
        check["checkpoint"]: check
        for check in store.checks(series)
        if pinned is not None and check["pinned"] == pinned.fingerprint
    }
    return [_row(entry, pinned, checks.get(entry.fingerprint)) for entry in (*alone, *entries)]


def _row(entry: Entry, pinned: Entry | None, check: dict[str, Any] | None) -> ListedRun:
    return ListedRun(
        series=entry.series,
        step=entry.step,
        model=entry.model,
        run=str(entry.run),
        is_pinned=pinned is not None and entry.is_same(pinned),
        look=None if check is None else check["look"],
        verdict=None if check is None else check["verdict"],
    )


def rows_to_json(rows: Sequence[ListedRun]) -> list[dict[str, Any]]:
    """Plain data of listed runs."""
    return [asdict(row) for row in rows]


def rebuild_index(
    store: Path, folders: Sequence[Path], on_lines: Callable[[int], None]
) -> tuple[Rebuilt, int]:
    """Read all runs anew into the index, and mirror the store's entries in it.

    Args:
        store: The store's folder.
        folders: Folders with runs; the runs of the store's entries are read too.
        on_lines: Called with the number of sample lines read, run by run.

    Returns:
        What was read, and how many entries were mirrored.

    Raises:
        ConfigError: A folder does not exist.
        RecordError: A file of the store is damaged.
    """
    for folder in folders:
        if not folder.exists():
            raise ConfigError(f"{folder} does not exist; give folders with results")
    found = Store(store)
    entries = all_entries(found)
    places = [*folders, *(entry.run for entry in entries)]
    given = list(dict.fromkeys(place.resolve() for place in places if place.exists()))
    apart = [place for place in given if not any(place != o and _within(place, o) for o in given)]
    with ResultsIndex.open() as index:
        rebuilt = index.rebuild(apart, on_lines)
        index.mirror_entries([entry_to_json(entry, found.base) for entry in entries])
    return rebuilt, len(entries)


def all_entries(store: Store) -> list[Entry]:
    """The runs and the pinned runs of all series of a store."""
    entries = []
    for series in store.series():
        pinned = store.pinned(series)
        entries += [pinned] if pinned is not None else []
        entries += store.entries(series)
    return entries


def mirror(store: Path) -> None:
    """Bring the index's mirror of a store up to date; what is damaged is told where it is used."""
    found = Store(store)
    with contextlib.suppress(RecordError), ResultsIndex.open() as index:
        index.mirror_entries([entry_to_json(entry, found.base) for entry in all_entries(found)])


def _within(place: Path, other: Path) -> bool:
    return place.is_relative_to(other)
