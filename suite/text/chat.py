"""Conversations: rendered by a chat template, read with its special tokens, contents located.

Where two sides can keep one template, a conversation is rendered once and read twice. Where they
cannot, the messages' contents are what both sides share, so their place in each rendering is kept.

Legend: K messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suite.errors import ConfigError, TextError
from suite.text.corpus import Message
from suite.text.encoding import Encoding
from suite.text.tokenizers import OpenedTokenizer, shared_text

# Private-use characters, which no template touches and no message needs.
_MARK = "\ue000{}\ue001"
_DATE_FUNCTIONS = ("strftime_now", "date_string")
_PROBE = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))


@dataclass(frozen=True, eq=False)
class RenderedChat:
    """A conversation as a chat template writes it.

    Attributes:
        text: The rendering, special tokens as their strings.
        literals: What the template wrote before each message and behind the last, [K + 1].
        contents: What it wrote for each message, [K].
    """

    text: str
    literals: tuple[str, ...]
    contents: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ChatEncoding:
    """A conversation as one tokenizer reads it.

    Attributes:
        encoding: Of the whole rendering.
        content_spans: int32 [K, 2], the messages' contents in bytes of the encoding's text,
            without white space around them.
        roles: The messages' roles, [K].
    """

    encoding: Encoding
    content_spans: NDArray[np.int32]
    roles: tuple[str, ...]

    @property
    def completion_spans(self) -> NDArray[np.int32]:
        """The contents that the assistant wrote, int32 [., 2]."""
        return self.content_spans[[role == "assistant" for role in self.roles]]

    @property
    def num_template_bytes(self) -> int:
        """Bytes of text around the contents."""
        return len(self.encoding.text) - int(np.diff(self.content_spans).sum())


def render_chat(tokenizer: OpenedTokenizer, messages: Sequence[Message]) -> RenderedChat:
    """Render a conversation with the tokenizer's template, and tell template from content.

    Raises:
        TextError: There are no messages or no template, the template refuses the conversation, it
            drops, reorders or changes a content, or a content holds the string of a special token.
    """
    if not messages:
        raise TextError("a conversation without messages cannot be rendered; leave it out")
    _check_plain(tokenizer, messages)
    text = _apply(tokenizer, messages)
    marks = [_MARK.format(number) for number in range(len(messages))]
    marked = [Message(m.role, mark) for m, mark in zip(messages, marks, strict=True)]
    literals, rest = [], _apply(tokenizer, marked)
    for number, mark in enumerate(marks, start=1):
        literal, found, rest = rest.partition(mark)
        if not found:
            raise TextError(
                f"the chat template of {tokenizer.name} drops message {number} or moves it;"
                " use another template"
            )
        literals.append(literal)
    literals.append(rest)
    return RenderedChat(text, tuple(literals), _contents(tokenizer, messages, text, literals))


def encode_chat(
    tokenizer: OpenedTokenizer,
    messages: Sequence[Message],
    *,
    template: OpenedTokenizer | None = None,
) -> ChatEncoding:
    """Read a conversation, rendered by the tokenizer's own template or by another's.

    Contents are read in the tokenizer's normal form; two sides need the same one (see
    `shared_text`).

    Raises:
        TextError: It cannot be rendered (see `render_chat`) or read.
    """
    messages = [Message(m.role, shared_text(m.content, [tokenizer]).text) for m in messages]
    _check_plain(tokenizer, messages)
    chat = render_chat(template or tokenizer, messages)
    encoding = tokenizer.encode(chat.text, parse_special=True)
    spans, place = [], 0
    for number, content in enumerate(chat.contents):
        inner = content.strip().encode()
        literal = tokenizer.encode(chat.literals[number], parse_special=True).text
        # White space around a content may be gone: some special tokens take it in.
        place = _behind_white_space(encoding.text, place)
        place += len(literal.strip())
        tail = len(literal) - len(literal.rstrip())
        behind = _behind_white_space(encoding.text, place)
        # An empty content has no first character to stop at: the literal's own end tells.
        place = behind if inner else min(behind, place + tail)
        if encoding.text[place : place + len(inner)] != inner:
            raise TextError(
                f"message {number + 1} cannot be found in what {tokenizer.name} reads; leave this"
                " conversation out"
            )
        spans.append((place, place + len(inner)))
        place += len(inner)
    content_spans = np.array(spans, np.int32).reshape(-1, 2)
    return ChatEncoding(encoding, content_spans, tuple(message.role for message in messages))


def shares_template(owner: OpenedTokenizer, reader: OpenedTokenizer) -> bool:
    """Whether `reader` has every special token that the template of `owner` writes.

    False if this cannot be told, because there is no template or it refuses a plain conversation.
    """
    try:
        text = _apply(owner, _PROBE)
    except TextError:
        return False
    known = set(reader.vocabulary.special.values())
    return known.issuperset(owner.vocabulary.special_pattern.findall(text))


def pick_templates(
    teacher: OpenedTokenizer, student: OpenedTokenizer
) -> tuple[OpenedTokenizer, OpenedTokenizer]:
    """Whose template each side's rendering uses: one for both where its tokens allow it.

    A teacher that has a template keeps it, whatever the student.

    Raises:
        ConfigError: Some side has no template to use.
    """
    if shares_template(teacher, student):
        return teacher, teacher
    if not teacher.hf.chat_template and shares_template(student, teacher):
        return student, student
    for side in (teacher, student):
        if not side.hf.chat_template:
            raise ConfigError(_without_template(side))
    return teacher, student


def injected_text(tokenizer: OpenedTokenizer) -> str:
    """What the template writes before a conversation of its own accord, such as a system prompt.

    It is what stands before a first user message and not before a later one, special tokens aside.
    Nothing if the template refuses a conversation without system message.
    """
    try:
        literals = render_chat(tokenizer, _PROBE).literals
    except TextError:
        return ""
    # Special tokens go first: the names of different ones may end alike.
    pattern = tokenizer.vocabulary.special_pattern
    literals = tuple(pattern.sub("\n", literal) for literal in literals)
    first, later = literals[0], literals[2]
    same = 0
    while same < min(len(first), len(later)) and first[-1 - same] == later[-1 - same]:
        same += 1
    return first[: len(first) - same].strip()


def template_warnings(teacher: OpenedTokenizer, student: OpenedTokenizer) -> tuple[str, ...]:
    """What only one side's template adds to a conversation, a sentence each."""
    texts = injected_text(teacher), injected_text(student)
    warnings = []
    for side, other, own in ((teacher, student, texts[0]), (student, teacher, texts[1])):
        if own and texts[0] != texts[1]:
            warnings.append(
                f"the chat template of {side.name} adds {_short(own)!r} before a conversation,"
                f" which that of {other.name} does not; begin conversations with a system message"
            )
        source = str(side.hf.chat_template)
        if any(function in source for function in _DATE_FUNCTIONS) and source != str(
            other.hf.chat_template
        ):
            warnings.append(
                f"the chat template of {side.name} may write the day's date, which that of"
                f" {other.name} does not; use a template that writes none"
            )
    return tuple(warnings)


