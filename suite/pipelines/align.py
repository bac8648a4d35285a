"""`suite align`: what two tokenizers make of one text, and how much of it their chunks cover."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from suite.align.boundaries import BoundaryViolations, boundary_violations
from suite.align.chats import align_chats
from suite.align.chunks import ChunkAlignment, align_chunks
from suite.align.coverage import (
    Coverage,
    GroupLengths,
    measure_coverage,
    measure_groups,
    white_space_groups,
)
from suite.errors import ConfigError
from suite.files import write_atomically
from suite.models.tokenizers import open_source
from suite.report.alignment_page import render_alignment_page
from suite.report.alignment_record import AlignmentView, ChunkView, TokenView
from suite.text.chat import encode_chat, pick_templates, template_warnings
from suite.text.corpus import Message
from suite.text.encoding import Encoding, Role
from suite.text.tokenizers import OpenedTokenizer, shared_text


@dataclass(frozen=True)
class AlignOptions:
    """What to align.

    Attributes:
        teacher: A model source, or `bytes:SOURCE`.
        student: A model source, `bytes:SOURCE`, or `bytes` for the bytes of the teacher.
        is_chat: The text is a conversation, a JSON list of messages with role and content.
        parse_special: Read the strings of special tokens in the text as these tokens.
        teacher_roles: Names of roles of the teacher's special tokens, where those found are wrong.
        student_roles: The same for the student's.
    """

    teacher: str
    student: str = "bytes"
    is_chat: bool = False
    parse_special: bool = False
    teacher_roles: Mapping[str, str] = field(default_factory=dict)
    student_roles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TextAlignment:
    """A text as both sides read it, and what is to be said about it."""

    teacher: OpenedTokenizer
    student: OpenedTokenizer
    teacher_encoding: Encoding
    student_encoding: Encoding
    alignment: ChunkAlignment
    num_changed: int
    template_warnings: tuple[str, ...]

    @cached_property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """The coverage report: labels and values."""
        return _facts(self)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know before training on such text."""
        long_groups = self.group_lengths.warning
        return (*self.template_warnings, *([long_groups] if long_groups else []))

    @cached_property
    def group_lengths(self) -> GroupLengths:
        """Of the groups of a teacher that closes them at white space."""
        groups = white_space_groups(self.alignment, self.teacher_encoding)
        lengths = np.diff(self.alignment.byte_spans)[:, 0]
        return measure_groups(groups, lengths, len(self.teacher_encoding.text))


def align_text(text: str, options: AlignOptions) -> TextAlignment:
    """Open both tokenizers and align one text.

    Raises:
        SuiteError: A tokenizer or the text cannot be read exactly; one sentence.
    """
    student_spec = options.student
    if student_spec == "bytes":
        student_spec = f"bytes:{options.teacher.removeprefix('bytes:')}"
    messages = _messages(text) if options.is_chat else ()
    teacher = open_source(options.teacher, "--teacher", options.teacher_roles)
    student = open_source(student_spec, "--student", options.student_roles)
    if options.is_chat:
        return _align_messages(messages, teacher, student)
    shared = shared_text(text, (teacher, student))
    teachers, students = (
        side.encode(shared.text, parse_special=options.parse_special) for side in (teacher, student)
    )
    alignment = align_chunks(teachers, students)
    return TextAlignment(
        teacher,
        student,
        teachers,
        students,
        alignment,
        num_changed=shared.num_changed,
        template_warnings=(),
    )


def read_text(path: Path) -> str:
    """The text of a file, to the byte.

    Raises:
        ConfigError: It cannot be read or is no UTF-8.
    """
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: byte {error.start} is no UTF-8; convert the file first"
        ) from error


def view_alignment(found: TextAlignment, max_bytes: int) -> AlignmentView:
    """What the terminal and the page show: whole chunks within the first `max_bytes` bytes."""
    alignment = found.alignment
    num_shown = int(np.searchsorted(alignment.byte_spans[:, 1], max_bytes, side="right"))
    is_whole = num_shown == len(alignment)
    num_shown = max(num_shown, min(1, len(alignment)))
    shown = None if is_whole else num_shown
    num_bytes = len(found.teacher_encoding.text)
    spans = alignment.byte_spans[:num_shown]
    return AlignmentView(
        teacher_name=found.teacher.name,
        student_name=found.student.name,
        teacher_tokens=_tokens(
            found.teacher, found.teacher_encoding, alignment.teacher_spans, shown
        ),
        student_tokens=_tokens(
            found.student, found.student_encoding, alignment.student_spans, shown
        ),
        chunks=tuple(
            ChunkView(
                text=printable(found.teacher_encoding.text[start:stop]),
                num_teacher=num_teacher,
                num_student=num_student,
                num_bytes=stop - start,
                is_special=start == stop,
            )
            for (start, stop), num_teacher, num_student in zip(
                spans.tolist(),
                np.diff(alignment.teacher_spans)[:, 0].tolist(),
                np.diff(alignment.student_spans)[:, 0].tolist(),
                strict=False,
            )
        ),
        facts=found.facts,
        warnings=found.warnings,
        num_bytes=num_bytes,
        num_bytes_shown=num_bytes if is_whole else int(spans[-1, 1]),
    )


