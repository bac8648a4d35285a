"""How much of a text its chunks cover, and how long the groups get: reported with every run.

Legend: N chunks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suite.align.boundaries import BOUNDARY_BYTES
from suite.align.chunks import ChunkAlignment
from suite.text.encoding import Encoding

# A group this long asks two models to agree on a sentence, not on a word.
LONG_GROUP_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Counts over texts; they add up with `+`.

    Attributes:
        num_bytes: Of the teacher's text.
        num_bytes_in_chunks: Of these, covered by chunks.
        num_chunks: Chunks that cover text.
        num_one_to_one: Of these, with one token on each side.
        num_teacher_tokens: In these chunks.
        num_student_tokens: In these chunks.
        num_special_chunks: Matched special tokens.
        num_unmatched_teacher: Special tokens of the teacher without counterpart.
        num_unmatched_student: Special tokens of the student without counterpart.
        num_broken: Chunks left out around something that only one side has.
        num_template_bytes_teacher: Text of its chat template without counterpart.
        num_template_bytes_student: Text of its chat template without counterpart.
    """

    num_bytes: int = 0
    num_bytes_in_chunks: int = 0
    num_chunks: int = 0
    num_one_to_one: int = 0
    num_teacher_tokens: int = 0
    num_student_tokens: int = 0
    num_special_chunks: int = 0
    num_unmatched_teacher: int = 0
    num_unmatched_student: int = 0
    num_broken: int = 0
    num_template_bytes_teacher: int = 0
    num_template_bytes_student: int = 0

    def __add__(self, other: Coverage) -> Coverage:
        """The counts over both texts."""
        return Coverage(
            **{name: value + getattr(other, name) for name, value in vars(self).items()}
        )

    @property
    def byte_share(self) -> float | None:
        """Share of the bytes that are in chunks; None without text."""
        return _ratio(self.num_bytes_in_chunks, self.num_bytes)

    @property
    def one_to_one_share(self) -> float | None:
        """Share of the chunks with one token on each side; None without chunks."""
        return _ratio(self.num_one_to_one, self.num_chunks)

    @property
    def teacher_tokens_per_chunk(self) -> float | None:
        """Mean number of teacher tokens; None without chunks."""
        return _ratio(self.num_teacher_tokens, self.num_chunks)

    @property
    def student_tokens_per_chunk(self) -> float | None:
        """Mean number of student tokens; None without chunks."""
        return _ratio(self.num_student_tokens, self.num_chunks)


def measure_coverage(alignment: ChunkAlignment, num_bytes: int) -> Coverage:
    """What an alignment of a teacher's text of so many bytes covers."""
    lengths = np.diff(alignment.byte_spans)[:, 0]
    has_text = lengths > 0
    teacher = np.diff(alignment.teacher_spans)[has_text, 0]
    student = np.diff(alignment.student_spans)[has_text, 0]
    return Coverage(
        num_bytes=num_bytes,
        num_bytes_in_chunks=int(lengths.sum()),
        num_chunks=int(has_text.sum()),
        num_one_to_one=int(((teacher == 1) & (student == 1)).sum()),
        num_teacher_tokens=int(teacher.sum()),
        num_student_tokens=int(student.sum()),
        num_special_chunks=int((~has_text).sum()),
        num_unmatched_teacher=alignment.num_unmatched_teacher,
        num_unmatched_student=alignment.num_unmatched_student,
        num_broken=alignment.num_broken,
        num_template_bytes_teacher=alignment.num_template_bytes_teacher,
        num_template_bytes_student=alignment.num_template_bytes_student,
    )


@dataclass(frozen=True, kw_only=True)
class GroupLengths:
    """Groups and their bytes; they add up with `+`.

    Attributes:
        num_groups: Groups that cover text.
        num_bytes: Bytes in these groups.
        longest: Bytes of the longest group.
        num_text_bytes: Bytes of the text they were made of.
    """

    num_groups: int = 0
    num_bytes: int = 0
    longest: int = 0
    num_text_bytes: int = 0

    def __add__(self, other: GroupLengths) -> GroupLengths:
        """The lengths of both sets of groups."""
        return GroupLengths(
            num_groups=self.num_groups + other.num_groups,
            num_bytes=self.num_bytes + other.num_bytes,
            longest=max(self.longest, other.longest),
            num_text_bytes=self.num_text_bytes + other.num_text_bytes,
        )

    @property
    def per_1000_bytes(self) -> float | None:
        """Groups for each 1,000 bytes of text; None without text."""
        return _ratio(1000 * self.num_groups, self.num_text_bytes)

    @property
    def mean_bytes(self) -> float | None:
        """Mean bytes a group; None without groups."""
        return _ratio(self.num_bytes, self.num_groups)

    @property
    def warning(self) -> str | None:
        """What to do where the groups are too long to teach much."""
        if self.mean_bytes is None or self.mean_bytes <= LONG_GROUP_BYTES:
            return None
        return (
            f"a group has {self.mean_bytes:.0f} bytes on average (above {LONG_GROUP_BYTES}), as in"
            " scripts without spaces: the loss would compare whole sentences; set merge: false"
        )


def measure_groups(
    groups: NDArray[np.integer], chunk_bytes: NDArray[np.integer], num_text_bytes: int
) -> GroupLengths:
    """Lengths of the groups of one row.

    Args:
        groups: [N], the group of each chunk; -1 for none.
        chunk_bytes: [N], bytes of each chunk.
        num_text_bytes: Bytes of the row's text.
    """
    lengths = np.bincount(groups[groups >= 0], weights=chunk_bytes[groups >= 0]).astype(np.int64)
    lengths = lengths[lengths > 0]
    return GroupLengths(
        num_groups=len(lengths),
        num_bytes=int(lengths.sum()),
        longest=int(lengths.max(initial=0)),
        num_text_bytes=num_text_bytes,
    )


def white_space_groups(alignment: ChunkAlignment, text: Encoding) -> NDArray[np.int64]:
    """The groups of a teacher that expects a boundary exactly where the text has one, [N].

    An estimate from the text alone, for a look before any model runs.
    """
    stops = alignment.byte_spans[:, 1]
    data = np.frombuffer(text.text + b"\n", np.uint8)
    closes = np.isin(data[stops], np.frombuffer(BOUNDARY_BYTES, np.uint8))
    is_gap = np.append(alignment.teacher_spans[1:, 0] != alignment.teacher_spans[:-1, 1], True)
    is_special = np.diff(alignment.byte_spans)[:, 0] == 0
    closes |= is_gap[: len(closes)] | is_special | np.append(is_special[1:], True)[: len(closes)]
    return np.cumsum(closes) - closes


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
