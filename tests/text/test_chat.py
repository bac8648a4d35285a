from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers
from trained_tokenizers import CHAT_TEMPLATE, byte_level_bpe, marked_bpe, opened, unigram
from transformers import PreTrainedTokenizerFast

from suite.errors import TextError
from suite.text.chat import (
    ChatEncoding,
    encode_chat,
    injected_text,
    render_chat,
    shares_template,
    template_warnings,
)
from suite.text.corpus import Message
from suite.text.encoding import Role
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer

NAMES = ("<s>", "</s>", "<h>", "<e>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
KEPT = "{% for m in messages %}<h>{{ m['role'] }}\n{{ m['content'] }}<e>\n{% endfor %}"
TRIMMED = KEPT.replace("m['content']", "m['content'] | trim")
RIGHT_TRIMMED = KEPT.replace("m['content']", "m['content'].rstrip()")
INJECTED = (
    "{{ bos_token }}{% if messages[0]['role'] != 'system' %}<h>system\nYou help.<e>\n{% endif %}"
) + KEPT
# As Gemma: the system message goes into the first turn.
MERGED = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}<h>{{ m['role'] }}\n{{ first if loop.first else '' }}"
    "{{ m['content'] | trim }}<e>\n{% endfor %}"
)
WITHOUT_SYSTEM = KEPT.replace("messages %}", "messages if m['role'] != 'system' %}")
REFUSES_SYSTEM = (
    "{{ raise_exception('System role not supported') if messages[0]['role'] == 'system' }}" + KEPT
)
NEEDS_SYSTEM = (
    "{{ raise_exception('system message needed') if messages[0]['role'] != 'system' }}" + KEPT
)
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
)
PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n\n{% endfor %}"
DATED = "{{ strftime_now('%d %B %Y') }}\n" + KEPT


def make(
    template: str | None, *, name: str = "given", kind: Any = byte_level_bpe, **settings: Any
) -> OpenedTokenizer:
    backend = kind()
    if settings:
        backend.normalizer = settings["normalizer"]
    backend.add_special_tokens([AddedToken(token, special=True) for token in NAMES])
    hf = PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template=template, bos_token="<s>", eos_token="</s>"
    )
    return open_tokenizer(hf, name=name)


def turns(*contents: str) -> list[Message]:
    """Messages of a user and an assistant in turn."""
    roles = ("user", "assistant")
    return [Message(roles[place % 2], content) for place, content in enumerate(contents)]


def found_contents(chat: ChatEncoding) -> list[str]:
    return [chat.encoding.text[start:stop].decode() for start, stop in chat.content_spans.tolist()]


def message_of(tokenizer: OpenedTokenizer, messages: Sequence[Message], **settings: Any) -> str:
    with pytest.raises(TextError) as error:
        encode_chat(tokenizer, messages, **settings)
    return str(error.value)


CONVERSATIONS = [
    turns("Hello"),
    turns("Hello", "Hi there.", "And?"),
    turns("", "", "", ""),
    turns("user", "assistant", "user\nuser", "system"),
    turns("  a \n", "\n\nb\t", " ", "\n"),
    turns("a\n", "\nb\n", "\n\n", "x"),
    turns("Größe ↔ 日本語 👩‍👧 e\u0301", "\u202eשלום", "\u0301x", "\ufeff"),
    turns("same", "same", "same", "same"),
    turns("1", "11", "1 1", "111"),
    turns("{{ content }}", "{% raw %}", "<|turn", "<e"),
    turns(*(str(number) for number in range(23))),
]


