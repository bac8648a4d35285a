from __future__ import annotations

import re
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from trained_tokenizers import FAMILIES, byte_level_bpe, marked_bpe, opened, unigram, wrap

from suite.errors import TextError
from suite.text.encoding import Encoding, Role
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer
from suite.text.vocabulary import byte_alphabet

SIDES = [*FAMILIES, "bytes:byte-level"]
SPECIAL = ["<|begin|>", "<|end|>", "<|pad|>", "<|turn|>", "<|stop|>"]
# What has broken tokenizers: marks, joiners, directions, line ends, white space, look-alikes.
MARKS = (
    "e\u0301|\u0301|q\u0315\u0300|\u1100\u1161\u11a8|\ufb01|\u0130|ß|\u0928\u093f|日本語。|\u2582"
)
EMOJI = "\U0001f469\u200d\U0001f469\u200d\U0001f467|\U0001f44d\U0001f3fd|\U0001f1e9\U0001f1ea"
RIGHT_TO_LEFT = "\u05e9\u05dc\u05d5\u05dd|\u202e\u0639\u0627\u0644\u0645\u202c"
SPACES = "\r\n|\n\n\n|\t| |  |    |\xa0|\u3000|\u2028|\x85|\ufeff|\x00|\x7f|\uffff|\U0010ffff"
WORDS = "\u0120|<0x4|##|</s>|don't| the|1000"
HARD = [*"|".join([MARKS, EMOJI, RIGHT_TO_LEFT, SPACES, WORDS]).split("|"), *SPECIAL]
TEXTS = st.one_of(
    st.text(max_size=20),
    st.lists(st.one_of(st.sampled_from(HARD), st.text(max_size=3)), max_size=8).map("".join),
)


def refusal(name: str, byte: int, char: str) -> str:
    return (
        f"{name} cannot read byte {byte} of the text, {char!r} (U+{ord(char):04X}): its tokens"
        " stand for other bytes; leave this text out or choose another tokenizer"
    )


def plain_ids(tokenizer: OpenedTokenizer, text: str, *, parse_special: bool = False) -> list[int]:
    """What the Hugging Face tokenizer itself says."""
    ids: list[int] = tokenizer.hf(
        text, add_special_tokens=False, split_special_tokens=not parse_special
    ).input_ids
    return ids


def check(tokenizer: OpenedTokenizer, found: Encoding, text: str) -> None:
    """Every token has its bytes of the text; a dummy space, in front of others, has none."""
    assert found.text.decode() == text
    assert (found.ids.dtype, found.byte_spans.dtype) == (np.int32, np.int32)
    assert found.byte_spans.shape == (len(found), 2)
    place = 0
    vocabulary = tokenizer.vocabulary
    for number, (start, stop), role in zip(
        found.ids.tolist(), found.byte_spans.tolist(), found.roles.tolist(), strict=True
    ):
        assert start == place
        assert role == vocabulary.roles[number]
        own = vocabulary.token_bytes[number]
        if found.text[start:stop] != own:
            assert own == b" " + found.text[start:stop]
        place = stop
    assert place == len(found.text)


def message_of(tokenizer: OpenedTokenizer, text: str, *, parse_special: bool = False) -> str:
    with pytest.raises(TextError) as error:
        tokenizer.encode(text, parse_special=parse_special)
    return str(error.value)


@pytest.mark.parametrize("family", SIDES)
@given(text=TEXTS)
@example(text="")
@example(text="".join(HARD))
@example(text=" ".join(HARD))
@example(text="  " + "\n".join(reversed(HARD)) + "  ")
def test_tokens_tile_any_text_and_are_those_of_the_tokenizer_itself(family: str, text: str) -> None:
    tokenizer = opened(family)
    if family in ("marked", "prefixed", "unigram"):
        text = text.replace("\u2581", "_")
    if family == "unigram":
        text = text.replace("<unk>", "_").replace("<0x", "_")
    found = tokenizer.encode(text)
    assert found.ids.tolist() == plain_ids(tokenizer, text)
    assert not found.roles.any()
    check(tokenizer, found, text)
    num_dummy = sum(len(tokenizer.vocabulary.token_bytes[number]) for number in found.ids) - len(
        text.encode()
    )
    adds = {"prefixed": bool(text), "unigram": bool(text) and text[0] != " "}
    assert num_dummy == adds.get(family, 0)


