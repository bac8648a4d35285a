"""Two aligned token rows as one HTML file that needs no server, no network and no other file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache

from markupsafe import Markup, escape

from suite.report.alignment_record import (
    LINE_END,
    AlignmentView,
    Segment,
    TokenView,
    counted,
    ends_line,
    segments,
    size_line,
    visible,
)
from suite.report.page import render_page

LINE_BREAK = "<br>"


def render_alignment_page(view: AlignmentView) -> str:
    """The whole page: pointing at a chunk lights its tokens in both rows."""
    sides = (
        ("Teacher", view.teacher_name, view.teacher_tokens),
        ("Student", view.student_name, view.student_tokens),
    )
    return render_page(
        "alignment.html.j2",
        styles=["style.css", "alignment.css"],
        script="alignment.js",
        view=view,
        note=size_line(view),
        rows=[
            (side, name, counted(len(tokens), "token"), row_markup(tokens))
            for side, name, tokens in sides
        ],
        num_chunks=counted(len(view.chunks), "chunk"),
        chunks=_script_data(view),
    )


def row_markup(tokens: Sequence[TokenView]) -> Markup:
    """One row: a `b` with the number of its chunk for each chunk, an `i` for each token in it.

    Short tags, and none around the token of a chunk of one, because a long text has a hundred
    thousand tokens. The white space between two chunks lets a line break there.
    """
    return Markup("\n".join(map(_segment, segments(tokens))))


def _segment(segment: Segment) -> str:
    first = segment.tokens[0]
    end = LINE_BREAK if segment.ends_line else ""
    if segment.chunk is None:
        return _outside(first) + end
    if len(segment.tokens) == 1 and first.role is None:
        inside = _lines(first.text)
    else:
        inside = "".join(_inside(segment.tokens, i) for i in range(len(segment.tokens)))
    return f"<b data-c={segment.chunk}>{inside}</b>{end}"


def _inside(tokens: Sequence[TokenView], index: int) -> str:
    """A token in a chunk; the line break after a chunk's last token is outside the chunk."""
    token = tokens[index]
    if token.chunk is None:
        return _outside(token)
    is_last = index == len(tokens) - 1
    end = LINE_BREAK if not is_last and ends_line(tokens, index) else ""
    if token.role is None:
        return f"<i>{_lines(token.text)}</i>{end}"
    return f"<i class=s>{_lines(token.text)}{_role(token.role)}</i>{end}"


def _outside(token: TokenView) -> str:
    """A token that belongs to no chunk, with its id, which no chunk's entry lists."""
    if token.role is None:
        return f"<i class=x data-id={token.id}>{_lines(token.text)}</i>"
    return f'<i class="x s" data-id={token.id}>{_lines(token.text)}{_role(token.role)}</i>'


def _role(role: str) -> str:
    return f"<small>({escape(role)})</small>"


@lru_cache(maxsize=4096)
def _lines(text: str) -> str:
    """A token's text, escaped here because the row reaches the template as markup."""
    return LINE_BREAK.join(str(escape(visible(line))) for line in LINE_END.split(text))


def _script_data(view: AlignmentView) -> Markup:
    """What the status line says of each chunk, as JSON that cannot end the element it is in."""
    ids = [_ids_by_chunk(tokens) for tokens in (view.teacher_tokens, view.student_tokens)]
    entries = [
        (
            visible(chunk.text),
            chunk.is_special,
            chunk.num_bytes,
            *(chunk.num_teacher, ids[0][index]),
            *(chunk.num_student, ids[1][index]),
        )
        for index, chunk in enumerate(view.chunks)
    ]
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _ids_by_chunk(tokens: Sequence[TokenView]) -> dict[int, list[int]]:
    ids: dict[int, list[int]] = {}
    for token in tokens:
        if token.chunk is not None:
            ids.setdefault(token.chunk, []).append(token.id)
    return ids