@pytest.mark.parametrize("kind", [byte_level_bpe, marked_bpe, lambda: marked_bpe("▁"), unigram])
@pytest.mark.parametrize("template", [KEPT, TRIMMED, RIGHT_TRIMMED, LLAMA_3, PLAIN])
def test_contents_are_located_by_their_place(template: str, kind: Any) -> None:
    """A template writes what it must; contents may look like it or like each other."""
    tokenizer = make(template, kind=kind)
    for messages in CONVERSATIONS:
        chat = encode_chat(tokenizer, messages)
        assert found_contents(chat) == [message.content.strip() for message in messages]
        assert chat.roles == tuple(message.role for message in messages)
        bounds = chat.content_spans.ravel().tolist()
        assert all(a <= b for a, b in pairwise([0, *bounds, len(chat.encoding.text)]))
        # Right in front of each content is the end of its header.
        headers = {"\n": "\n", ":": " "}[":" if template == PLAIN else "\n"]
        for message, (start, _) in zip(messages, chat.content_spans.tolist(), strict=True):
            lead = message.content[: len(message.content) - len(message.content.lstrip())]
            before = chat.encoding.text[:start].decode()
            assert before.endswith(headers) or before.endswith(headers + lead)


@pytest.mark.parametrize("template", [KEPT, TRIMMED, LLAMA_3, PLAIN])
@given(contents=st.lists(st.text(max_size=6) | st.text("\n a", max_size=4), min_size=1, max_size=5))
def test_any_contents_are_located(template: str, contents: list[str]) -> None:
    tokenizer = make_once(template)
    for string in NAMES:
        contents = [content.replace(string, "_") for content in contents]
    messages = turns(*contents)
    chat = render_chat(tokenizer, messages)
    pieces = [chat.literals[0]]
    for content, literal in zip(chat.contents, chat.literals[1:], strict=True):
        pieces += [content, literal]
    assert "".join(pieces) == chat.text
    read = encode_chat(tokenizer, messages)
    assert found_contents(read) == [content.strip() for content in contents]
    spans = read.content_spans.tolist()
    assert read.completion_spans.tolist() == spans[1::2]
    assert read.num_template_bytes == len(read.encoding.text) - sum(b - a for a, b in spans)


_MADE: dict[str, OpenedTokenizer] = {}


def make_once(template: str) -> OpenedTokenizer:
    if template not in _MADE:
        _MADE[template] = make(template)
    return _MADE[template]


def test_a_chat_is_read_with_its_special_tokens() -> None:
    chat = encode_chat(make(LLAMA_3), turns(" Hi\n", "Yes."))
    roles = [Role(role).name for role in chat.encoding.roles if role]
    assert roles == ["BEGIN", *["HEADER", "HEADER", "END_OF_TURN"] * 2]
    assert chat.encoding.text == b"user\n\nHiassistant\n\nYes."
    assert chat.content_spans.tolist() == [[6, 8], [19, 23]]
    assert chat.completion_spans.tolist() == [[19, 23]]
    assert chat.num_template_bytes == 17


def test_a_system_prompt_that_the_template_brings_is_no_content() -> None:
    chat = encode_chat(make(INJECTED), turns("Hi"))
    assert chat.encoding.text == b"system\nYou help.\nuser\nHi\n"
    assert found_contents(chat) == ["Hi"]
    own = encode_chat(make(INJECTED), [Message("system", "You help."), *turns("Hi")])
    assert own.encoding.text == chat.encoding.text
    assert found_contents(own) == ["You help.", "Hi"]
    assert own.completion_spans.tolist() == []


def test_a_system_message_that_goes_into_the_first_turn_is_located() -> None:
    chat = encode_chat(make(MERGED), [Message("system", "Be kind."), *turns(" Hi ", "Yes.")])
    assert chat.encoding.text == b"user\nBe kind.\n\nHi\nassistant\nYes.\n"
    assert found_contents(chat) == ["Be kind.", "Hi", "Yes."]