@pytest.mark.parametrize("family", SIDES)
@given(
    texts=st.lists(
        st.one_of(TEXTS, st.sampled_from(["", "a\u2581", "\ud800", "<unk>"])), max_size=6
    )
)
def test_many_texts_give_what_each_gives_alone(family: str, texts: list[str]) -> None:
    tokenizer = opened(family)
    found = list(tokenizer.encode_each(texts))
    assert len(found) == len(texts)
    for text, many in zip(texts, found, strict=True):
        if isinstance(many, TextError):
            assert message_of(tokenizer, text) == str(many)
            continue
        alone = tokenizer.encode(text)
        assert many.text == alone.text == text.encode()
        for column in ("ids", "byte_spans", "roles"):
            np.testing.assert_array_equal(getattr(many, column), getattr(alone, column))


def test_refusals_keep_their_place_among_many_texts() -> None:
    texts = ["a", "b\ud800", "", "é\u2581", " c", "\udfff", "\u2581"]
    found = list(opened("marked").encode_each(texts))
    messages = [str(item) if isinstance(item, TextError) else item.text for item in found]
    surrogate = (
        "of the text is a lone surrogate, which UTF-8 cannot hold; mend this text or leave it out"
    )
    assert messages == [
        b"a",
        f"character 1 {surrogate}",
        b"",
        refusal("marked", 2, "\u2581"),
        b" c",
        f"character 0 {surrogate}",
        refusal("marked", 0, "\u2581"),
    ]
    assert list(opened("marked").encode_each([])) == []


@pytest.mark.parametrize("family", SIDES)
def test_a_lone_surrogate_is_refused_by_all(family: str) -> None:
    for parse_special in (False, True):
        assert message_of(opened(family), "aé\ud83d", parse_special=parse_special) == (
            "character 2 of the text is a lone surrogate, which UTF-8 cannot hold; mend this text"
            " or leave it out"
        )


