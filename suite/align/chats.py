"""Chunks of a conversation that two sides render with different chat templates.

The messages' contents are the same text on both sides and are aligned; special tokens between them
are matched by role; what else a template writes has no counterpart, belongs to no chunk and is
counted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from suite.align.chunks import ChunkAlignment, align_chunks, align_sides
from suite.align.special import Side
from suite.errors import AlignmentError
from suite.text.chat import ChatEncoding


def align_chats(teacher: ChatEncoding, student: ChatEncoding) -> ChunkAlignment:
    """The chunks of one conversation; with equal renderings, those of its whole text.

    Raises:
        AlignmentError: The two hold different messages.
    """
    if teacher.encoding.text == student.encoding.text:
        return align_chunks(teacher.encoding, student.encoding)
    _check_contents(teacher, student)
    alignment = align_sides([_content_side(teacher), _content_side(student)], [teacher.encoding])[0]
    return replace(
        alignment,
        num_template_bytes_teacher=teacher.num_template_bytes,
        num_template_bytes_student=student.num_template_bytes,
    )


def _content_side(chat: ChatEncoding) -> Side:
    """A side whose coordinates count the bytes of contents alone."""
    spans, roles = chat.encoding.byte_spans, chat.encoding.roles
    # One empty content before all others, so that each position has a content at or before it.
    starts, stops = np.concatenate([[[0, 0]], chat.content_spans]).T
    before = np.cumsum(stops - starts) - (stops - starts)
    content = np.searchsorted(starts, spans[:, 0], side="right") - 1
    is_inside = (spans[:, 0] < stops[content]) & (spans[:, 1] <= stops[content])
    # A special token stands behind all of the contents that end before it.
    place = np.minimum(spans[:, 0], stops[content]) - starts[content] + before[content]
    place = place.astype(np.int32)
    return Side(
        starts=place,
        stops=place + np.diff(spans)[:, 0],
        roles=roles,
        is_shared=is_inside,
    )


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
