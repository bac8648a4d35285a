"""Filling a folder: what shards hold, and that an interrupt at any point changes none of it."""

from __future__ import annotations

import errno
import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_rows import FormulaTeacher, contents, fill, formula, manifest_of, rows_of, sources_of

from suite.align.collate import collate
from suite.distill.cache_manifest import MANIFEST_NAME, UNFINISHED_NAME, read_manifest
from suite.distill.cache_shards import read_shard, row_checksum
from suite.distill.cache_writer import CacheWriter
from suite.errors import CacheError, ConfigError, ModelError

LENGTHS = [30, 12, 50, 7, 7, 61, 20, 33, 5, 48, 9, 9, 9, 26, 40]


class CrashError(Exception):
    """Stands for a kill: what is on disk stays, nothing else does."""


@pytest.fixture(scope="module", autouse=True)
def quick_disk() -> Iterator[None]:
    """No test here cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def expected_batches(lengths: list[int], batch_tokens: int, shard_tokens: int) -> list[list[int]]:
    """Row numbers of each batch, from the description of the format."""
    batches: list[list[int]] = []
    in_shard, is_new = 0, True
    for number, length in enumerate(lengths):
        candidate = [*([] if is_new else batches[-1]), number]
        widest = max(lengths[row] for row in candidate)
        if is_new or widest * len(candidate) > batch_tokens:
            batches.append([number])
        else:
            batches[-1] = candidate
        in_shard, is_new = in_shard + length, False
        if in_shard >= shard_tokens:
            in_shard, is_new = 0, True
    return batches


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=12),
    batch_tokens=st.integers(1, 300),
    shard_tokens=st.integers(20, 300),
)
def test_batches_fill_their_budget_and_shards_hold_every_row_in_order(
    lengths: list[int], batch_tokens: int, shard_tokens: int
) -> None:
    rows, teacher = rows_of(lengths), FormulaTeacher()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert fill(folder, rows, teacher, manifest_of(batch_tokens, shard_tokens)) == sum(lengths)
        manifest = read_manifest(folder)
        shards = [read_shard(folder / entry.file) for entry in manifest.shards]
        assert {path.name for path in folder.iterdir()} == {
            MANIFEST_NAME,
            *(entry.file for entry in manifest.shards),
        }
    batches = expected_batches(lengths, batch_tokens, shard_tokens)
    assert teacher.calls == batches
    assert manifest.complete
    assert [entry.tokens for entry in manifest.shards] == [len(shard.token) for shard in shards]
    assert all(entry.tokens >= shard_tokens for entry in manifest.shards[:-1])
    for shard in shards[:-1]:
        assert shard.row_lengths[:-1].sum() < shard_tokens
    assert [shard.facts.is_last for shard in shards] == [False] * (len(shards) - 1) + [True]
    first_rows = [0, *itertools.accumulate(len(shard.row_lengths) for shard in shards)]
    assert [shard.facts.first_row for shard in shards] == first_rows[:-1]
    assert np.concatenate([shard.row_lengths for shard in shards]).tolist() == lengths
    checksums = [row_checksum(row.teacher.ids, row.teacher.position_ids) for row in rows]
    assert np.concatenate([shard.row_checksums for shard in shards]).tolist() == checksums
    for column, place in (("token", 0), ("boundary", 1)):
        values = [
            formula(collate([rows[number] for number in batch]).teacher)[place][
                row, : lengths[number]
            ]
            for batch in batches
            for row, number in enumerate(batch)
        ]
        stored = np.concatenate([getattr(shard, column) for shard in shards])
        np.testing.assert_array_equal(stored, np.concatenate(values).astype(np.float16))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    fill(folder, rows_of(LENGTHS), FormulaTeacher(), manifest_of(80, 100))
    return contents(folder)


@pytest.mark.parametrize("error", [CrashError(), KeyboardInterrupt()], ids=["kill", "Ctrl-C"])
@pytest.mark.parametrize("seconds", [0, 1e9], ids=["saved each batch", "saved each shard"])
def test_an_interrupt_at_any_batch_changes_no_byte(
    tmp_path: Path, uninterrupted: dict[str, bytes], error: BaseException, seconds: float
) -> None:
    rows = rows_of(LENGTHS)
    num_batches = len(expected_batches(LENGTHS, 80, 100))
    for stop_at in range(num_batches):
        folder = tmp_path / str(stop_at)
        stopped = FormulaTeacher(stop_at=stop_at, stop_with=error)
        with pytest.raises(type(error)):
            fill(folder, rows, stopped, manifest_of(80, 100), seconds_between_saves=seconds)
        begun = read_manifest(folder)
        assert begun is None or not begun.complete
        going_on = FormulaTeacher()
        fill(folder, rows, going_on, begun or manifest_of(80, 100))
        assert contents(folder) == uninterrupted
        if seconds == 0 or isinstance(error, KeyboardInterrupt):
            assert len(stopped.calls) + len(going_on.calls) == num_batches


def test_a_second_run_on_a_finished_folder_computes_and_writes_nothing(tmp_path: Path) -> None:
    fill(tmp_path, rows_of(LENGTHS), FormulaTeacher(), manifest_of())
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    def refuse() -> FormulaTeacher:
        raise AssertionError("the teacher is not needed")

    manifest = read_manifest(tmp_path)
    sources = sources_of(rows_of(LENGTHS), refuse)
    assert CacheWriter(tmp_path, manifest, sources).fill() == 0
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times


@pytest.mark.parametrize("harm", ["flip", "remove", "cut"])
def test_only_a_damaged_shard_is_made_anew(
    tmp_path: Path, uninterrupted: dict[str, bytes], harm: str
) -> None:
    rows = rows_of(LENGTHS)
    fill(tmp_path, rows, FormulaTeacher(), manifest_of(80, 100))
    path = tmp_path / "signal-00001.safetensors"
    data = path.read_bytes()
    if harm == "remove":
        path.unlink()
    else:
        path.write_bytes(data[:-1] + (bytes([data[-1] ^ 4]) if harm == "flip" else b""))
    kept = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("signal-*") if p != path}
    teacher = FormulaTeacher()
    manifest = read_manifest(tmp_path)
    assert fill(tmp_path, rows, teacher, manifest) == manifest.shards[1].tokens
    assert contents(tmp_path) == uninterrupted
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("signal-*") if p != path} == kept


def test_a_cache_being_mended_does_not_call_itself_complete(tmp_path: Path) -> None:
    rows = rows_of(LENGTHS)
    fill(tmp_path, rows, FormulaTeacher(), manifest_of(80, 100))
    (tmp_path / "signal-00001.safetensors").unlink()
    stopped = FormulaTeacher(stop_at=1, stop_with=CrashError())
    with pytest.raises(CrashError):
        fill(tmp_path, rows, stopped, read_manifest(tmp_path))
    assert not read_manifest(tmp_path).complete


def test_a_damaged_save_of_an_unfinished_shard_is_not_used(
    tmp_path: Path, uninterrupted: dict[str, bytes]
) -> None:
    rows = rows_of(LENGTHS)
    with pytest.raises(CrashError):
        fill(
            tmp_path, rows, FormulaTeacher(stop_at=1, stop_with=CrashError()), manifest_of(80, 100)
        )
    path = tmp_path / UNFINISHED_NAME
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    fill(tmp_path, rows, FormulaTeacher(), read_manifest(tmp_path))
    assert contents(tmp_path) == uninterrupted


def test_what_a_kill_left_half_written_is_removed(
    tmp_path: Path, uninterrupted: dict[str, bytes]
) -> None:
    for name in (
        ".signal-00001.safetensors.part",
        ".unfinished.safetensors.part",
        ".manifest.json.x7k2",
    ):
        (tmp_path / name).write_bytes(b"half")
    fill(tmp_path, rows_of(LENGTHS), FormulaTeacher(), manifest_of(80, 100))
    assert contents(tmp_path) == uninterrupted


def test_a_full_disk_is_one_sentence_and_costs_nothing_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict[str, bytes]
) -> None:
    rows = rows_of(LENGTHS)
    num_left = 4
    fsync = os.fsync

    def full_later(descriptor: int) -> None:
        nonlocal num_left
        num_left -= 1
        if num_left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_later)
        with pytest.raises(CacheError) as error:
            fill(tmp_path, rows, FormulaTeacher(), manifest_of(80, 100))
    assert str(error.value) == (
        f"{tmp_path}: No space left on device; what is finished is kept, and the same command goes"
        " on once that is mended"
    )
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())
    teacher = FormulaTeacher()
    fill(tmp_path, rows, teacher, read_manifest(tmp_path))
    assert contents(tmp_path) == uninterrupted
    assert teacher.calls[0] != [0]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    def unreadable() -> FormulaTeacher:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "weights.safetensors")

    sources = sources_of(rows_of(LENGTHS), unreadable)
    with pytest.raises(CacheError) as error:
        CacheWriter(tmp_path, manifest_of(), sources).fill()
    assert str(error.value) == (
        "weights.safetensors: Permission denied; what is finished is kept, and the same command"
        " goes on once that is mended"
    )


def test_what_was_saved_of_one_shard_is_not_taken_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict[str, bytes]
) -> None:
    # Killed when a shard is entered, but what was saved of it before is still there.
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.name == UNFINISHED_NAME and path.exists():
            raise CrashError
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(CrashError):
            fill(tmp_path, rows_of(LENGTHS), FormulaTeacher(), manifest_of(80, 100))
    assert (tmp_path / UNFINISHED_NAME).exists()
    assert len(read_manifest(tmp_path).shards) == 1
    fill(tmp_path, rows_of(LENGTHS), FormulaTeacher(), read_manifest(tmp_path))
    assert contents(tmp_path) == uninterrupted


def test_a_text_that_changed_meanwhile_leaves_the_cache_unfinished(tmp_path: Path) -> None:
    def changed() -> None:
        raise CacheError("the text changed while it was read")

    sources = sources_of(rows_of(LENGTHS), FormulaTeacher, confirm=changed)
    with pytest.raises(CacheError, match="the text changed while it was read"):
        CacheWriter(tmp_path, manifest_of(80, 100), sources).fill()
    assert not read_manifest(tmp_path).complete


def test_a_number_that_is_none_names_row_document_and_token(tmp_path: Path) -> None:
    class Broken(FormulaTeacher):
        def signal(self, side, row_numbers):  # type: ignore[no-untyped-def]
            found = super().signal(side, row_numbers)
            if 5 in row_numbers:
                found.log_probs.boundary[list(row_numbers).index(5), 17] = float("nan")
            return found

    with pytest.raises(ModelError) as error:
        fill(tmp_path, rows_of(LENGTHS), Broken(), manifest_of(80, 100))
    assert str(error.value) == (
        "row 5 (of document 2): the teacher's log-probability at token 17 is not a number; compute"
        " it in another dtype"
    )


def test_a_text_without_rows_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        fill(tmp_path, [], FormulaTeacher(), manifest_of())
    assert str(error.value) == (
        "the text makes no rows: its documents are empty or the teacher cannot read them"
    )
    assert list(tmp_path.iterdir()) == []


def test_who_waits_is_told_what_is_done_and_what_was_there(tmp_path: Path) -> None:
    rows = rows_of(LENGTHS)
    with pytest.raises(CrashError):
        fill(
            tmp_path, rows, FormulaTeacher(stop_at=5, stop_with=CrashError()), manifest_of(80, 100)
        )
    told: list[tuple[int, int]] = []
    sources = sources_of(
        rows, FormulaTeacher, lambda place, n: told.append((place.position.index, n))
    )
    num_computed = CacheWriter(tmp_path, read_manifest(tmp_path), sources).fill()
    was_there = [number for _, number in told].index(next(n for _, n in told if n))
    assert [number for _, number in told[:was_there]] == [0] * was_there
    assert was_there > 1
    assert sum(number for _, number in told) == num_computed
    assert told[-1][0] == 0  # of the next epoch


def test_a_manifest_is_readable_and_lists_every_shard(tmp_path: Path) -> None:
    fill(tmp_path, rows_of(LENGTHS), FormulaTeacher(), manifest_of(80, 100))
    data = json.loads((tmp_path / MANIFEST_NAME).read_text(encoding="utf-8"))
    assert data["format"] == "suite teacher cache"
    assert data["complete"] is True
    assert sum(shard["rows"] for shard in data["shards"]) == len(LENGTHS)
    assert sum(shard["tokens"] for shard in data["shards"]) == sum(LENGTHS)
    assert data["settings"] == {"batch_tokens": 80, "shard_tokens": 100}
