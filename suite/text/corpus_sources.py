"""Rows of training data from text files and JSON Lines, their text exactly as it is stored.

They are read here and not through `datasets`, because that library guesses the types of fields
(texts that look like dates become dates), copies all data into its cache, and can't say in which
line something is wrong.
"""

from __future__ import annotations

import contextlib
import glob
import gzip
import hashlib
import itertools
import json
import reprlib
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from suite.errors import ConfigError, TextError

_KINDS = {
    ".jsonl": "JSON Lines",
    ".json": "JSON Lines",
    ".jsonl.gz": "JSON Lines",
    ".txt": "text",
    ".md": "text",
    ".parquet": "parquet",
}
_ACCEPTED = ", ".join(_KINDS)
_SHOWN = 5
_SCAN_BYTES = 1 << 24
_NEWLINE = ord("\n")
_LAST_BLANK = ord(" ")  # every white-space byte is this one or below


@dataclass(frozen=True, slots=True)
class Row:
    """One record of the data; `place` says in messages where it is."""

    place: str
    fields: Mapping[str, Any]


class Rows(Protocol):
    """Data of which any row can be read at once."""

    @property
    def name(self) -> str:
        """Path or hub name, for messages."""

    def __len__(self) -> int:
        """Number of rows."""

    def read(self, number: int) -> Row:
        """The row of that number, from 0."""

    def identity(self) -> dict[str, Any]:
        """What the content is, the same on every machine."""


@runtime_checkable
class RowStream(Protocol):
    """Data that is read from front to back and whose length is not known."""

    @property
    def name(self) -> str:
        """Path or hub name, for messages."""

    def read_from(self, number: int) -> Iterator[Row]:
        """The rows from that number on, in the data's own order."""

    def identity(self) -> dict[str, Any]:
        """What the content is, the same on every machine."""


def open_files(
    name: str, kind: str, files: tuple[Path, ...], *, streaming: bool
) -> Rows | RowStream:
    """Rows of text files or JSON Lines, as `find_files` gives them.

    Args:
        name: Path or glob that led to the files, for messages.
        kind: `text` or `JSON Lines`.
        files: In the order of their rows.
        streaming: Read from front to back, without an index of the lines.

    Raises:
        ConfigError: These files can't be read in this way.
    """
    if kind == "text":
        if streaming:
            raise ConfigError(
                f"{name}: text files are read one at a time as they are; leave streaming out"
            )
        return TextFiles(name, files)
    if streaming:
        return JsonLinesStream(name, files)
    for file in files:
        if _suffix(file) == ".jsonl.gz":
            raise ConfigError(
                f"{file}: a compressed file is only read from front to back; set streaming: true"
                " or unpack it"
            )
    return JsonLines(name, files)


def find_files(path: Path) -> tuple[str, tuple[Path, ...]]:
    """The kind of file and the files behind a path, sorted by name.

    A folder stands for the files directly in it that are of a known kind; a glob may go deeper
    (`**`). Hidden files are left out.

    Raises:
        ConfigError: Nothing there, an unknown kind, or several kinds.
    """
    if path.is_dir():
        with readable(path):
            inside = [file for file in path.iterdir() if not file.name.startswith(".")]
        found = [file for file in inside if file.is_file() and _suffix(file)]
        deeper = sorted(file.name for file in inside if file.is_dir())
        left_out = f" (subfolders are not read: {_few(deeper)})" if deeper else ""
        nothing = f"{path}: no file in it that can be read{left_out}; accepted: {_ACCEPTED}"
    elif path.exists() or not glob.has_magic(str(path)):
        found = [path] if path.exists() else []
        nothing = f"{path}: no such file or folder"
    else:
        matches = map(Path, glob.glob(str(path), recursive=True))
        found = [file for file in matches if file.is_file()]
        nothing = f"{path}: no file matches"
    if not found:
        raise ConfigError(nothing)
    files = sorted(found, key=lambda file: file.as_posix())
    first_of: dict[str, Path] = {}
    for file in files:
        suffix = _suffix(file)
        if suffix is None:
            raise ConfigError(f"{file}: unknown kind of file; accepted: {_ACCEPTED}")
        first_of.setdefault(_KINDS[suffix], file)
    if len(first_of) > 1:
        names = " and ".join(file.name for file in first_of.values())
        raise ConfigError(
            f"{path}: files of different kinds ({names}); give a glob that matches one kind"
        )
    return next(iter(first_of)), tuple(files)