SYSTEM_FIRST = [Message("system", "Be kind."), *turns("Hi")]
CHANGED = "leave this conversation out or use another template"


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        (None, turns("a"), "given has no chat template; name a tokenizer that has one"),
        (
            WITHOUT_SYSTEM,
            SYSTEM_FIRST,
            "the chat template of given drops message 1 or moves it; use another template",
        ),
        (
            KEPT.replace("messages %}", "messages | reverse %}"),
            turns("a", "b"),
            "the chat template of given drops message 2 or moves it; use another template",
        ),
        (
            KEPT.replace("messages %}", "messages[-1:] %}"),
            turns("a", "b", "c"),
            "the chat template of given drops message 1 or moves it; use another template",
        ),
        (
            REFUSES_SYSTEM,
            SYSTEM_FIRST,
            "the chat template of given refuses this conversation (System role not supported);"
            " leave it out or use another template",
        ),
        (
            KEPT.replace("m['content']", "m['content'] | upper"),
            turns("A", "B", "c"),
            f"the chat template of given changes the content of message 3; {CHANGED}",
        ),
        (
            KEPT.replace("m['content']", "m['content'].split('</think>')[-1]"),
            turns("a", "<think>so</think>b"),
            f"the chat template of given changes the content of message 2; {CHANGED}",
        ),
        (
            "{{ messages[0]['content'] | length }}" + KEPT,
            turns("a long one"),
            f"the chat template of given changes the content of message 1; {CHANGED}",
        ),
        (
            "{{ messages[0]['content'] }}" + KEPT,
            turns("a"),
            f"the chat template of given changes the content of message 1; {CHANGED}",
        ),
        (
            KEPT.replace("<e>\n", "") + "{{ ' (short)' if messages[0]['content'] | length < 3 }}",
            turns("a"),
            f"the chat template of given changes the content of message 1; {CHANGED}",
        ),
        (
            KEPT,
            turns("a", "b </s> c"),
            "message 2 holds '</s>' as text, which a rendered chat cannot tell from the special"
            " token of given; leave this conversation out",
        ),
        (
            KEPT,
            [],
            "a conversation without messages cannot be rendered; leave it out",
        ),
    ],
)
def test_a_conversation_that_cannot_be_located_is_refused(
    template: str | None, messages: list[Message], message: str
) -> None:
    tokenizer = make(template)
    with pytest.raises(TextError) as error:
        render_chat(tokenizer, messages)
    assert str(error.value) == message
    assert message_of(tokenizer, messages) == message


def test_text_that_the_reader_cannot_read_is_refused() -> None:
    message = message_of(make(KEPT, kind=marked_bpe), turns("a", "b\u2581"))
    assert message == (
        "given cannot read byte 27 of the text, '▁' (U+2581): its tokens stand for other bytes;"
        " leave this text out or choose another tokenizer"
    )


def test_a_special_token_of_the_reader_alone_is_no_text_either() -> None:
    """The template's owner does not know it, so it would be parsed, not read."""
    for content in ("<h>", "a <h> b"):
        assert message_of(
            make(None, name="reader"), turns(content), template=opened("byte-level")
        ) == (
            "message 1 holds '<h>' as text, which a rendered chat cannot tell from the special"
            " token of reader; leave this conversation out"
        )


def test_another_template_is_read_with_the_special_tokens_of_the_reader() -> None:
    owner, reader = opened("byte-level"), opened("marked")
    assert owner.hf.chat_template == CHAT_TEMPLATE
    one, two = (encode_chat(side, turns("é", "b"), template=owner) for side in (owner, reader))
    assert one.encoding.text == two.encoding.text == "user\né\nassistant\nb\n".encode()
    assert one.content_spans.tolist() == two.content_spans.tolist() == [[5, 7], [18, 19]]
    plain = encode_chat(make(None), turns("é"), template=owner)
    assert plain.encoding.text.decode() == "<|turn|>user\né<|stop|>\n"


def stripping(**takes: bool) -> OpenedTokenizer:
    """A special token around each content takes the white space beside it."""
    backend = byte_level_bpe()
    backend.add_special_tokens([AddedToken("<x>", special=True, **takes)])
    template = "{% for m in messages %}<x>{{ m['content'] }}<x>.{% endfor %}"
    hf = PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template)
    return open_tokenizer(hf, name="given")


