"""A stored teacher: two float16 numbers a token, read from files instead of computed.

It serves every student of its text, but no loss that needs hidden states.

Legend: B rows, Tt teacher tokens of a row, padding included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from suite.align.collate import BatchSide
from suite.distill.cache_manifest import (
    MANIFEST_NAME,
    CacheManifest,
    check_fingerprints,
    read_manifest,
)
from suite.distill.cache_shards import Float16s, open_shard, read_facts, row_checksum
from suite.distill.signals import TeacherSignal
from suite.errors import CacheError
from suite.likelihood.options import TokenLogProbs
from suite.models.manifest import file_sha256

_COMMAND = "suite cache-teacher"
# Rows are mostly read in order, and every open shard holds a file descriptor.
_OPEN_SHARDS = 8


class TeacherCache:
    """A folder that `suite cache-teacher` has finished; a `Teacher` for exactly its rows.

    `len` is the number of rows. Rows have the numbers of one epoch in the order of reading.

    Attributes:
        folder: Where it lies.
        manifest: What it is valid for, and its shards.
        bytes_per_token: Size of all its files over its tokens.
    """

    def __init__(self, folder: Path, manifest: CacheManifest) -> None:
        """For `open`, which checks first."""
        self.folder = folder
        self.manifest = manifest
        paths = [folder / shard.file for shard in manifest.shards]
        self._paths = paths
        # Row numbers at which shards begin; the last entry is behind the last shard.
        self._first_rows = np.array([0, *accumulate(shard.rows for shard in manifest.shards)])
        columns = [_row_columns(path) for path in paths]
        self._check_chain([len(lengths) for lengths, _ in columns])
        sizes = [path.stat().st_size for path in (folder / MANIFEST_NAME, *paths)]
        self.bytes_per_token = sum(sizes) / manifest.num_tokens
        self._lengths = np.concatenate([lengths for lengths, _ in columns])
        self._checksums = np.concatenate([checksums for _, checksums in columns])
        self._starts = np.concatenate([np.cumsum(own) - own for own, _ in columns])
        self._open_shard = lru_cache(_OPEN_SHARDS)(open_shard)

    @classmethod
    def open(cls, folder: Path | str, expected: Mapping[str, str] | None = None) -> TeacherCache:
        """Check a stored teacher whole, and make its rows available.

        Args:
            folder: As written by `suite cache-teacher`.
            expected: Fingerprints of what it is to be used for (`teacher_fingerprints`); only those
                in it are compared. None compares nothing: the row checksums still tell other rows.

        Raises:
            CacheError: It is missing, unfinished, damaged (names the file) or made for something
                else (names what differs).
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest is None:
            raise CacheError(f"{folder}: no teacher cache there; make one with {_COMMAND}")
        check_fingerprints(folder, manifest.fingerprints, expected or {})
        if not manifest.complete:
            raise CacheError(
                f"{folder}: unfinished, {manifest.num_rows:,} rows with {manifest.num_tokens:,}"
                f" tokens so far; give the same {_COMMAND} command again, it goes on there"
            )
        for shard in manifest.shards:
            _check_file(folder / shard.file, shard.sha256)
        return cls(folder, manifest)

    def __reduce__(self) -> tuple[type[TeacherCache], tuple[Path, CacheManifest]]:
        """For worker processes: they open the files themselves."""
        return TeacherCache, (self.folder, self.manifest)

    def _check_chain(self, row_counts: Sequence[int]) -> None:
        """Refuse a manifest that leaves out a shard or miscounts one."""
        facts = [read_facts(path) for path in self._paths]
        fits = facts[-1:] != [] and facts[-1].is_last
        fits &= row_counts == [shard.rows for shard in self.manifest.shards]
        fits &= [own.first_row for own in facts] == self._first_rows[:-1].tolist()
        if not fits:
            raise CacheError(
                f"{self.folder / MANIFEST_NAME} does not fit its shards; make the cache anew"
            )

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._lengths)

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows."""
        return self.manifest.num_tokens

    def row(self, number: int) -> tuple[Float16s, Float16s]:
        """The two numbers of each token of a row, float16 [T]: `token` and `boundary`.

        Raises:
            CacheError: There is no such row, or its file is gone.
        """
        if not 0 <= number < len(self):
            raise CacheError(
                f"{self.folder}: row {number} is not stored, it holds rows 0 to {len(self) - 1}"
                " (one epoch of its text); train on these or make a larger cache"
            )
        shard = int(np.searchsorted(self._first_rows, number, side="right")) - 1
        start = int(self._starts[number])
        stop = start + int(self._lengths[number])
        opened = self._open_shard(self._paths[shard])
        token, boundary = (opened.get_slice(name)[start:stop] for name in ("token", "boundary"))
        return token, boundary

    def signal(self, side: BatchSide, row_numbers: Sequence[int]) -> TeacherSignal:
        """The stored signal for the teacher's side of a batch, see `Teacher.signal`.

        Returns:
            Without hidden states; on the device of `side`.

        Raises:
            CacheError: A row is not stored, or was stored for other tokens; names it.
        """
        ids, positions = side.ids.cpu().numpy(), side.position_ids.cpu().numpy()
        lengths = side.token_mask.sum(dim=1).tolist()
        padded = np.zeros((2, *ids.shape), np.float32)
        for place, (number, length) in enumerate(zip(row_numbers, lengths, strict=True)):
            token, boundary = self.row(number)
            if len(token) != length:
                raise self._other_row(number, f"has {len(token)} tokens there and {length} here")
            checksum = row_checksum(ids[place, :length], positions[place, :length])
            if checksum != self._checksums[number]:
                raise self._other_row(number, "was stored for other tokens")
            padded[:, place, :length] = token, boundary
        values = torch.from_numpy(padded).to(side.ids.device)
        return TeacherSignal(TokenLogProbs(token=values[0], boundary=values[1]))

    def _other_row(self, number: int, what: str) -> CacheError:
        return CacheError(
            f"{self.folder}: row {number} {what}; read the text in the order and rows that the"
            f" cache was made with, or make another one with {_COMMAND}"
        )


def _row_columns(path: Path) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Lengths and checksums of a shard's rows."""
    with open_shard(path) as opened:
        lengths = opened.get_tensor("row_lengths").astype(np.int64)
        return lengths, opened.get_tensor("row_checksums")


def _check_file(path: Path, sha256: str) -> None:
    hint = f"give the same {_COMMAND} command again, which makes it anew"
    try:
        found = file_sha256(path)
    except FileNotFoundError as error:
        raise CacheError(f"{path} is missing; {hint}") from error
    except OSError as error:
        raise CacheError(f"{path}: cannot be read ({error.strerror or error})") from error
    if found != sha256:
        raise CacheError(f"{path} differs from its checksum in {MANIFEST_NAME}; {hint}")
