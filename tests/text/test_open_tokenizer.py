"""What opening a tokenizer tells of it, what it leaves alone, and the text that sides share."""

from __future__ import annotations

import itertools
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, processors
from trained_tokenizers import byte_level_bpe, marked_bpe, opened, wrap
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from suite.errors import TextError
from suite.text.encoding import Role
from suite.text.tokenizers import OpenedTokenizer, SharedText, open_tokenizer, shared_text

TEXT = "The quick <|stop|> brown fox\n"
SETTINGS = {
    "nothing": lambda backend: None,
    "truncation": lambda backend: backend.enable_truncation(2),
    "truncation on the left": lambda backend: backend.enable_truncation(1, direction="left"),
    "padding": lambda backend: backend.enable_padding(length=40, pad_id=2, pad_token="<|pad|>"),
    "padding on the left": lambda backend: backend.enable_padding(
        length=40, direction="left", pad_id=backend.token_to_id("<|pad|>"), pad_token="<|pad|>"
    ),
}


def composing() -> OpenedTokenizer:
    """As Qwen: byte-level behind NFC."""
    backend = byte_level_bpe()
    backend.normalizer = normalizers.NFC()
    return open_tokenizer(wrap(backend), name="composing")


COMPOSING = composing()


def begun(single: str) -> PreTrainedTokenizerFast:
    """A tokenizer that puts special tokens around a text."""
    hf = wrap(byte_level_bpe())
    names = [piece for piece in single.split() if piece.startswith("<")]
    hf.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(name, hf.convert_tokens_to_ids(name)) for name in names]
    )
    return hf


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(TextError) as error:
        open_tokenizer(ByT5Tokenizer(), name="given")
    assert str(error.value) == (
        "given: ByT5Tokenizer is a slow tokenizer, which does not tell its parts; choose one with a"
        " tokenizer.json"
    )


@pytest.mark.parametrize(
    ("single", "begin", "adds_begin"),
    [
        ("$A", "<|begin|>", False),
        ("<|begin|> $A", "<|begin|>", True),
        ("<|begin|> $A <|end|>", "<|begin|>", True),
        ("$A <|end|>", "<|begin|>", False),
        ("<|turn|> $A", "<|turn|>", True),
    ],
)
def test_rows_begin_with_what_the_tokenizer_puts_before_a_text(
    single: str, begin: str, adds_begin: bool
) -> None:
    found = open_tokenizer(begun(single), name="given")
    assert found.vocabulary.special[found.begin_id or 0] == begin
    assert found.adds_begin is adds_begin


@pytest.mark.parametrize(
    ("names", "begin"),
    [
        ({"bos_token": "<b>", "eos_token": "<e>"}, "<b>"),
        ({"eos_token": "<e>"}, "<e>"),
        ({"pad_token": "<p>"}, None),
        ({}, None),
    ],
)
def test_without_one_rows_begin_with_the_begin_or_the_end_token(
    names: dict[str, str], begin: str | None
) -> None:
    hf = PreTrainedTokenizerFast(tokenizer_object=byte_level_bpe(), **names)
    found = open_tokenizer(hf, name="given")
    assert found.begin_id == (None if begin is None else hf.convert_tokens_to_ids(begin))
    assert not found.adds_begin


@pytest.mark.parametrize("setting", SETTINGS)
def test_truncation_and_padding_in_the_file_change_nothing(setting: str, tmp_path: Path) -> None:
    hf = begun("<|begin|> $A")
    SETTINGS[setting](hf.backend_tokenizer)
    hf.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    hf = PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"),
        chat_template=hf.chat_template,
        **hf.special_tokens_map,
    )
    SETTINGS[setting](hf.backend_tokenizer)
    plain, found = opened("byte-level"), open_tokenizer(hf, name="given")
    special = plain.vocabulary.special
    assert found.vocabulary.special == special
    assert found.vocabulary.roles.tolist() == plain.vocabulary.roles.tolist()
    assert special[found.begin_id or 0] == "<|begin|>"
    for parse_special in (False, True):
        SETTINGS[setting](hf.backend_tokenizer)
        encodings = [side.encode(TEXT, parse_special=parse_special) for side in (plain, found)]
        assert encodings[0].ids.tolist() == encodings[1].ids.tolist()


def uses(hf: Any, folder: Path) -> list[Any]:
    """What a user gets from a tokenizer."""
    hf.save_pretrained(folder)
    again = AutoTokenizer.from_pretrained(folder)
    return [
        hf(TEXT).input_ids,
        hf(TEXT, split_special_tokens=True).input_ids,
        hf(TEXT, truncation=True, max_length=3).input_ids,
        hf([TEXT, "a"], padding=True).input_ids,
        hf(TEXT, return_offsets_mapping=True).offset_mapping,
        hf.tokenize(TEXT),
        hf.encode(TEXT, add_special_tokens=False),
        hf.decode(hf(TEXT).input_ids),
        hf.apply_chat_template([{"role": "user", "content": "a"}]).input_ids,
        hf.special_tokens_map,
        again(TEXT).input_ids,
        again.backend_tokenizer.to_str(),
    ]


def test_the_users_tokenizer_gives_the_same_as_before(tmp_path: Path) -> None:
    hf = begun("<|begin|> $A <|end|>")
    before = uses(hf, tmp_path / "before")
    found = open_tokenizer(hf, name="given")
    assert uses(hf, tmp_path / "opened") == before
    found.encode(TEXT)
    assert uses(hf, tmp_path / "read") == before
    found.encode(TEXT, parse_special=True)
    assert uses(hf, tmp_path / "parsed") == before


