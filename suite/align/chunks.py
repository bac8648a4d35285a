"""Chunks: the shortest pieces of a text that several tokenizers delimit (arXiv 2503.20083).

A byte position is shared when every side has a token boundary there; the tokens between two
neighbouring shared positions are a chunk. A chunk is one range of tokens a side, never a row of a
matrix, so that cost is linear in the text's bytes.

Legend: N chunks, T tokens of one side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.align.special import Side, Track, text_side, tracks
from suite.errors import AlignmentError
from suite.text.encoding import Encoding

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class ChunkAlignment:
    """The chunks of one text, in order.

    Attributes:
        teacher_spans: int32 [N, 2], half-open ranges of teacher tokens.
        student_spans: int32 [N, 2], half-open ranges of student tokens.
        byte_spans: int32 [N, 2], half-open, in the teacher's text; empty for special tokens.
        num_unmatched_teacher: Special tokens of the teacher without counterpart, in no chunk.
        num_unmatched_student: Special tokens of the student without counterpart, in no chunk.
        num_broken: Chunks left out because only one side has something inside them: a special
            token, or text of its chat template.
        num_template_bytes_teacher: Text of the teacher's chat template without counterpart.
        num_template_bytes_student: Text of the student's chat template without counterpart.
    """

    teacher_spans: Ints
    student_spans: Ints
    byte_spans: Ints
    num_unmatched_teacher: int = 0
    num_unmatched_student: int = 0
    num_broken: int = 0
    num_template_bytes_teacher: int = 0
    num_template_bytes_student: int = 0

    def __len__(self) -> int:
        """Number of chunks."""
        return len(self.teacher_spans)


def align_chunks(teacher: Encoding, student: Encoding) -> ChunkAlignment:
    """The chunks of one text under two tokenizers.

    Without special tokens they tile the text. Special tokens are matched by role. A token that
    covers no byte, such as a dummy prefix space, belongs to the chunk that follows it.

    Raises:
        AlignmentError: The two encode different texts; says the byte where they part.
    """
    return align_all([teacher], student)[0]


def align_all(teachers: Sequence[Encoding], student: Encoding) -> list[ChunkAlignment]:
    """The chunks that several teachers and a student all delimit: one alignment a teacher.

    All of them have the same student spans and byte spans.

    Raises:
        AlignmentError: A teacher encodes another text than the student.
    """
    for teacher in teachers:
        if teacher.text != student.text:
            raise AlignmentError(_parting(teacher.text, student.text))
    encodings = (*teachers, student)
    starts = [encoding.byte_spans[:, 0] for encoding in encodings]
    size = len(student.text)
    if any(_has_empty(own, size) for own in starts):
        return align_sides([text_side(encoding) for encoding in encodings], teachers)
    spans, bytes_ = _align_starts(starts, size)
    return [ChunkAlignment(own, spans[-1], bytes_) for own in spans[:-1]]


def align_each(teachers: Sequence[Encoding], students: Sequence[Encoding]) -> list[ChunkAlignment]:
    """`align_chunks` for many texts: one pass over all of them instead of one over each.

    Raises:
        AlignmentError: The two sides of a text differ.
    """
    return [found for (found,) in align_all_each(list(zip(teachers, students, strict=True)))]


def align_all_each(texts: Sequence[Sequence[Encoding]]) -> list[list[ChunkAlignment]]:
    """`align_all` for many texts: one pass over all of them instead of one over each.

    Args:
        texts: For each text its encodings by the teachers, then by the student; of as many teachers
            everywhere.

    Raises:
        AlignmentError: The sides of a text differ.
    """
    for *teachers, student in texts:
        for teacher in teachers:
            if teacher.text != student.text:
                raise AlignmentError(_parting(teacher.text, student.text))
    if not texts:
        return []
    sizes = [len(sides[-1].text) for sides in texts]
    columns = list(zip(*texts, strict=True))
    starts = [_joined_starts(column, sizes) for column in columns]
    if any(_has_empty(own, sum(sizes)) for own in starts):
        # Special tokens at the end of one text and the beginning of the next would meet.
        return [align_all(teachers, student) for *teachers, student in texts]
    spans, bytes_ = _align_starts(starts, sum(sizes))
    # No chunk crosses a text's end, because all sides have a boundary there.
    behind = np.searchsorted(bytes_[:, 0], np.cumsum(sizes))
    counts = np.diff(behind, prepend=0)
    lengths = [[len(encoding) for encoding in column] for column in columns]
    *teacher_spans, student_spans, byte_spans = (
        joined - np.repeat(_starts(own), counts)[:, None]
        for joined, own in zip((*spans, bytes_), (*lengths, sizes), strict=True)
    )
    return [
        [
            ChunkAlignment(own[start:stop], student_spans[start:stop], byte_spans[start:stop])
            for own in teacher_spans
        ]
        for start, stop in pairwise([0, *behind.tolist()])
    ]


def align_sides(sides: Sequence[Side], teachers: Sequence[Encoding]) -> list[ChunkAlignment]:
    """As `align_all` for sides in shared coordinates; the last one is the student's."""
    units = tracks(sides)
    size = 1 + max((int(unit.stops[-1]) for unit in units if len(unit.stops)), default=0)
    shared = _shared([unit.starts for unit in units], size)
    spans, stops, whole = zip(*map(_unit_chunks, units, shared), strict=True)
    is_sound = np.logical_and.reduce(whole)
    for other in stops[1:]:
        is_sound &= other == stops[0]
    alignments = []
    for m, teacher in enumerate(teachers):
        bytes_ = teacher.byte_spans[spans[m] - [0, 1], [0, 1]]
        alignments.append(
            ChunkAlignment(
                teacher_spans=spans[m][is_sound],
                student_spans=spans[-1][is_sound],
                byte_spans=bytes_[is_sound],
                num_unmatched_teacher=units[m].num_unmatched,
                num_unmatched_student=units[-1].num_unmatched,
                num_broken=int(np.count_nonzero(~is_sound)),
            )
        )
    return alignments


