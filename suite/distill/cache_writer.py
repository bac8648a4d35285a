"""Fills a folder with a teacher's numbers; a kill costs the work since the last save.

What a shard holds depends on the rows and the settings alone, never on where a run was cut off:
batches begin at a shard's first row and do not cross its end, and what is saved of an unfinished
shard ends where a batch does.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from suite.align.collate import collate
from suite.align.rows import Row
from suite.distill.cache_manifest import (
    MANIFEST_NAME,
    UNFINISHED_NAME,
    CacheManifest,
    ShardEntry,
    shard_name,
    write_manifest,
)
from suite.distill.cache_shards import (
    Place,
    Shard,
    ShardFacts,
    join_shards,
    part_of,
    read_facts,
    read_shard,
    row_checksum,
    write_shard,
)
from suite.distill.signals import Teacher
from suite.errors import CacheError, ConfigError, ModelError
from suite.models.manifest import file_sha256

SECONDS_BETWEEN_SAVES = 30.0


@dataclass(frozen=True)
class CacheSources:
    """Where the numbers of a cache come from, and who is told.

    Attributes:
        rows: All rows from a place on, in order.
        teacher: Loads the teacher; called only if there is something to compute.
        on_rows: Told the place behind the rows done so far, and how many of their tokens were
            computed since it was told last; 0 for what was there before.
        confirm: Called before the cache is complete; raises if the text is no longer what it was.
    """

    rows: Callable[[Place], Iterator[Row]]
    teacher: Callable[[], Teacher]
    on_rows: Callable[[Place, int], None]
    confirm: Callable[[], None]


class CacheWriter:
    """Fills one folder: makes what is missing or damaged and keeps the rest."""

    def __init__(
        self,
        folder: Path,
        manifest: CacheManifest,
        sources: CacheSources,
        *,
        seconds_between_saves: float = SECONDS_BETWEEN_SAVES,
    ) -> None:
        """`manifest` is the folder's own, or a new one without shards."""
        self.folder = folder
        self.manifest = manifest
        self._sources = sources
        self._rows = _RowReader(sources.rows)
        self._seconds_between_saves = seconds_between_saves
        self._unfinished_path = folder / UNFINISHED_NAME

    def fill(self) -> int:
        """Make every shard that is missing or damaged.

        Returns:
            How many tokens were computed.

        Raises:
            CacheError: A file cannot be written or read; what was finished before is kept.
            ConfigError: The text makes no rows.
            ModelError: The teacher gives what is not a number.
        """
        try:
            return self._fill()
        except OSError as error:
            raise CacheError(
                f"{error.filename or self.folder}: {error.strerror or error}; what is finished is"
                " kept, and the same command goes on once that is mended"
            ) from error

    def _fill(self) -> int:
        self._remove_leftovers()
        first_row, place, num_computed = 0, Place(), 0
        for number in itertools.count():
            path = self.folder / shard_name(number)
            is_whole = self._is_whole(number, path)
            if not is_whole:
                num_computed += self._make(number, first_row, place)
            facts = read_facts(path)
            first_row, place = first_row + self.manifest.shards[number].rows, facts.place
            if is_whole:
                self._sources.on_rows(place, 0)
            if facts.is_last:
                break
        self._unfinished_path.unlink(missing_ok=True)
        if not self.manifest.complete:
            self._sources.confirm()
            self._enter(self.manifest.shards, complete=True)
        return num_computed

    @cached_property
    def _teacher(self) -> Teacher:
        return self._sources.teacher()

    def _is_whole(self, number: int, path: Path) -> bool:
        shards = self.manifest.shards
        is_there = number < len(shards) and path.is_file()
        return is_there and file_sha256(path) == shards[number].sha256

    def _make(self, number: int, first_row: int, place: Place) -> int:
        """Compute a shard, from a place on, and enter it; returns how many tokens were computed."""
        shard, num_computed = self._compute(first_row, place)
        path = self.folder / shard_name(number)
        entry = ShardEntry(
            file=path.name,
            sha256=self._write(path, shard),
            rows=len(shard.row_lengths),
            tokens=len(shard.token),
        )
        shards = self.manifest.shards
        self._enter((*shards[:number], entry, *shards[number + 1 :]), complete=False)
        self._unfinished_path.unlink(missing_ok=True)
        return num_computed

    def _compute(self, first_row: int, place: Place) -> tuple[Shard, int]:
        settings = self.manifest.settings
        parts = self._saved_parts(first_row)
        if parts:
            place = parts[-1].facts.place
            self._sources.on_rows(place, 0)
        self._rows.seek(place)
        num_rows = sum(len(part.row_lengths) for part in parts)
        num_saved = num_tokens = sum(len(part.token) for part in parts)
        saved = time.monotonic()
        try:
            while num_tokens < settings.shard_tokens and self._rows.ahead is not None:
                room = settings.shard_tokens - num_tokens
                batch = self._rows.take_batch(settings.batch_tokens, room)
                part = compute_part(self._teacher, batch, first_row + num_rows)
                parts.append(part)
                num_rows, num_tokens = num_rows + len(batch), num_tokens + len(part.token)
                self._sources.on_rows(part.facts.place, len(part.token))
                if time.monotonic() - saved >= self._seconds_between_saves:
                    self._write(self._unfinished_path, join_shards(parts))
                    saved = time.monotonic()
        except KeyboardInterrupt:
            if parts:
                self._write(self._unfinished_path, join_shards(parts))
            raise
        if not parts:
            raise ConfigError(
                "the text makes no rows: its documents are empty or the teacher cannot read them"
            )
        is_last = self._rows.ahead is None
        return join_shards(parts, is_last=is_last), num_tokens - num_saved

    def _saved_parts(self, first_row: int) -> list[Shard]:
        """What an earlier run saved of the shard that begins with a row."""
        if not self._unfinished_path.is_file():
            return []
        try:
            shard = read_shard(self._unfinished_path)
        except CacheError:
            return []
        return [shard] if shard.facts.first_row == first_row else []

    def _write(self, path: Path, shard: Shard) -> str:
        # No file without a manifest, and none of a cache that calls itself complete.
        if self.manifest.complete or not (self.folder / MANIFEST_NAME).exists():
            self._enter(self.manifest.shards, complete=False)
        return write_shard(path, shard)

    def _enter(self, shards: tuple[ShardEntry, ...], *, complete: bool) -> None:
        changes = {"complete": complete, "shards": shards}
        self.manifest = self.manifest.model_copy(update=changes)
        write_manifest(self.folder, self.manifest)

    def _remove_leftovers(self) -> None:
        """Remove files that a kill kept from getting their names."""
        for name in ("signal-*.safetensors", UNFINISHED_NAME):
            for path in self.folder.glob(part_of(Path(name)).name):
                path.unlink()
        for path in self.folder.glob(f".{MANIFEST_NAME}.*"):
            path.unlink()


