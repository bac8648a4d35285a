"""One file of a stored teacher: the same bytes each time, whole or not at all, damage found."""

from __future__ import annotations

import errno
import json
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from suite.distill.cache_shards import (
    Place,
    Shard,
    ShardFacts,
    join_shards,
    read_facts,
    read_shard,
    row_checksum,
    write_shard,
)
from suite.errors import CacheError
from suite.text.corpus import Position

FACTS = ShardFacts(first_row=7, place=Place(Position(0, 12), 5), is_last=True)


def shard_of(lengths: list[int], facts: ShardFacts = FACTS) -> Shard:
    size = sum(lengths)
    return Shard(
        token=-np.arange(size, dtype=np.float16),
        boundary=-np.arange(size, dtype=np.float16) / 2,
        row_lengths=np.array(lengths, np.int64),
        row_checksums=np.arange(len(lengths), dtype=np.uint32) + 4_000_000_000,
        facts=facts,
    )


def test_a_shard_comes_back_as_it_was_written(tmp_path: Path) -> None:
    shard = shard_of([3, 1, 4])
    write_shard(tmp_path / "a", shard)
    found = read_shard(tmp_path / "a")
    for name in ("token", "boundary", "row_lengths", "row_checksums"):
        np.testing.assert_array_equal(getattr(found, name), getattr(shard, name))
        assert getattr(found, name).dtype == getattr(shard, name).dtype
    assert found.facts == read_facts(tmp_path / "a") == FACTS


@pytest.mark.parametrize(("longest", "dtype"), [(65_535, "U16"), (65_536, "U32")])
def test_row_lengths_take_two_bytes_unless_one_does_not_fit(
    tmp_path: Path, longest: int, dtype: str
) -> None:
    write_shard(tmp_path / "a", shard_of([2, longest]))
    with safe_open(tmp_path / "a", framework="np") as opened:
        dtypes = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
    assert dtypes == {
        "token": "F16",
        "boundary": "F16",
        "row_lengths": dtype,
        "row_checksums": "U32",
    }
    assert read_shard(tmp_path / "a").row_lengths.tolist() == [2, longest]


def test_the_same_shard_makes_the_same_bytes(tmp_path: Path) -> None:
    hashes = {write_shard(tmp_path / "a", shard_of([3, 1])) for _ in range(50)}
    assert len(hashes) == 1


def test_a_checksum_is_over_ids_and_positions_as_little_endian_int32() -> None:
    ids, positions = [1, 300, 70_000], [0, 1, 0]
    data = struct.pack("<6i", *ids, *positions)
    assert row_checksum(np.array(ids), np.array(positions, np.int32)) == zlib.crc32(data)


@pytest.mark.parametrize(
    ("ids", "positions"),
    [([1, 3, 2], [0, 1, 2]), ([1, 2, 3], [0, 1, 0]), ([1, 2], [0, 1]), ([1, 2, 4], [0, 1, 2])],
    ids=["order", "packing", "cutting", "token"],
)
def test_other_rows_have_other_checksums(ids: list[int], positions: list[int]) -> None:
    expected = row_checksum(np.array([1, 2, 3]), np.array([0, 1, 2]))
    assert row_checksum(np.array(ids), np.array(positions)) != expected


def test_parts_join_to_the_shard_they_are_parts_of(tmp_path: Path) -> None:
    whole = shard_of([3, 1, 4])
    facts = ShardFacts(7, Place(Position(0, 9)))
    parts = [
        Shard(
            *(values[:4] for values in (whole.token, whole.boundary)),
            whole.row_lengths[:2],
            whole.row_checksums[:2],
            facts,
        ),
        Shard(
            *(values[4:] for values in (whole.token, whole.boundary)),
            whole.row_lengths[2:],
            whole.row_checksums[2:],
            replace(FACTS, first_row=9),
        ),
    ]
    joined = join_shards(parts, is_last=True)
    assert write_shard(tmp_path / "a", joined) == write_shard(tmp_path / "b", whole)


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_shard(path, shard_of([3, 1]))
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(CacheError):
            read_shard(path)


def test_a_damaged_number_and_a_missing_file_get_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_shard(path, shard_of([3, 1]))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CacheError) as error:
        read_shard(path)
    assert str(error.value) == f"{path} differs from the checksum in it; delete it"
    path.unlink()
    with pytest.raises(CacheError) as error:
        read_shard(path)
    assert str(error.value) == f"{path} is gone; put the files of the cache back"
    path.write_bytes(data[:40])
    with pytest.raises(CacheError) as error:
        read_shard(path)
    assert str(error.value).startswith(f"{path} cannot be read (Error while deserializing header")
    assert str(error.value).endswith("); put a whole copy in its place")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    before = write_shard(path, shard_of([3, 1])), path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        write_shard(path, shard_of([5]))
    assert path.read_bytes() == before[1]
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_facts_are_readable_text_in_the_header(tmp_path: Path) -> None:
    write_shard(tmp_path / "a", shard_of([3, 1]))
    with safe_open(tmp_path / "a", framework="np") as opened:
        facts = json.loads(opened.metadata()["shard"])
    del facts["crc32"]
    place = {"position": {"epoch": 0, "index": 12}, "token": 5}
    assert facts == {"first_row": 7, "place": place, "is_last": True}
