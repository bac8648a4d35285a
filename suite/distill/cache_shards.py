"""One file of a stored teacher: two float16 numbers for each token of consecutive rows.

A shard is a safetensors file with `token` and `boundary` float16 [T], `row_lengths` uint16 [R]
(uint32 where a length does not fit) and `row_checksums` uint32 [R]. The same rows make the same
bytes.

Legend: R rows, T tokens of all of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from suite.errors import CacheError
from suite.text.corpus import Position

Float16s = NDArray[np.float16]

_COLUMNS = ("token", "boundary", "row_lengths", "row_checksums")


@dataclass(frozen=True)
class Place:
    """Where reading goes on behind a row.

    Attributes:
        position: The corpus position.
        token: The teacher token to go on with in the first document from there.
    """

    position: Position = field(default_factory=Position)
    token: int = 0


@dataclass(frozen=True)
class ShardFacts:
    """What a shard says about itself.

    Attributes:
        first_row: Number of its first row, in the order of reading.
        place: Where reading goes on behind its last row.
        is_last: No rows follow.
    """

    first_row: int = 0
    place: Place = field(default_factory=Place)
    is_last: bool = False


@dataclass(frozen=True, eq=False)
class Shard:
    """What a shard holds.

    Attributes:
        token: float16 [T], natural log-probability of each token.
        boundary: float16 [T], that of a new pre-token behind each token.
        row_lengths: int64 [R].
        row_checksums: uint32 [R], see `row_checksum`.
        facts: Of the shard.
    """

    token: Float16s
    boundary: Float16s
    row_lengths: NDArray[np.int64]
    row_checksums: NDArray[np.uint32]
    facts: ShardFacts


def row_checksum(ids: NDArray[np.integer[Any]], position_ids: NDArray[np.integer[Any]]) -> int:
    """CRC-32 over a row's token ids and position ids as little-endian int32.

    Rows in another order, cut or packed otherwise, differ in it.
    """
    return zlib.crc32(position_ids.astype("<i4").tobytes(), zlib.crc32(ids.astype("<i4").tobytes()))


def join_shards(parts: Sequence[Shard], *, is_last: bool = False) -> Shard:
    """One shard of parts that follow each other; at least one."""
    return Shard(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS},
        facts=ShardFacts(parts[0].facts.first_row, parts[-1].facts.place, is_last),
    )


def write_shard(path: Path, shard: Shard) -> str:
    """Write a shard by a rename, so that a reader or a kill never sees a part of it.

    Returns:
        SHA-256 of the file, in hex.

    Raises:
        OSError: It cannot be written; what was there before is untouched.
    """
    data = _shard_bytes(shard)
    part = part_of(path)
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return hashlib.sha256(data).hexdigest()


def part_of(path: Path) -> Path:
    """Where a shard is written before it gets its name; only a kill leaves it behind."""
    return path.with_name(f".{path.name}.part")


def read_facts(path: Path) -> ShardFacts:
    """What a shard says about itself; its file was checked before.

    Raises:
        CacheError: The file cannot be opened.
    """
    with open_shard(path) as opened:
        return _facts(json.loads(opened.metadata()["shard"]))


def read_shard(path: Path) -> Shard:
    """Read a whole shard and check it against the checksum it carries.

    Raises:
        CacheError: It cannot be opened, or is not what was written.
    """
    with open_shard(path) as opened:
        try:
            tensors = {name: opened.get_tensor(name) for name in _COLUMNS}
            metadata = json.loads(opened.metadata()["shard"])
            checksum = metadata.pop("crc32")
        except (SafetensorError, LookupError, TypeError, ValueError) as error:
            raise CacheError(f"{path} is damaged ({error}); delete it") from error
    if checksum != _crc32(tensors, metadata):
        raise CacheError(f"{path} differs from the checksum in it; delete it")
    lengths = tensors.pop("row_lengths").astype(np.int64)
    return Shard(**tensors, row_lengths=lengths, facts=_facts(metadata))


def open_shard(path: Path) -> Any:
    """Map a shard into memory; a context manager.

    Raises:
        CacheError: It is gone or not readable.
    """
    try:
        return safe_open(path, framework="np")
    except FileNotFoundError as error:
        raise CacheError(f"{path} is gone; put the files of the cache back") from error
    except (OSError, SafetensorError) as error:
        raise CacheError(
            f"{path} cannot be read ({error}); put a whole copy in its place"
        ) from error


def _shard_bytes(shard: Shard) -> bytes:
    fits = shard.row_lengths.max(initial=0) <= np.iinfo(np.uint16).max
    tensors = {name: getattr(shard, name) for name in _COLUMNS}
    tensors["row_lengths"] = shard.row_lengths.astype(np.uint16 if fits else np.uint32)
    metadata = asdict(shard.facts)
    metadata["crc32"] = _crc32(tensors, metadata)
    # One key: the library writes several in an order that changes from process to process.
    data: bytes = save(tensors, metadata={"shard": json.dumps(metadata)})
    return data


def _crc32(tensors: dict[str, NDArray[Any]], metadata: dict[str, Any]) -> int:
    checksum = zlib.crc32(json.dumps(metadata).encode())
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].tobytes(), checksum)
    return checksum


def _facts(metadata: dict[str, Any]) -> ShardFacts:
    place = metadata["place"]
    return ShardFacts(
        first_row=metadata["first_row"],
        place=Place(Position(**place["position"]), place["token"]),
        is_last=metadata["is_last"],
    )
