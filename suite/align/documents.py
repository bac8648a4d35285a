"""From a corpus to encodings and their chunks; what cannot be read exactly is counted.

A document that the teacher cannot read is left out. One that only the student cannot read keeps its
place: the teacher's rows do not depend on the student. What both sides must share bears on them and
belongs to what identifies a stored teacher: the normal form, and the chat template.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from suite.align.chats import align_chats
from suite.align.chunks import ChunkAlignment, align_each
from suite.align.coverage import Coverage, measure_coverage
from suite.errors import TextError
from suite.text.chat import ChatEncoding, encode_chat, pick_templates, template_warnings
from suite.text.corpus import Document, Message, Position
from suite.text.encoding import Encoding
from suite.text.tokenizers import OpenedTokenizer, SharedText, shared_text

Ints = NDArray[np.int32]

_BEGINNING = Position()
# Short documents are worth one pass together; long ones would fill the memory.
_BATCH_DOCUMENTS = 256
_BATCH_CHARACTERS = 1_000_000
_NUM_REASONS = 5


@dataclass(frozen=True, eq=False)
class StudentView:
    """The student's side of a document.

    Attributes:
        encoding: Its tokens.
        alignment: The chunks.
        completions: int32 [., 2], the bytes of its text that losses count; None for all.
        contents: Of messages under two templates, the spans in the teacher's and the student's
            text; None where both texts are the same.
    """

    encoding: Encoding
    alignment: ChunkAlignment
    completions: Ints | None = None
    contents: tuple[Ints, Ints] | None = None


@dataclass(frozen=True, eq=False)
class AlignedDocument:
    """One document as both sides read it.

    Attributes:
        number: Its place in the data.
        position: The corpus position to read it from again.
        resume: The corpus position behind it.
        teacher: The teacher's tokens.
        completions: int32 [., 2], the bytes of the teacher's text that losses count; None for all.
        student: The student's side; None if it cannot read the document.
    """

    number: int
    position: Position
    resume: Position
    teacher: Encoding
    completions: Ints | None
    student: StudentView | None


@dataclass(frozen=True, slots=True)
class _Item:
    """A document with the positions in front of it and behind it."""

    position: Position
    resume: Position
    document: Document


@dataclass
class ReadCounts:
    """What was read and what was not.

    Attributes:
        num_documents: Seen.
        num_empty: Without text.
        num_unread_teacher: Left out, because the teacher cannot read them.
        num_unread_student: Without a student's side, because only the student cannot read them.
        num_normalised: Changed by the shared normal form.
        num_changed: Characters that the normal form replaced.
        coverage: Of all that both sides read.
        reasons: The first sentences about documents that could not be read.
        warnings: What one side's chat template adds to conversations.
    """

    num_documents: int = 0
    num_empty: int = 0
    num_unread_teacher: int = 0
    num_unread_student: int = 0
    num_normalised: int = 0
    num_changed: int = 0
    coverage: Coverage = field(default_factory=Coverage)
    reasons: list[str] = field(default_factory=list)
    warnings: tuple[str, ...] = ()

    def note(self, number: int, reason: TextError) -> None:
        """Keep one of the first reasons."""
        if len(self.reasons) < _NUM_REASONS:
            self.reasons.append(f"document {number}: {reason}")


class DocumentReader:
    """Reads documents for a teacher and a student, and counts."""

    def __init__(self, teacher: OpenedTokenizer, student: OpenedTokenizer) -> None:
        """Both tokenizers may be the same."""
        self.teacher = teacher
        self.student = student
        self.counts = ReadCounts()

    def read(
        self, documents: Iterable[tuple[Position, Document]], position: Position = _BEGINNING
    ) -> Iterator[AlignedDocument]:
        """Encode and align, in order.

        Args:
            documents: Each with the position behind it, as a corpus gives them.
            position: Where the corpus began to read.

        Raises:
            ConfigError: There are chats, and a side has no chat template to use.
        """
        for batch in _batches(documents, position):
            self.counts.num_documents += len(batch)
            read = self._read_texts([item for item in batch if item.document.messages is None])
            for item in batch:
                is_text = item.document.messages is None
                found = next(read) if is_text else self._read_chat(item)
                if found is not None:
                    yield found

    def _read_texts(self, batch: list[_Item]) -> Iterator[AlignedDocument | None]:
        sides = (self.teacher, self.student)
        shared = [shared_text(item.document.text or "", sides) for item in batch]
        self.counts.num_normalised += sum(item.num_changed > 0 for item in shared)
        self.counts.num_changed += sum(item.num_changed for item in shared)
        texts = [item.text for item in shared]
        encodings = list(
            zip(self.teacher.encode_each(texts), self.student.encode_each(texts), strict=True)
        )
        both = [pair for pair in encodings if all(isinstance(side, Encoding) for side in pair)]
        alignments = iter(align_each(*zip(*both, strict=True)) if both else ())
        for item, (teacher, student) in zip(batch, encodings, strict=True):
            if isinstance(teacher, TextError):
                self._leave_out(item.document, teacher)
                yield None
                continue
            completions = self._completions(item.document, teacher)
            view = None
            if isinstance(student, TextError):
                self._leave_out(item.document, student, by_student=True)
            else:
                view = StudentView(student, next(alignments), completions)
            yield self._counted(item, teacher, completions, view)

    def _completions(self, document: Document, teacher: Encoding) -> Ints | None:
        """What follows the prompt, in the normal form that was read."""
        if not document.prompt_bytes:
            return None
        prompt = (document.text or "").encode()[: document.prompt_bytes].decode()
        start = len(shared_text(prompt, (self.teacher, self.student)).text.encode())
        return np.array([[start, len(teacher.text)]], np.int32)

    def _read_chat(self, item: _Item) -> AlignedDocument | None:
        document = item.document
        messages = document.messages or ()
        teacher_template, student_template = self._templates
        shared = [shared_text(m.content, (self.teacher, self.student)) for m in messages]
        self._count_changed(shared)
        messages = tuple(
            Message(message.role, part.text) for message, part in zip(messages, shared, strict=True)
        )
        try:
            teacher = encode_chat(self.teacher, messages, template=teacher_template)
        except TextError as error:
            self._leave_out(document, error)
            return None
        view = None
        try:
            student = encode_chat(self.student, messages, template=student_template)
            view = _chat_view(teacher, student)
        except TextError as error:
            self._leave_out(document, error, by_student=True)
        return self._counted(item, teacher.encoding, teacher.completion_spans, view)

    @cached_property
    def _templates(self) -> tuple[OpenedTokenizer, OpenedTokenizer]:
        templates = pick_templates(self.teacher, self.student)
        self.counts.warnings = template_warnings(*templates)
        return templates

    def _count_changed(self, parts: Sequence[SharedText]) -> None:
        """Count what the normal form did to the parts of one document."""
        num_changed = sum(item.num_changed for item in parts)
        self.counts.num_normalised += num_changed > 0
        self.counts.num_changed += num_changed

    def _leave_out(self, document: Document, reason: TextError, by_student: bool = False) -> None:
        if by_student:
            self.counts.num_unread_student += 1
        else:
            self.counts.num_unread_teacher += 1
        self.counts.note(document.number, reason)

    def _counted(
        self, item: _Item, teacher: Encoding, completions: Ints | None, view: StudentView | None
    ) -> AlignedDocument:
        self.counts.num_empty += len(teacher) == 0
        if view is not None:
            self.counts.coverage += measure_coverage(view.alignment, len(teacher.text))
        number = item.document.number
        return AlignedDocument(number, item.position, item.resume, teacher, completions, view)


def _batches(
    documents: Iterable[tuple[Position, Document]], position: Position
) -> Iterator[list[_Item]]:
    batch: list[_Item] = []
    num_characters = 0
    for resume, document in documents:
        batch.append(_Item(position, resume, document))
        position = resume
        num_characters += len(document.text or "")
        if len(batch) == _BATCH_DOCUMENTS or num_characters >= _BATCH_CHARACTERS:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch


def _chat_view(teacher: ChatEncoding, student: ChatEncoding) -> StudentView:
    is_same = teacher.encoding.text == student.encoding.text
    return StudentView(
        encoding=student.encoding,
        alignment=align_chats(teacher, student),
        completions=student.completion_spans,
        contents=None if is_same else (teacher.content_spans, student.content_spans),
    )