def _few(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def missing_field(place: str, field: str, known: Sequence[str]) -> ConfigError:
    """The error for a field that the data doesn't have."""
    return ConfigError(
        f"{place}: no field {field!r}; fields there are: {', '.join(known) or 'none'}"
    )


@dataclass(frozen=True)
class TextFiles:
    """Each file is one row with the field `text`, the file's bytes read as UTF-8."""

    name: str
    files: tuple[Path, ...]

    def __len__(self) -> int:
        """Number of files."""
        return len(self.files)

    def read(self, number: int) -> Row:
        """A file's text; line ends and a byte order mark are kept.

        Raises:
            ConfigError: The file can't be read.
            TextError: It is not UTF-8.
        """
        file = self.files[number]
        with readable(file):
            data = file.read_bytes()
        return Row(str(file), {"text": decoded(data, str(file))})

    def identity(self) -> dict[str, Any]:
        """SHA-256 of each file."""
        return files_identity("text", self.files)


@dataclass(frozen=True)
class JsonLines:
    """One JSON object a line, found by an index of the lines; blank lines are no rows."""

    name: str
    files: tuple[Path, ...]

    @cached_property
    def _indexes(self) -> list[NDArray[np.int64]]:
        return [_index_lines(file) for file in self.files]

    @cached_property
    def _first_numbers(self) -> list[int]:
        return [0, *itertools.accumulate(len(index) for index in self._indexes)]

    def __len__(self) -> int:
        """Number of lines that are not blank."""
        return self._first_numbers[-1]

    def read(self, number: int) -> Row:
        """Parse one line.

        Raises:
            ConfigError: The file can't be read, or the line is not a JSON object.
            TextError: The line is not UTF-8.
        """
        which = bisect_right(self._first_numbers, number) - 1
        file = self.files[which]
        start, end, line = self._indexes[which][number - self._first_numbers[which]].tolist()
        # Opened each time: thousands of files can't stay open, and a fork can't share a place.
        with readable(file), file.open("rb") as opened:
            opened.seek(start)
            data = opened.read(end - start)
        return _parse_line(data, f"{file} line {line}")

    def identity(self) -> dict[str, Any]:
        """SHA-256 of each file."""
        return files_identity("JSON Lines", self.files)


@dataclass(frozen=True)
class JsonLinesStream:
    """As `JsonLines`, read from front to back; compressed files, too."""

    name: str
    files: tuple[Path, ...]

    def read_from(self, number: int) -> Iterator[Row]:
        """Lines before `number` are counted, not parsed; errors as in `JsonLines.read`."""
        return itertools.starmap(_parse_line, itertools.islice(self._lines(), number, None))

    def _lines(self) -> Iterator[tuple[bytes, str]]:
        for file in self.files:
            opening = gzip.open if _suffix(file) == ".jsonl.gz" else open
            with readable(file), opening(file, "rb") as opened:
                for line, data in enumerate(opened, 1):
                    if data.strip():
                        yield data.removesuffix(b"\n"), f"{file} line {line}"

    def identity(self) -> dict[str, Any]:
        """SHA-256 of each file."""
        return files_identity("JSON Lines", self.files)


def _suffix(file: Path) -> str | None:
    return next((suffix for suffix in _KINDS if file.name.lower().endswith(suffix)), None)


def files_identity(kind: str, files: Sequence[Path]) -> dict[str, Any]:
    """SHA-256 of each file's bytes, in order; names and folders don't count.

    Raises:
        ConfigError: A file can't be read.
    """
    digests = []
    for file in files:
        with readable(file), file.open("rb") as opened:
            digests.append(hashlib.file_digest(opened, "sha256").hexdigest())
    return {"kind": kind, "files": digests}


def _index_lines(file: Path) -> NDArray[np.int64]:
    """First byte, byte after the last, and line number of each line that is not blank: [n, 3]."""
    parts = [np.empty((0, 3), np.int64)]
    offset = num_lines = 0
    with readable(file), file.open("rb") as opened:
        while block := opened.read(_SCAN_BYTES):
            block += opened.readline()
            data = np.frombuffer(block, np.uint8)
            ends = np.flatnonzero(data == _NEWLINE)
            if data[-1] != _NEWLINE:
                ends = np.append(ends, len(data))
            starts = np.concatenate(([0], ends[:-1] + 1))
            is_row = np.ones(len(starts), np.bool_)
            for line in np.flatnonzero(data[starts] <= _LAST_BLANK).tolist():
                is_row[line] = bool(block[starts[line] : ends[line]].strip())
            lines = num_lines + 1 + np.arange(len(starts))
            parts.append(np.stack((starts + offset, ends + offset, lines), axis=1)[is_row])
            offset += len(data)
            num_lines += len(starts)
    return np.concatenate(parts)


def _parse_line(data: bytes, place: str) -> Row:
    text = decoded(data, place).removeprefix("\ufeff")
    try:
        fields = json.loads(text)
    except RecursionError as error:
        raise _not_json(place, "nested too deep") from error
    except json.JSONDecodeError as error:
        raise _not_json(place, f"{error.msg}: column {error.colno}") from error
    except ValueError as error:
        raise _not_json(place, "a number with too many digits") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"{place}: expected a JSON object, found {reprlib.repr(fields)}")
    return Row(place, fields)


def _not_json(place: str, reason: str) -> ConfigError:
    return ConfigError(f"{place}: not JSON ({reason}); each line must be one JSON object")


def decoded(data: bytes, place: str) -> str:
    """Bytes as text; `place` says where they are.

    Raises:
        TextError: They are not UTF-8.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextError(
            f"{place}: not UTF-8 at byte {error.start} ({data[error.start]:#04x}); convert it to"
            " UTF-8 first"
        ) from error


@contextlib.contextmanager
def readable(file: Path) -> Iterator[None]:
    """What goes wrong with a file, as a ConfigError that names it."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{file}: cannot be read ({reason})") from error