def write_page(path: Path, view: AlignmentView) -> None:
    """Write the page of an alignment.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, render_alignment_page(view))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"--html {path}: cannot be written ({reason})") from error


def printable(data: bytes) -> str:
    """Bytes as text; those that are no UTF-8 as `<0xNN>`."""
    text = data.decode(errors="surrogateescape")
    return "".join(
        f"<0x{ord(char) - 0xDC00:02X}>" if "\udc80" <= char <= "\udcff" else char for char in text
    )


def _align_messages(
    messages: Sequence[Message], teacher: OpenedTokenizer, student: OpenedTokenizer
) -> TextAlignment:
    sides = (teacher, student)
    shared = [shared_text(message.content, sides) for message in messages]
    messages = [Message(m.role, s.text) for m, s in zip(messages, shared, strict=True)]
    templates = pick_templates(teacher, student)
    chats = [
        encode_chat(side, messages, template=template)
        for side, template in zip(sides, templates, strict=True)
    ]
    return TextAlignment(
        teacher,
        student,
        chats[0].encoding,
        chats[1].encoding,
        align_chats(*chats),
        sum(item.num_changed for item in shared),
        template_warnings(*templates),
    )


def _messages(text: str) -> tuple[Message, ...]:
    try:
        found = [Message(item["role"], item["content"]) for item in json.loads(text)]
    except (ValueError, KeyError, TypeError):
        found = []
    if not found or not all(isinstance(part, str) for m in found for part in (m.role, m.content)):
        raise ConfigError(
            '--chat: expected a JSON list such as [{"role": "user", "content": "..."}]'
        )
    return tuple(found)


def _tokens(
    tokenizer: OpenedTokenizer, encoding: Encoding, spans: NDArray[np.int32], shown: int | None
) -> tuple[TokenView, ...]:
    """The tokens of the first `shown` chunks, or of the whole text."""
    stop = len(encoding) if shown is None else int(spans[shown - 1, 1])
    chunk_of: list[int | None] = [None] * len(encoding)
    for chunk, (first, behind) in enumerate(spans[:shown].tolist()):
        chunk_of[first:behind] = [chunk] * (behind - first)
    vocabulary = tokenizer.vocabulary
    tokens = []
    for index in range(stop):
        token, role = int(encoding.ids[index]), Role(encoding.roles[index])
        is_special = role != Role.REGULAR
        string = vocabulary.special.get(token)
        text = string if string is not None else printable(vocabulary.token_bytes[token])
        name = role.name.lower().replace("_", " ") if is_special else None
        tokens.append(TokenView(token, text, name, chunk_of[index]))
    return tuple(tokens)


def _facts(found: TextAlignment) -> tuple[tuple[str, str], ...]:
    coverage = measure_coverage(found.alignment, len(found.teacher_encoding.text))
    facts = [
        ("bytes of text", f"{coverage.num_bytes:,}"),
        ("bytes in chunks", _share(coverage.byte_share)),
        ("chunks", f"{coverage.num_chunks:,}"),
        ("chunks of one token on each side", _share(coverage.one_to_one_share)),
        ("teacher tokens a chunk", _mean(coverage.teacher_tokens_per_chunk)),
        ("student tokens a chunk", _mean(coverage.student_tokens_per_chunk)),
        *_special_facts(coverage),
    ]
    lengths = found.group_lengths
    if lengths.num_groups:
        # Only a model can tell its boundary probabilities; white space is where most of them lie.
        facts += [
            ("groups per 1,000 bytes, by white space", _mean(lengths.per_1000_bytes)),
            ("bytes a group, mean and longest", f"{_mean(lengths.mean_bytes)}, {lengths.longest}"),
        ]
    if found.num_changed:
        facts.append(("characters replaced (normal form)", f"{found.num_changed:,}"))
    for side, tokenizer in (("teacher", found.teacher), ("student", found.student)):
        num_dead = int(tokenizer.vocabulary.is_dead.sum())
        facts.append(
            (f"{side}: ids, of these dead", f"{len(tokenizer.vocabulary):,}, {num_dead:,}")
        )
        violations = boundary_violations(tokenizer.vocabulary)
        facts.append((f"{side}: white space inside entries", _violations(violations)))
    return tuple(facts)


def _special_facts(coverage: Coverage) -> list[tuple[str, str]]:
    unmatched = f"{coverage.num_unmatched_teacher}, {coverage.num_unmatched_student}"
    facts = [
        ("special tokens matched", str(coverage.num_special_chunks)),
        ("special tokens unmatched (T, S)", unmatched),
        ("chunks broken by them", str(coverage.num_broken)),
    ]
    sides = coverage.num_template_bytes_teacher, coverage.num_template_bytes_student
    if any(sides):
        facts.append(("template bytes unmatched (T, S)", f"{sides[0]}, {sides[1]}"))
    has_special = coverage.num_special_chunks or unmatched != "0, 0"
    return facts if has_special or any(sides) else []


def _violations(found: BoundaryViolations) -> str:
    examples = ", ".join(repr(printable(entry)) for entry in found.examples[:2])
    inside = f"{found.num_inside:,} inside other text" + (f" ({examples})" if examples else "")
    return f"{found.num_runs:,} runs of it, {inside}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _mean(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