class _RowReader:
    """Rows from any place on, with the next one known; going on where it stands costs nothing."""

    def __init__(self, rows: Callable[[Place], Iterator[Row]]) -> None:
        self._open = rows
        self._place: Place | None = None
        self._rows: Iterator[Row] = iter(())
        self.ahead: Row | None = None

    def seek(self, place: Place) -> None:
        if place != self._place:
            self._place = place
            self._rows = self._open(place)
            self.ahead = next(self._rows, None)

    def take_batch(self, batch_tokens: int, room: int) -> list[Row]:
        """The next rows, at least one.

        Args:
            batch_tokens: Most tokens, padding included.
            room: It ends behind the row with which its tokens reach this number.
        """
        batch: list[Row] = []
        width = num_tokens = 0
        while self.ahead is not None and num_tokens < room:
            length = len(self.ahead.teacher.ids)
            if batch and max(width, length) * (len(batch) + 1) > batch_tokens:
                break
            batch.append(self.ahead)
            width, num_tokens = max(width, length), num_tokens + length
            self._place = place_behind(self.ahead)
            self.ahead = next(self._rows, None)
        return batch


def place_behind(row: Row) -> Place:
    """Where reading goes on behind a row."""
    return Place(row.resume, row.resume_token)


def compute_part(teacher: Teacher, rows: Sequence[Row], first_row: int) -> Shard:
    """The teacher's numbers of consecutive rows, computed as one batch.

    Raises:
        ModelError: One of them is no number.
    """
    side = collate(rows).teacher
    signal = teacher.signal(side, range(first_row, first_row + len(rows))).log_probs
    assert signal.boundary is not None  # a teacher always tells both
    token, boundary = (
        padded.cpu()[side.token_mask].half().numpy() for padded in (signal.token, signal.boundary)
    )
    checksums = [row_checksum(row.teacher.ids, row.teacher.position_ids) for row in rows]
    part = Shard(
        token=token,
        boundary=boundary,
        row_lengths=np.array([len(row.teacher.ids) for row in rows], np.int64),
        row_checksums=np.array(checksums, np.uint32),
        facts=ShardFacts(first_row, place_behind(rows[-1])),
    )
    _check_numbers(part, rows)
    return part


def _check_numbers(part: Shard, rows: Sequence[Row]) -> None:
    wrong = np.flatnonzero(np.isnan(part.token) | np.isnan(part.boundary))
    if not len(wrong):
        return
    stops = np.cumsum(part.row_lengths)
    row = int(np.searchsorted(stops, wrong[0], side="right"))
    place = int(wrong[0] - (stops - part.row_lengths)[row])
    documents = ", ".join(map(str, rows[row].documents))
    raise ModelError(
        f"row {part.facts.first_row + row} (of document {documents}): the teacher's log-probability"
        f" at token {place} is not a number; compute it in another dtype"
    )