def test_what_the_user_does_in_between_changes_nothing() -> None:
    found = open_tokenizer(begun("<|begin|> $A"), name="given")
    expected = [found.encode(TEXT, parse_special=parse).ids.tolist() for parse in (False, True)]
    found.hf(TEXT, truncation=True, max_length=2)
    found.hf([TEXT, "a"], padding="max_length", max_length=90)
    assert [found.encode(TEXT, parse_special=parse).ids.tolist() for parse in (True, False)] == (
        expected[::-1]
    )


def test_readers_of_one_tokenizer_can_take_turns() -> None:
    found, texts = opened("byte-level"), [TEXT, "a", TEXT]
    expected = [[found.encode(text, parse_special=parse) for text in texts] for parse in (0, 1)]
    readers = [found.encode_each(texts, parse_special=parse) for parse in (False, True)]
    for number, pair in enumerate(zip(*readers, strict=True)):
        for encoding, alone in zip(pair, expected, strict=True):
            assert encoding.ids.tolist() == alone[number].ids.tolist()  # type: ignore[union-attr]


def test_a_byte_tokenizer_is_known() -> None:
    assert opened("bytes:marked").is_byte_level
    assert not opened("byte-level").is_byte_level
    assert opened("bytes:marked").normal_form is None


DECOMPOSED = "\u212b e\u0301\u0323 \u1100\u1161\u11a8 q\u0315\u0300 \u2126<|stop|>\ufb01"


def test_a_text_is_read_in_the_tokenizers_normal_form() -> None:
    assert COMPOSING.normal_form == "NFC"
    for parse_special, expected in (
        (False, DECOMPOSED),
        (True, DECOMPOSED.replace("<|stop|>", "")),
    ):
        found = COMPOSING.encode(DECOMPOSED, parse_special=parse_special)
        assert found.text.decode() == unicodedata.normalize("NFC", expected)
        ids = COMPOSING.hf(DECOMPOSED, split_special_tokens=not parse_special).input_ids
        assert found.ids.tolist() == ids
    assert opened("byte-level").encode(DECOMPOSED).text.decode() == DECOMPOSED


def test_a_normal_form_in_a_list_of_normalisers_is_found() -> None:
    backend = marked_bpe()
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Sequence([normalizers.Replace(" ", "▁")])]
    )
    found = open_tokenizer(wrap(backend), name="given")
    assert found.normal_form == "NFC"
    assert found.encode(DECOMPOSED).text.decode() == unicodedata.normalize("NFC", DECOMPOSED)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", SharedText("", 0)),
        ("aé", SharedText("aé", 0)),
        ("e\u0301", SharedText("é", 2)),
        ("ée\u0301e\u0301", SharedText("ééé", 4)),
        ("\u212b\u212b", SharedText("ÅÅ", 2)),
        ("\u0344", SharedText("\u0308\u0301", 1)),
        ("a\u0327\u0301", SharedText("á\u0327", 2)),
        # The order of marks alone.
        ("q\u0315\u0300", SharedText("q\u0300\u0315", 1)),
        # Compatibility characters stay.
        ("ﬁ①", SharedText("ﬁ①", 0)),
    ],
)
def test_changed_characters_are_counted(text: str, expected: SharedText) -> None:
    plain = opened("byte-level")
    for sides in ([COMPOSING], [plain, COMPOSING], [COMPOSING, plain], iter([plain, COMPOSING])):
        assert shared_text(text, sides) == expected


@given(text=st.text(max_size=12) | st.lists(st.sampled_from(DECOMPOSED)).map("".join))
def test_all_sides_read_the_shared_text_as_it_is(text: str) -> None:
    sides = [opened("byte-level"), COMPOSING]
    found = shared_text(text, sides)
    assert found.text == unicodedata.normalize("NFC", text)
    assert (found.num_changed > 0) == (found.text != text)
    assert shared_text(found.text, sides) == SharedText(found.text, 0)
    assert {side.encode(found.text).text for side in sides} == {found.text.encode()}


def test_without_a_normal_form_a_text_is_shared_as_it_is() -> None:
    for sides in ([], [opened("marked")], [opened("marked"), opened("byte-level")]):
        assert shared_text(DECOMPOSED, sides) == SharedText(DECOMPOSED, 0)


@pytest.mark.parametrize("normalised", [False, True])
def test_an_added_token_in_another_form_is_refused_or_read_exactly(normalised: bool) -> None:
    backend = byte_level_bpe()
    backend.normalizer = normalizers.NFC()
    backend.add_tokens([AddedToken("e\u0301", normalized=normalised)])
    found = open_tokenizer(wrap(backend), name="given")
    for text in ("é", "aéb", "e\u0301", "x"):
        (encoding,) = found.encode_each([text])
        if isinstance(encoding, TextError):
            assert normalised
            assert "cannot read byte" in str(encoding)
        else:
            assert encoding.text.decode() == unicodedata.normalize("NFC", text)


def test_special_roles_do_not_depend_on_the_order_of_opening() -> None:
    hf = wrap(byte_level_bpe())
    first, second = (open_tokenizer(hf, name="given") for _ in range(2))
    for a, b in itertools.pairwise((first, second, opened("byte-level"))):
        assert a.vocabulary.special == b.vocabulary.special
        assert a.vocabulary.roles.tolist() == b.vocabulary.roles.tolist()
    assert Role.HEADER in first.vocabulary.roles


def test_an_empty_vocabulary_opens() -> None:
    found = open_tokenizer(
        PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE())), name="given"
    )
    assert len(found.vocabulary) == 0
    assert found.encode("").text == b""
    with pytest.raises(TextError, match=r"given cannot read byte 0 of the text, 'a' \(U\+0061\)"):
        found.encode("a")
