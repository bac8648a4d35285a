"""What a training row holds: plain arrays of each side and of the chunks that all sides share.

Legend: T tokens of one side of a row, N chunks of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from suite.align.cut import Piece
from suite.text.corpus import Position

Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RowSide:
    """One side of a row.

    Attributes:
        ids: int32 [T].
        position_ids: int32 [T]; in isolated rows they start at 0 at each document. A model keeps
            documents apart only if it gets these, no attention mask and `use_cache=False`.
        loss_mask: bool [T], True where a token has a log-probability that losses count: it is in a
            completion and not the first of its document.
    """

    ids: Ints
    position_ids: Ints
    loss_mask: Bools


@dataclass(frozen=True, eq=False)
class RowChunks:
    """The chunks of a row.

    Attributes:
        teacher_spans: int32 [N, 2], tokens of the row's teacher side.
        student_spans: int32 [N, 2], tokens of the row's student side.
        num_bytes: int32 [N], bytes of text.
        is_begin: bool [N], the begin tokens of all sides: without log-probability, in no group.
        closes: bool [N], a group must end here: the document does, or the next chunk is left out.
        in_completion: bool [N], all of its text is in a completion.
        more_teacher_spans: The same for each further teacher, int32 [N, 2].
    """

    teacher_spans: Ints
    student_spans: Ints
    num_bytes: Ints
    is_begin: Bools
    closes: Bools
    in_completion: Bools
    more_teacher_spans: tuple[Ints, ...] = ()

    @property
    def spans(self) -> tuple[Ints, ...]:
        """Of all sides: the teacher's, those of further teachers, the student's."""
        return (self.teacher_spans, *self.more_teacher_spans, self.student_spans)

    def with_spans(self, spans: Iterable[Ints]) -> RowChunks:
        """The same chunks in other tokens of all sides, in the order of `spans`."""
        teacher, *more, student = spans
        return replace(
            self, teacher_spans=teacher, student_spans=student, more_teacher_spans=tuple(more)
        )


@dataclass(frozen=True)
class RowCounts:
    """What a row holds and what was left out; they add up with `+`.

    Attributes:
        num_rows: Rows.
        num_bytes: Bytes of the teacher's text.
        num_teacher_tokens: Begin tokens included.
        num_student_tokens: Begin tokens included.
        num_chunks: Chunks kept.
        num_crossing: Chunks left out because they cross a cut.
        num_first: Chunks left out because they hold the first token of a document on some side.
    """

    num_rows: int = 0
    num_bytes: int = 0
    num_teacher_tokens: int = 0
    num_student_tokens: int = 0
    num_chunks: int = 0
    num_crossing: int = 0
    num_first: int = 0

    def __add__(self, other: RowCounts) -> RowCounts:
        """The counts over both."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return RowCounts(*(mine + yours for mine, yours in pairs))

    def padding_share(self, length: int) -> float | None:
        """Share of the teacher's places that hold no token; None without rows."""
        places = self.num_rows * length
        return 1 - self.num_teacher_tokens / places if places else None


@dataclass(frozen=True, eq=False)
class Row:
    """One training sequence.

    Attributes:
        pieces: What it holds; `Piece.document` counts documents from where reading began.
        documents: Their numbers in the data.
        teacher: The teacher's tokens; the same for every student and every further teacher.
        student: The student's tokens.
        chunks: What all sides share.
        counts: Of this row.
        resume: The corpus position from which to read on behind the row.
        resume_token: The teacher token to go on with in the first document from there.
        more_teachers: The tokens of further teachers.
    """

    pieces: tuple[Piece, ...]
    documents: tuple[int, ...]
    teacher: RowSide
    student: RowSide
    chunks: RowChunks
    counts: RowCounts
    resume: Position
    resume_token: int
    more_teachers: tuple[RowSide, ...] = ()


def concatenate_chunks(parts: Sequence[RowChunks]) -> RowChunks:
    """The chunks of several parts of the same sides, in order."""
    more = zip(*(part.more_teacher_spans for part in parts), strict=True)
    names = {column.name for column in fields(RowChunks)} - {"more_teacher_spans"}
    return RowChunks(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
        more_teacher_spans=tuple(map(np.concatenate, more)),
    )


NO_CHUNKS = RowChunks(
    teacher_spans=np.zeros((0, 2), np.int32),
    student_spans=np.zeros((0, 2), np.int32),
    num_bytes=np.zeros(0, np.int32),
    is_begin=np.zeros(0, np.bool_),
    closes=np.zeros(0, np.bool_),
    in_completion=np.zeros(0, np.bool_),
)
BEGIN_CHUNK = RowChunks(
    teacher_spans=np.array([[0, 1]], np.int32),
    student_spans=np.array([[0, 1]], np.int32),
    num_bytes=np.zeros(1, np.int32),
    is_begin=np.ones(1, np.bool_),
    closes=np.zeros(1, np.bool_),
    in_completion=np.zeros(1, np.bool_),
)
