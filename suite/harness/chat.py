"""Conversations as one string that every member of an ensemble can take apart again.

lm-eval asks a backend once to make text of a conversation, and hands that text back with each
request. Members have templates of their own, so the text holds the messages themselves, between
private-use characters, and each member renders it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

# Begin a role, end it, end a message, continue the last message, mark an escaped character.
_ROLE, _CONTENT, _END, _CONTINUE, _ESCAPE = "\uf8c0", "\uf8c1", "\uf8c2", "\uf8c3", "\uf8c4"
_SENTINELS = (_ROLE, _CONTENT, _END, _CONTINUE, _ESCAPE)
_NEEDS_ESCAPE = re.compile("[" + "".join(_SENTINELS) + "]")
_ESCAPED = re.compile(_ESCAPE + "([0-4])")
# What takes the place of a content to find out what a template writes around it.
_MARK = "\uf8c5{}\uf8c5"
_MESSAGE = re.compile(f"{_ROLE}([^{_CONTENT}]*){_CONTENT}([^{_END}]*){_END}")


@dataclass(frozen=True)
class Conversation:
    """Messages, and whether the last of them is to be continued instead of answered.

    `suffix` is text that a task puts behind the conversation.
    """

    messages: tuple[dict[str, str], ...]
    continues: bool = False
    suffix: str = ""


def encode_chat(messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
    """A conversation as text from which `decode_chat` gets it back."""
    parts = [
        _ROLE + _escape(message["role"]) + _CONTENT + _escape(message["content"]) + _END
        for message in messages
    ]
    return "".join(parts) + ("" if add_generation_prompt else _CONTINUE)


def is_chat(text: str) -> bool:
    """Whether a text is an encoded conversation."""
    return _MESSAGE.match(text) is not None


def decode_chat(text: str) -> Conversation:
    """The conversation that an encoded text holds; see `is_chat`."""
    messages = []
    place = 0
    while found := _MESSAGE.match(text, place):
        messages.append({"role": _unescape(found[1]), "content": _unescape(found[2])})
        place = found.end()
    continues = text.startswith(_CONTINUE, place)
    return Conversation(tuple(messages), continues, text[place + continues :])


def render_for(hf: Any, text: str, options: Mapping[str, Any]) -> str:
    """A prompt as one member reads it: a conversation by its own template, other text as it is."""
    if not is_chat(text):
        return text
    chat = decode_chat(text)
    rendered = render(hf, chat.messages, add_generation_prompt=not chat.continues, options=options)
    return rendered + chat.suffix


def render(
    hf: Any,
    messages: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool,
    options: Mapping[str, Any],
) -> str:
    """A conversation as a tokenizer's template writes it.

    A template that refuses system messages is given the conversation without them, as lm-eval does.

    Args:
        hf: A Hugging Face tokenizer.
        messages: With `role` and `content`.
        add_generation_prompt: Begin the answer; else the last message is left open.
        options: What else the template is given.
    """
    plain = [dict(message) for message in messages]
    try:
        return _apply(hf, plain, add_generation_prompt, options)
    except TemplateError:
        without = [message for message in plain if message["role"] != "system"]
        return _apply(hf, without, add_generation_prompt, options)


def _apply(
    hf: Any, messages: list[dict[str, str]], add_generation_prompt: bool, options: Mapping[str, Any]
) -> str:
    text: str = hf.apply_chat_template(
        messages,
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        continue_final_message=not add_generation_prompt,
        **options,
    )
    return text


def _escape(text: str) -> str:
    return _NEEDS_ESCAPE.sub(lambda found: f"{_ESCAPE}{_SENTINELS.index(found[0])}", text)


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda found: _SENTINELS[int(found[1])], text)


def content_spans(
    hf: Any, text: str, options: Mapping[str, Any]
) -> tuple[tuple[int, int] | None, ...]:
    """Where the messages' contents stand in what `render_for` makes of an encoded conversation.

    White space around them is the template's. None for a message that the template leaves out, or
    whose content it changes, and for those behind it.
    """
    chat = decode_chat(text)
    marks = [_MARK.format(number) for number in range(len(chat.messages))]
    marked = [
        {**message, "content": mark} for message, mark in zip(chat.messages, marks, strict=True)
    ]
    rendered = render_for(hf, text, options)
    rest = render(hf, marked, add_generation_prompt=not chat.continues, options=options)
    spans: list[tuple[int, int] | None] = []
    place = 0
    for message, mark in zip(chat.messages, marks, strict=True):
        before, found, behind = rest.partition(mark)
        literal, content = before.rstrip(), message["content"].strip()
        if not found:
            spans.append(None)
            continue
        start = place + len(literal)
        start += len(rendered[start:]) - len(rendered[start:].lstrip())
        end = start + len(content)
        if not rendered.startswith(literal, place) or rendered[start:end] != content:
            break
        spans.append((start, end))
        # Only white space around a content may differ from one content to another.
        place, rest = end, behind.lstrip()
        place += len(rendered[place:]) - len(rendered[place:].lstrip())
    return tuple(spans + [None] * (len(chat.messages) - len(spans)))
