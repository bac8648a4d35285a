"""Text in passages that end where lines do, and text files as documents of one passage each."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.text.corpus_sources import Row, TextFiles, decoded, files_identity, readable

# UTF-8 has no longer character.
LEAST_PASSAGE_BYTES = 4


def cut_passages(text: str, max_bytes: int) -> list[str]:
    """A text in passages, cut behind a line end, or within a line that is too long.

    Args:
        text: Any text.
        max_bytes: Most UTF-8 bytes of a passage, at least 4.

    Returns:
        Passages that joined are the text; none is empty.
    """
    passages: list[str] = []
    for line in text.splitlines(keepends=True):
        for piece in _cut_line(line, max_bytes):
            fits = passages and len(passages[-1].encode()) + len(piece.encode()) <= max_bytes
            if fits:
                passages[-1] += piece
            else:
                passages.append(piece)
    return passages


@dataclass(frozen=True)
class PassageFiles:
    """Each passage of each text file is one row with the field `text`.

    Attributes:
        name: Path or glob that led to the files, for messages.
        files: In the order of their rows.
        max_bytes: Most bytes of a passage.
    """

    name: str
    files: tuple[Path, ...]
    max_bytes: int

    @cached_property
    def _starts(self) -> list[NDArray[np.int64]]:
        """The first byte of each passage of each file, and the file's length."""
        texts = TextFiles(self.name, self.files)
        return [
            _first_bytes(cut_passages(texts.read(number).fields["text"], self.max_bytes))
            for number in range(len(self.files))
        ]

    @cached_property
    def _first_numbers(self) -> list[int]:
        return [0, *itertools.accumulate(len(starts) - 1 for starts in self._starts)]

    def __len__(self) -> int:
        """Number of passages."""
        return self._first_numbers[-1]

    def read(self, number: int) -> Row:
        """The text of a passage.

        Raises:
            ConfigError: The file can't be read.
            TextError: It is not UTF-8.
        """
        which = bisect_right(self._first_numbers, number) - 1
        place = number - self._first_numbers[which]
        start, stop = self._starts[which][place : place + 2].tolist()
        file = self.files[which]
        with readable(file), file.open("rb") as opened:
            opened.seek(start)
            data = opened.read(stop - start)
        where = f"{file} from byte {start}"
        return Row(where, {"text": decoded(data, where)})

    def identity(self) -> dict[str, Any]:
        """SHA-256 of each file, and how it is cut."""
        return files_identity("text", self.files) | {"passage_bytes": self.max_bytes}


def _first_bytes(passages: Sequence[str]) -> NDArray[np.int64]:
    lengths = [len(passage.encode()) for passage in passages]
    return np.array([0, *itertools.accumulate(lengths)], np.int64)


def _cut_line(line: str, max_bytes: int) -> list[str]:
    data, pieces = line.encode(), []
    while data:
        end = min(max_bytes, len(data))
        # Never inside a character.
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(data[:end].decode())
        data = data[end:]
    return pieces
