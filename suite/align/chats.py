"""Chunks of a conversation that its sides render with different chat templates.

The messages' contents are the same text on all sides and are aligned; special tokens between them
are matched by role; what else a template writes has no counterpart, belongs to no chunk and is
counted.

Legend: T tokens of one side, N chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from suite.align.chunks import ChunkAlignment, align_all, align_sides, all_spans
from suite.align.special import Side
from suite.errors import AlignmentError
from suite.text.chat import ChatEncoding


def align_chats(teacher: ChatEncoding, student: ChatEncoding) -> ChunkAlignment:
    """The chunks of one conversation; with equal renderings, those of its whole text.

    Raises:
        AlignmentError: The two hold different messages.
    """
    return align_all_chats([teacher], student)[0]


def align_all_chats(
    teachers: Sequence[ChatEncoding], student: ChatEncoding
) -> list[ChunkAlignment]:
    """The chunks that several teachers and a student all delimit: one alignment a teacher.

    Raises:
        AlignmentError: A teacher holds other messages than the student.
    """
    encodings = [teacher.encoding for teacher in teachers]
    if all(encoding.text == student.encoding.text for encoding in encodings):
        return align_all(encodings, student.encoding)
    for teacher in teachers:
        _check_contents(teacher, student)
    sides, reaches = zip(*map(_content_side, (*teachers, student)), strict=True)
    found = align_sides(sides, encodings)
    is_sound = ~np.logical_or.reduce(
        [_holds_any(spans, reach) for spans, reach in zip(all_spans(found), reaches, strict=True)]
    )
    return [
        replace(
            one,
            teacher_spans=one.teacher_spans[is_sound],
            student_spans=one.student_spans[is_sound],
            byte_spans=one.byte_spans[is_sound],
            num_broken=one.num_broken + int(np.count_nonzero(~is_sound)),
            num_template_bytes_teacher=teacher.num_template_bytes,
            num_template_bytes_student=student.num_template_bytes,
        )
        for one, teacher in zip(found, teachers, strict=True)
    ]


def _content_side(chat: ChatEncoding) -> tuple[Side, NDArray[np.bool_]]:
    """A side whose coordinates count the bytes of contents alone.

    Returns:
        The side, and which of its tokens hold bytes of a content and of the template, [T]. These
        keep their place, because the tokens beside them begin or end where they do.
    """
    spans, roles = chat.encoding.byte_spans, chat.encoding.roles
    # One empty content before all others, so that each position has a content at or before it.
    starts, stops = np.concatenate([[[0, 0]], chat.content_spans]).T
    before = np.cumsum(stops - starts) - (stops - starts)
    content = np.searchsorted(starts, spans, side="right") - 1
    # What stands between two contents has the place behind the first.
    places = np.minimum(spans, stops[content]) - starts[content] + before[content]
    places = places.astype(np.int32)
    last = stops[content[:, 0]]
    is_inside = (spans[:, 0] < last) & (spans[:, 1] <= last)
    reaches_out = (places[:, 0] < places[:, 1]) & ~is_inside
    side = Side(places[:, 0], places[:, 1], roles, is_shared=is_inside | reaches_out)
    return side, reaches_out


def _holds_any(spans: NDArray[np.int32], is_marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a marked token is in each span of tokens, [N]."""
    num_before = np.concatenate([[0], np.cumsum(is_marked)])
    return num_before[spans[:, 1]] > num_before[spans[:, 0]]


def _check_contents(teacher: ChatEncoding, student: ChatEncoding) -> None:
    counts = len(teacher.content_spans), len(student.content_spans)
    if counts[0] != counts[1]:
        raise AlignmentError(
            f"the teacher's conversation has {counts[0]} messages, the student's {counts[1]};"
            " render the same messages for both"
        )
    pairs = zip(teacher.content_spans, student.content_spans, strict=True)
    for number, (mine, yours) in enumerate(pairs, start=1):
        if teacher.encoding.text[slice(*mine)] != student.encoding.text[slice(*yours)]:
            raise AlignmentError(
                f"message {number} has one content for the teacher and another for the student;"
                " render the same messages for both"
            )