def lacking(gone: bytes, **settings: Any) -> OpenedTokenizer:
    """Byte-level BPE that silently drops some bytes, because it has no entries for them."""
    letters = [byte_alphabet()[byte] for byte in range(256) if byte not in gone]
    entries = {letter: place for place, letter in enumerate(letters)}
    backend = Tokenizer(models.BPE(entries, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(**{"add_prefix_space": False} | settings)
    backend.add_tokens([AddedToken("<think>", normalized=False)])
    return open_tokenizer(wrap(backend), name="lossy")


@pytest.mark.parametrize("parse_special", [False, True])
@pytest.mark.parametrize(
    ("text", "byte", "char"),
    [
        ("\x04", 0, "\x04"),
        ("a\x04b", 1, "\x04"),
        ("ab\x04\x04", 2, "\x04"),
        (" \x04", 1, "\x04"),
        (" \x04 a", 1, "\x04"),
        ("  \x04a", 2, "\x04"),
        ("é\U00040000", 2, "\U00040000"),
        ("é\x85", 3, "\x85"),
        ("<think>\x04", 7, "\x04"),
        ("a<think> \x04<think>", 9, "\x04"),
        ("\x04<think>", 0, "\x04"),
        ("<think><think>x\x04", 15, "\x04"),
        ("<|end|>é\x04", 9, "\x04"),
        ("<|end|> x<|turn|> \x04<|end|>", 18, "\x04"),
    ],
)
def test_a_byte_that_is_dropped_silently_is_named(
    text: str, byte: int, char: str, parse_special: bool
) -> None:
    """Letters left out: U+0004, the first byte of U+40000, the second of U+0085."""
    tokenizer = lacking(b"\x04\xf1\x85")
    message = message_of(tokenizer, text, parse_special=parse_special)
    assert message == refusal("lossy", byte, char)
    readable = text.replace(char, "x")
    check(tokenizer, tokenizer.encode(readable), readable)


@pytest.mark.parametrize("adds_space", [False, True])
def test_the_named_byte_is_the_first_that_the_tokenizer_lacks(adds_space: bool) -> None:
    gone = b"\x04\xf1\x85"
    tokenizer = lacking(gone, add_prefix_space=adds_space)

    @given(text=st.text(st.sampled_from(" a\x04\x85é<\U00040000\n"), max_size=8))
    def test(text: str) -> None:
        bad = [place for place, byte in enumerate(text.encode()) if byte in gone]
        if bad:
            assert f"cannot read byte {bad[0]} of the text" in message_of(tokenizer, text)
        else:
            check(tokenizer, tokenizer.encode(text), text)

    test()


@pytest.mark.parametrize("family", ["marked", "prefixed", "unigram"])
@pytest.mark.parametrize(
    ("text", "byte"), [("▁", 0), ("a▁", 1), (" ▁", 1), ("é ▁b", 3), ("日本 \n▁", 8), ("▁▁a", 0)]
)
def test_the_space_mark_as_text_is_refused_by_tokenizers_that_use_it(
    family: str, text: str, byte: int
) -> None:
    for parse_special in (False, True):
        message = message_of(opened(family), text, parse_special=parse_special)
        assert message == refusal(family, byte, "\u2581")


def without_fallback() -> OpenedTokenizer:
    entries = {"<unk>": 0, "a": 1, "b": 2, "▁": 3}
    backend = Tokenizer(models.BPE(entries, [], unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    return open_tokenizer(wrap(backend, unk_token="<unk>"), name="unknowing")


@pytest.mark.parametrize(
    ("text", "byte", "char"),
    [("ab日b", 2, "日"), ("é", 0, "é"), ("a é日", 2, "é"), ("b\n", 1, "\n")],
)
def test_what_becomes_an_unknown_token_is_named(text: str, byte: int, char: str) -> None:
    for parse_special in (False, True):
        message = message_of(without_fallback(), text, parse_special=parse_special)
        assert message == refusal("unknowing", byte, char)
    message = message_of(without_fallback(), "<|turn|>" + text, parse_special=True)
    assert message == refusal("unknowing", byte + 8, char)


def test_the_string_of_the_unknown_token_can_be_parsed_like_any_special_token() -> None:
    found = without_fallback().encode("a<unk>b", parse_special=True)
    assert found.text == b"ab"
    assert found.roles.tolist() == [Role.REGULAR, Role.UNKNOWN, Role.REGULAR]


def test_an_unknown_token_in_place_of_a_dummy_space_is_refused() -> None:
    """Its bytes would not be missed: the text's own are all there."""
    backend = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer = open_tokenizer(wrap(backend), name="markless")
    assert plain_ids(tokenizer, "a") == [0, 1]
    assert message_of(tokenizer, "a") == refusal("markless", 0, "a")
    (first, second) = tokenizer.encode_each(["a", "aa"])
    assert [str(first), str(second)] == [refusal("markless", 0, "a")] * 2


@pytest.mark.parametrize("text", ["<unk>", "a <unk>", "<0x41>"])
def test_unigram_that_reads_a_string_as_an_entry_for_something_else_refuses(text: str) -> None:
    tokenizer = opened("unigram")
    message = message_of(tokenizer, text)
    assert message == refusal("unigram", text.index("<"), "<")


def test_a_token_that_becomes_special_in_plain_text_is_refused() -> None:
    """Unigram finds the entry in the text, whatever it was told of special tokens."""
    entries = [("<unk>", 0.0), ("</s>", 0.0), *((letter, -5.0) for letter in "ab</s>")]
    backend = Tokenizer(models.Unigram(list(dict(entries).items()), unk_id=0))
    tokenizer = open_tokenizer(wrap(backend, eos_token="</s>"), name="given")
    assert message_of(tokenizer, "a</s>") == refusal("given", 1, "<")
    found = tokenizer.encode("a</s>b", parse_special=True)
    assert (found.text, found.roles.tolist()) == (b"ab", [Role.REGULAR, Role.END, Role.REGULAR])


def test_a_special_token_that_is_given_as_regular_has_its_text() -> None:
    tokenizer = open_tokenizer(
        wrap(byte_level_bpe()), name="given", roles={"<|turn|>": Role.REGULAR}
    )
    found = tokenizer.encode("a<|turn|>b<|stop|>", parse_special=True)
    assert found.text == b"a<|turn|>b"
    assert found.byte_spans.tolist() == [[0, 1], [1, 9], [9, 10], [10, 10]]
    assert found.roles.tolist() == [0, 0, 0, Role.END_OF_TURN]


@pytest.mark.parametrize("family", SIDES)
@given(pieces=st.lists(st.one_of(TEXTS, st.sampled_from(SPECIAL * 3)), max_size=8))
@example(pieces=[*SPECIAL, *SPECIAL])
@example(pieces=["<|begin|>", " ", "<|stop|>", "\n", "<|turn|>", "  a", "<|end|>"])
@example(pieces=["<|stop|", ">", "<<|stop|>>"])
def test_special_tokens_are_parsed_where_their_strings_are(family: str, pieces: list[str]) -> None:
    tokenizer, text = opened(family), "".join(pieces)
    for string in ("\u2581", "<unk>", "<0x"):
        text = text.replace(string, "_")
    parts = re.split("(" + "|".join(map(re.escape, SPECIAL)) + ")", text)
    found = tokenizer.encode(text, parse_special=True)
    assert found.ids.tolist() == plain_ids(tokenizer, text, parse_special=True)
    check(tokenizer, found, "".join(parts[::2]))
    is_special = found.roles > 0
    special = zip(
        found.ids[is_special].tolist(), found.byte_spans[is_special, 0].tolist(), strict=True
    )
    places = np.cumsum([len(part.encode()) for part in parts[::2]]).tolist()
    numbers = [tokenizer.hf.convert_tokens_to_ids(token) for token in parts[1::2]]
    assert list(special) == list(zip(numbers, places, strict=False))


@pytest.mark.parametrize("make", [byte_level_bpe, marked_bpe, lambda: marked_bpe("▁"), unigram])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a <L> b", "a b"),
        ("a <R> b", "a b"),
        ("a \n<B>\t b", "ab"),
        ("<R>  a", "a"),
        ("a  <L>", "a"),
        ("<R> <L> <B>", ""),
        ("x<L><R> <R>\n\ny", "xy"),
        ("  <R>", "  "),
    ],
)
def test_white_space_that_a_special_token_takes_is_no_text(
    make: Any, text: str, expected: str
) -> None:
    backend = make()
    sides = {
        "<L>": {"lstrip": True},
        "<R>": {"rstrip": True},
        "<B>": {"lstrip": True, "rstrip": True},
    }
    backend.add_special_tokens(
        [AddedToken(token, special=True, **takes) for token, takes in sides.items()]
    )
    tokenizer = open_tokenizer(wrap(backend), name="given")
    found = tokenizer.encode(text, parse_special=True)
    assert found.ids.tolist() == plain_ids(tokenizer, text, parse_special=True)
    check(tokenizer, found, expected)
    check(tokenizer, tokenizer.encode(text), text)


def test_a_token_of_text_that_takes_white_space_is_refused_and_not_read_wrongly() -> None:
    backend = byte_level_bpe()
    backend.add_tokens([AddedToken("<think>", normalized=False, rstrip=True)])
    tokenizer = open_tokenizer(wrap(backend), name="given")
    assert tokenizer.encode("a<think>b").text == b"a<think>b"
    assert message_of(tokenizer, "a<think> \nb") == refusal("given", 8, " ")


def test_each_part_behind_an_added_token_may_have_its_dummy_space() -> None:
    backend = marked_bpe("▁")
    backend.add_tokens(
        [AddedToken("<think>", normalized=False), AddedToken("\n\n", normalized=False)]
    )
    tokenizer = open_tokenizer(wrap(backend), name="given")
    text = "a<think>b\n\n c<think><think>\n\n"
    found = tokenizer.encode(text)
    assert found.ids.tolist() == plain_ids(tokenizer, text)
    check(tokenizer, found, text)
    num_bytes = sum(len(tokenizer.vocabulary.token_bytes[number]) for number in found.ids)
    assert num_bytes - len(text) == 3


def test_a_prefix_space_of_a_byte_level_tokenizer_is_a_dummy() -> None:
    backend = byte_level_bpe()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer = open_tokenizer(wrap(backend), name="given")
    spans = {text: tokenizer.encode(text).byte_spans.tolist() for text in ("", "z", " z", "\nz")}
    assert spans == {
        "": [],
        "z": [[0, 0], [0, 1]],
        " z": [[0, 1], [1, 2]],
        "\nz": [[0, 0], [0, 1], [1, 2]],
    }


def test_bytes_in_the_normaliser_are_bytes_too() -> None:
    backend = byte_level_bpe()
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.ByteLevel()])
    tokenizer = open_tokenizer(wrap(backend), name="given")
    for text in HARD:
        check(tokenizer, tokenizer.encode(text), unicodedata.normalize("NFC", text))
    found = tokenizer.encode("<|turn|>é <|stop|>", parse_special=True)
    assert found.text == "é ".encode()
    assert found.roles.tolist() == [Role.HEADER, 0, 0, Role.END_OF_TURN]