def all_spans(alignments: Sequence[ChunkAlignment]) -> list[Ints]:
    """The tokens of each chunk on every side, from what `align_all` gives; the student's last."""
    return [*(one.teacher_spans for one in alignments), alignments[0].student_spans]


def _has_empty(starts: Ints, size: int) -> bool:
    """Whether some token covers no byte: a special one or a dummy space.

    Args:
        starts: Where the tokens of a text begin.
        size: Where the text ends.
    """
    return len(starts) > 0 and (starts[-1] == size or bool((starts[1:] == starts[:-1]).any()))


def _align_starts(all_starts: Sequence[Ints], size: int) -> tuple[list[Ints], Ints]:
    """The chunks of texts that all sides tile: tokens of each side, and bytes."""
    shared = _shared(all_starts, size)
    spans = [_to_spans(first, len(own)) for first, own in zip(shared, all_starts, strict=True)]
    return spans, _to_spans(all_starts[-1][shared[-1]], size)


def _joined_starts(encodings: Sequence[Encoding], sizes: Sequence[int]) -> Ints:
    """Where the tokens of many texts begin if the texts follow each other."""
    starts = np.concatenate([encoding.byte_spans[:, 0] for encoding in encodings])
    starts += np.repeat(_starts(sizes), [len(encoding) for encoding in encodings])
    return starts


def _starts(lengths: Sequence[int]) -> Ints:
    """Where parts of such lengths begin if they follow each other."""
    return np.cumsum(lengths, dtype=np.int32) - np.array(lengths, np.int32)


def _shared(all_starts: Sequence[Ints], size: int) -> list[NDArray[np.intp]]:
    """On each side, the indices of the units that begin where a unit begins on all sides.

    Args:
        all_starts: For each side its units' starts, strictly rising.
        size: Above the last start.
    """
    # The side with the fewest boundaries asks; each other side answers from a table of positions.
    asking = min(range(len(all_starts)), key=lambda m: len(all_starts[m]))
    positions = all_starts[asking]
    found: list[NDArray[Any] | None] = []
    is_shared = None
    for m, starts in enumerate(all_starts):
        if m == asking or len(starts) == size:
            # As many units as positions: there is a boundary at each, as in a text read as bytes.
            found.append(None if m == asking else positions)
            continue
        index_at = np.full(size, -1, np.int32)
        index_at[starts] = np.arange(len(starts), dtype=np.int32)
        index = index_at[positions]
        found.append(index)
        answer = index >= 0
        is_shared = answer if is_shared is None else is_shared & answer
    own = np.arange(len(positions)) if is_shared is None else np.flatnonzero(is_shared)
    return [own if index is None else index if is_shared is None else index[own] for index in found]


def _to_spans(starts: NDArray[np.integer], stop: int) -> Ints:
    """Half-open spans from each start to the next one, the last to `stop`, int32 [N, 2]."""
    spans = np.empty((len(starts), 2), np.int32)
    spans[:, 0] = starts
    spans[:-1, 1] = starts[1:]
    spans[-1:, 1] = stop
    return spans


def _unit_chunks(unit: Track, first: NDArray[np.intp]) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Of each chunk: its tokens [N, 2], where it ends, whether no token in its range is left out.

    Args:
        unit: A side's units.
        first: Index of the unit each chunk begins with. [N]
    """
    last = np.append(first, len(unit.starts))[1:] - 1
    spans = np.stack([unit.tokens[first, 0], unit.tokens[last, 1]], axis=1)
    tokens_before = np.concatenate([[0], np.cumsum(unit.num_tokens)])
    whole = tokens_before[last + 1] - tokens_before[first] == spans[:, 1] - spans[:, 0]
    return spans, unit.stops[last], whole


def _parting(teacher: bytes, student: bytes) -> str:
    size = min(len(teacher), len(student))
    differs = np.frombuffer(teacher[:size], np.uint8) != np.frombuffer(student[:size], np.uint8)
    place = int(differs.argmax()) if differs.any() else size
    pieces = [
        repr(text[place : place + 20].decode(errors="replace")) for text in (teacher, student)
    ]
    return (
        f"teacher and student encode different texts: they part at byte {place}, where the teacher"
        f" has {pieces[0]} and the student {pieces[1]}; normalise and render a text once for both"
    )