@pytest.mark.parametrize(
    ("takes", "contents"),
    [
        ({"rstrip": True}, (" a", "b")),
        ({"rstrip": True}, ("a", "\nb")),
        ({"rstrip": True}, ("\n", "b")),
        ({"lstrip": True}, ("a ", "b")),
        ({"lstrip": True, "rstrip": True}, (" a ", " b ")),
    ],
)
def test_contents_are_found_where_special_tokens_take_white_space_of_them(
    takes: dict[str, bool], contents: tuple[str, ...]
) -> None:
    chat = encode_chat(stripping(**takes), turns(*contents))
    assert found_contents(chat) == [content.strip() for content in contents]


def test_white_space_taken_behind_the_last_content_moves_nothing() -> None:
    chat = encode_chat(stripping(lstrip=True), turns("a", "b \n"))
    assert chat.encoding.text == b"a.b."
    assert found_contents(chat) == ["a", "b"]


def test_contents_are_read_in_the_normal_form_of_the_tokenizer() -> None:
    tokenizer = make(TRIMMED, normalizer=normalizers.NFC())
    chat = encode_chat(tokenizer, turns("e\u0301", "q\u0315\u0300", "ok"))
    assert found_contents(chat) == ["é", "q\u0300\u0315", "ok"]


def test_what_a_template_says_of_its_own_accord() -> None:
    for template in (KEPT, TRIMMED, LLAMA_3, PLAIN, MERGED, NEEDS_SYSTEM, REFUSES_SYSTEM):
        assert injected_text(make(template)) == ""
    assert injected_text(make(INJECTED)) == "system\nYou help."
    assert injected_text(make("Be brief.\n" + PLAIN)) == "Be brief."
    assert injected_text(make(None)) == ""
    assert (
        injected_text(make(LLAMA_3.replace("{{ bos_token }}", "<s>Be brief.<|eot_id|>")))
        == "Be brief."
    )


def test_a_system_prompt_of_one_side_is_named() -> None:
    with_prompt, without = make(INJECTED, name="one"), make(LLAMA_3, name="other")
    expected = (
        "the chat template of one adds 'system\\nYou help.' before a conversation, which that of"
        " other does not; begin conversations with a system message"
    )
    assert template_warnings(with_prompt, without) == (expected,)
    assert template_warnings(without, with_prompt) == (expected,)
    assert template_warnings(with_prompt, make(INJECTED, name="other")) == ()
    assert template_warnings(without, make(KEPT, name="one")) == ()


def test_two_system_prompts_are_both_named_and_long_ones_shortened() -> None:
    long = "You are a helpful assistant who answers every question with care."
    sides = make(INJECTED, name="one"), make(INJECTED.replace("You help.", long), name="one")
    first, second = template_warnings(*sides)
    assert "adds 'system\\nYou help.' before" in first
    assert "adds 'system\\nYou are a helpful assistant who answers every questi…' before" in second


def test_a_date_is_named_unless_both_sides_write_the_same() -> None:
    dated, plain = make(DATED, name="one"), make(KEPT, name="other")
    *_, date = template_warnings(dated, plain)
    assert date == (
        "the chat template of one may write the day's date, which that of other does not; use a"
        " template that writes none"
    )
    assert template_warnings(plain, dated)[-1] == date
    assert template_warnings(dated, make(DATED, name="other")) == ()


def test_a_template_is_shared_by_who_knows_its_special_tokens() -> None:
    families = opened("byte-level"), opened("marked"), opened("bytes:unigram")
    for owner in families:
        assert all(shares_template(owner, reader) for reader in families)
        assert not shares_template(owner, make(KEPT))
        assert not shares_template(make(KEPT), owner)
        assert shares_template(make(PLAIN), owner)
    assert shares_template(make(KEPT), make(None))


@pytest.mark.parametrize("template", [None, NEEDS_SYSTEM, "{% if %}"])
def test_a_template_that_cannot_be_tried_is_not_shared(template: str | None) -> None:
    assert not shares_template(make(template), make(template))
