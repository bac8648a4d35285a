"""Conversations as one string, and what each member's template makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_requests import load

from suite.harness.chat import (
    Conversation,
    content_spans,
    decode_chat,
    encode_chat,
    is_chat,
    render_for,
)

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Refuses system messages, strips contents, and calls the assistant by another name.
STRICT = (
    "{{ '<begin>' }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<start>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end>\n"
    "{% endfor %}{% if add_generation_prompt %}<start>model\n{% endif %}"
)
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " What is\n2+2? "},
]
PREFILLED = [*CHAT, {"role": "assistant", "content": "It is"}]


def tokenizer(folder: Path, template: str) -> Any:
    return load(folder, template).tokenizer


@given(
    st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4),
    st.booleans(),
    st.text(st.characters(max_codepoint=0x7F)),
)
def test_a_conversation_comes_back_whole(
    messages: list[tuple[str, str]], answers: bool, suffix: str
) -> None:
    wanted = tuple({"role": role, "content": content} for role, content in messages)
    text = encode_chat(wanted, add_generation_prompt=answers)
    assert is_chat(text)
    assert decode_chat(text + suffix) == Conversation(wanted, not answers, suffix)


@given(st.lists(st.sampled_from("\uf8c0\uf8c1\uf8c2\uf8c3\uf8c4\uf8c5401a")).map("".join))
def test_contents_may_hold_the_characters_that_mark_them(content: str) -> None:
    messages = ({"role": content, "content": content}, {"role": "user", "content": content})
    text = encode_chat(messages, add_generation_prompt=False)
    assert decode_chat(text) == Conversation(messages, continues=True)


def test_other_text_is_no_conversation_and_stays_as_it_is(tiny_model: Path) -> None:
    for text in ("", "plain", "\uf8c0 alone", "a\uf8c0user\uf8c1b\uf8c2"):
        assert not is_chat(text)
        assert render_for(tokenizer(tiny_model, TURNS), text, {}) == text


@pytest.mark.parametrize(
    ("template", "messages", "rendered"),
    [
        (
            TURNS,
            CHAT,
            "<|im_start|>system\nBe brief.<|im_end|>\n"
            "<|im_start|>user\n What is\n2+2? <|im_end|>\n<|im_start|>assistant\n",
        ),
        (STRICT, CHAT, "<begin><start>user\nWhat is\n2+2?<end>\n<start>model\n"),
        (
            TURNS,
            PREFILLED,
            "<|im_start|>system\nBe brief.<|im_end|>\n"
            "<|im_start|>user\n What is\n2+2? <|im_end|>\n<|im_start|>assistant\nIt is",
        ),
        (STRICT, PREFILLED, "<begin><start>user\nWhat is\n2+2?<end>\n<start>model\nIt is"),
    ],
)
def test_each_member_reads_what_its_own_template_writes(
    tiny_model: Path, template: str, messages: list[dict[str, str]], rendered: str
) -> None:
    text = encode_chat(messages, add_generation_prompt=messages is CHAT)
    assert render_for(tokenizer(tiny_model, template), text, {}) == rendered
    assert render_for(tokenizer(tiny_model, template), text + " so", {}) == rendered + " so"


@pytest.mark.parametrize("template", [TURNS, STRICT])
@pytest.mark.parametrize("messages", [CHAT, PREFILLED, [{"role": "user", "content": "user"}]])
def test_contents_are_found_where_the_template_puts_them(
    tiny_model: Path, template: str, messages: list[dict[str, str]]
) -> None:
    hf = tokenizer(tiny_model, template)
    text = encode_chat(messages, add_generation_prompt=messages is not PREFILLED)
    rendered = render_for(hf, text, {})
    spans = content_spans(hf, text, {})
    for message, span in zip(messages, spans, strict=True):
        if message["role"] == "system" and template is STRICT:
            assert span is None
        else:
            assert span is not None
            assert rendered[slice(*span)] == message["content"].strip()
            if message["content"] == "user":
                assert span[0] > rendered.index("user")


def test_a_template_that_changes_a_content_hides_it(tiny_model: Path) -> None:
    hf = tokenizer(tiny_model, "{% for m in messages %}<{{ m.content | upper }}>{% endfor %}")
    text = encode_chat(CHAT, add_generation_prompt=True)
    assert content_spans(hf, text, {}) == (None, None)


def test_options_reach_the_template(tiny_model: Path) -> None:
    hf = tokenizer(tiny_model, "{{ messages[0].content }}{% if enable_thinking %} hm{% endif %}")
    text = encode_chat([{"role": "user", "content": "x"}], add_generation_prompt=True)
    assert render_for(hf, text, {"enable_thinking": True}) == "x hm"