def _check_plain(tokenizer: OpenedTokenizer, messages: Sequence[Message]) -> None:
    for number, message in enumerate(messages, start=1):
        found = tokenizer.vocabulary.special_pattern.search(message.content)
        if found is not None:
            raise TextError(
                f"message {number} holds {found[0]!r} as text, which a rendered chat cannot tell"
                f" from the special token of {tokenizer.name}; leave this conversation out"
            )


def _apply(tokenizer: OpenedTokenizer, messages: Sequence[Message]) -> str:
    if not tokenizer.hf.chat_template:
        raise TextError(_without_template(tokenizer))
    plain = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text: str = tokenizer.hf.apply_chat_template(plain, tokenize=False)
    except Exception as error:
        # Templates raise what they like, with their own words for what they do not accept.
        raise TextError(
            f"the chat template of {tokenizer.name} refuses this conversation ({error});"
            " leave it out or use another template"
        ) from error
    return text


def _contents(
    tokenizer: OpenedTokenizer, messages: Sequence[Message], text: str, literals: Sequence[str]
) -> tuple[str, ...]:
    """What the template wrote for each message: its content as it is or stripped."""
    contents, place = [], len(literals[0])
    for number, message in enumerate(messages):
        behind = literals[number + 1]
        forms = (message.content, message.content.strip(), message.content.rstrip())
        # Behind the last message there is nothing more.
        fits = (form for form in forms if text.startswith(form + behind, place))
        is_last = number + 1 == len(messages)
        form = next((f for f in fits if not is_last or text[place:] == f + behind), None)
        if form is None or not text.startswith(literals[0]):
            raise TextError(
                f"the chat template of {tokenizer.name} changes the content of message"
                f" {number + 1}; leave this conversation out or use another template"
            )
        contents.append(form)
        place += len(form) + len(behind)
    return tuple(contents)


def _behind_white_space(text: bytes, place: int) -> int:
    while text[place : place + 1].isspace():
        place += 1
    return place


def _without_template(tokenizer: OpenedTokenizer) -> str:
    return f"{tokenizer.name} has no chat template; name a tokenizer that has one"


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
