"""From a corpus to encodings and their chunks; what cannot be read exactly is counted.

A document that the teacher cannot read is left out. One that only another side cannot read, the
student or a further teacher, keeps its place: the teacher's rows do not depend on other sides. What
all sides must share bears on them and belongs to what identifies a stored teacher: the normal form,
and the chat template.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from suite.align.chats import align_all_chats
from suite.align.chunks import ChunkAlignment, align_all_each, all_spans
from suite.align.coverage import Coverage, measure_coverage
from suite.errors import TextError
from suite.text.chat import ChatEncoding, encode_chat, pick_templates, template_warnings
from suite.text.corpus import Document, Message, Position
from suite.text.encoding import Encoding
from suite.text.tokenizers import OpenedTokenizer, SharedText, shared_text

Ints = NDArray[np.int32]
_Read = TypeVar("_Read")

_BEGINNING = Position()
# Short documents are worth one pass together; long ones would fill the memory.
_BATCH_DOCUMENTS = 256
_BATCH_CHARACTERS = 1_000_000
_NUM_REASONS = 5


@dataclass(frozen=True, eq=False)
class SideView:
    """A document as a side other than the teacher's reads it.

    Attributes:
        encoding: Its tokens.
        spans: int32 [N, 2], its tokens of each chunk.
        completions: int32 [., 2], the bytes of its text that losses count; None for all.
        contents: Of messages under two templates, the spans in the teacher's and in its own text;
            None where both texts are the same.
    """

    encoding: Encoding
    spans: Ints
    completions: Ints | None = None
    contents: tuple[Ints, Ints] | None = None


@dataclass(frozen=True, eq=False)
class OtherSides:
    """The sides of a document beside the teacher's, and the chunks that all sides share.

    Attributes:
        alignment: The chunks, as the teacher's and the student's tokens.
        views: The sides of further teachers, then the student's.
    """

    alignment: ChunkAlignment
    views: tuple[SideView, ...]


@dataclass(frozen=True, eq=False)
class AlignedDocument:
    """One document as all sides read it.

    Attributes:
        number: Its place in the data.
        position: The corpus position to read it from again.
        resume: The corpus position behind it.
        teacher: The teacher's tokens.
        completions: int32 [., 2], the bytes of the teacher's text that losses count; None for all.
        others: The other sides; None if one of them cannot read the document.
    """

    number: int
    position: Position
    resume: Position
    teacher: Encoding
    completions: Ints | None
    others: OtherSides | None

    @property
    def student(self) -> SideView | None:
        """The student's side, if all sides can read the document."""
        return None if self.others is None else self.others.views[-1]


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
        num_unread_more_teachers: Without other sides, because a further teacher cannot read them.
        num_unread_student: Without other sides, because only the student cannot read them.
        num_normalised: Changed by the shared normal form.
        num_changed: Characters that the normal form replaced.
        coverage: Of all that every side reads, as teacher and student see it.
        reasons: The first sentences about documents that could not be read.
        warnings: What one side's chat template adds to conversations.
    """

    num_documents: int = 0
    num_empty: int = 0
    num_unread_teacher: int = 0
    num_unread_more_teachers: int = 0
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
    """Reads documents for a teacher and a student, or for several teachers, and counts."""

    def __init__(
        self,
        teacher: OpenedTokenizer,
        student: OpenedTokenizer,
        more_teachers: Sequence[OpenedTokenizer] = (),
    ) -> None:
        """Tokenizers may be the same; the first teacher decides what is left out."""
        self.teacher = teacher
        self.student = student
        self.more_teachers = tuple(more_teachers)
        self.counts = ReadCounts()
        # As alignments have them: the student last.
        self._sides = (teacher, *more_teachers, student)

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
        shared = [shared_text(item.document.text or "", self._sides) for item in batch]
        self.counts.num_normalised += sum(item.num_changed > 0 for item in shared)
        self.counts.num_changed += sum(item.num_changed for item in shared)
        texts = [item.text for item in shared]
        read = list(zip(*(side.encode_each(texts) for side in self._sides), strict=True))
        alignments = iter(align_all_each([found for sides in read if (found := _all_read(sides))]))
        for item, sides in zip(batch, read, strict=True):
            self._note_unread(item.document, sides)
            teacher = sides[0]
            if isinstance(teacher, TextError):
                yield None
                continue
            completions = self._completions(item.document, teacher)
            others = None
            if encodings := _all_read(sides):
                found = next(alignments)
                own = zip(encodings[1:], all_spans(found)[1:], strict=True)
                others = OtherSides(found[0], tuple(SideView(*side, completions) for side in own))
            yield self._counted(item, teacher, completions, others)

    def _completions(self, document: Document, teacher: Encoding) -> Ints | None:
        """What follows the prompt, in the normal form that was read."""
        if not document.prompt_bytes:
            return None
        prompt = (document.text or "").encode()[: document.prompt_bytes].decode()
        start = len(shared_text(prompt, self._sides).text.encode())
        return np.array([[start, len(teacher.text)]], np.int32)

    def _read_chat(self, item: _Item) -> AlignedDocument | None:
        messages = item.document.messages or ()
        templates = self._templates
        shared = [shared_text(message.content, self._sides) for message in messages]
        self._count_changed(shared)
        messages = tuple(
            Message(message.role, part.text) for message, part in zip(messages, shared, strict=True)
        )
        sides = [
            _read_chat(side, messages, template)
            for side, template in zip(self._sides, templates, strict=True)
        ]
        self._note_unread(item.document, sides)
        teacher = sides[0]
        if isinstance(teacher, TextError):
            return None
        chats = _all_read(sides)
        others = _chat_sides(chats) if chats else None
        return self._counted(item, teacher.encoding, teacher.completion_spans, others)

    @cached_property
    def _templates(self) -> tuple[OpenedTokenizer, ...]:
        """Whose template each side uses: wherever its tokens allow it, one for all."""
        first, student = pick_templates(self.teacher, self.student)
        more = [pick_templates(first, side)[1] for side in self.more_teachers]
        templates = (first, *more, student)
        warnings = [text for own in templates[1:] for text in template_warnings(first, own)]
        self.counts.warnings = tuple(dict.fromkeys(warnings))
        return templates

    def _count_changed(self, parts: Sequence[SharedText]) -> None:
        """Count what the normal form did to the parts of one document."""
        num_changed = sum(item.num_changed for item in parts)
        self.counts.num_normalised += num_changed > 0
        self.counts.num_changed += num_changed

    def _note_unread(self, document: Document, sides: Sequence[object]) -> None:
        """Count and note the first side that cannot read a document, if any."""
        for m, reason in enumerate(sides):
            if isinstance(reason, TextError):
                self.counts.num_unread_teacher += m == 0
                self.counts.num_unread_student += m == len(sides) - 1
                self.counts.num_unread_more_teachers += 0 < m < len(sides) - 1
                self.counts.note(document.number, reason)
                return

    def _counted(
        self,
        item: _Item,
        teacher: Encoding,
        completions: Ints | None,
        others: OtherSides | None,
    ) -> AlignedDocument:
        self.counts.num_empty += len(teacher) == 0
        if others is not None:
            self.counts.coverage += measure_coverage(others.alignment, len(teacher.text))
        number = item.document.number
        return AlignedDocument(number, item.position, item.resume, teacher, completions, others)


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


def _all_read(sides: Sequence[_Read | TextError]) -> list[_Read] | None:
    """What all sides read; None if one of them could not."""
    read = [side for side in sides if not isinstance(side, TextError)]
    return read if len(read) == len(sides) else None


def _read_chat(
    side: OpenedTokenizer, messages: Sequence[Message], template: OpenedTokenizer
) -> ChatEncoding | TextError:
    try:
        return encode_chat(side, messages, template=template)
    except TextError as error:
        return error


def _chat_sides(chats: Sequence[ChatEncoding]) -> OtherSides:
    """The other sides of a conversation, whose first side is the teacher's."""
    alignments = align_all_chats(chats[:-1], chats[-1])
    teacher = chats[0]
    views = []
    for chat, spans in zip(chats[1:], all_spans(alignments)[1:], strict=True):
        is_same = teacher.encoding.text == chat.encoding.text
        contents = None if is_same else (teacher.content_spans, chat.content_spans)
        views.append(SideView(chat.encoding, spans, chat.completion_spans, contents))
    return OtherSides(alignments[0], tuple(views))
