from __future__ import annotations

import itertools
import re
import unicodedata
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from trained_tokenizers import byte_level_bpe, opened, wrap
from transformers import PreTrainedTokenizerFast

from suite.errors import TextError
from suite.text.encoding import Role
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer
from suite.text.vocabulary import Scheme, Vocabulary, byte_alphabet, read_scheme

ENTRIES = {"h": 0, "i": 1, "Ġ": 2, "hi": 3, "Ġhi": 4}
MERGES = [("h", "i"), ("Ġ", "hi")]


def open_backend(backend: Tokenizer, **settings: Any) -> OpenedTokenizer:
    hf = PreTrainedTokenizerFast(tokenizer_object=backend, **settings)
    return open_tokenizer(hf, name="given")


def gpt2_letters() -> dict[str, int]:
    """The alphabet by what it is for: bytes that Latin-1 shows keep their letter."""
    letters, spare = {}, 256
    for byte in range(256):
        letter = chr(byte)
        if unicodedata.category(letter) in ("Cc", "Cf", "Zs"):
            letter, spare = chr(spare), spare + 1
        letters[letter] = byte
    return letters


def expected_bytes(family: str, entry: str) -> bytes:
    """The bytes of an ordinary entry, letter by letter."""
    if family == "byte-level":
        letters = gpt2_letters()
        return bytes(letters[letter] for letter in entry)
    if re.fullmatch("<0x[0-9A-F][0-9A-F]>", entry):
        return bytes.fromhex(entry[3:5])
    return b"".join(b" " if letter == "\u2581" else letter.encode() for letter in entry)


@pytest.mark.parametrize("family", ["byte-level", "marked", "prefixed", "unigram"])
def test_every_entry_of_a_trained_tokenizer_has_its_bytes(family: str) -> None:
    vocabulary, hf = opened(family).vocabulary, opened(family).hf
    entries = hf.get_vocab()
    special = {n: t.content for n, t in hf.added_tokens_decoder.items() if t.special}
    if "<unk>" in entries:
        special[entries["<unk>"]] = "<unk>"
    assert len(vocabulary) == len(entries) == max(entries.values()) + 1
    assert vocabulary.special == special
    for entry, number in entries.items():
        expected = b"" if number in special else expected_bytes(family, entry)
        assert vocabulary.token_bytes[number] == expected
        assert (vocabulary.roles[number] == Role.REGULAR) == (number not in special)
    assert not vocabulary.is_dead.any()
    assert np.flatnonzero(vocabulary.is_added).tolist() == sorted(hf.added_tokens_decoder)


def test_the_alphabet_is_what_the_tokenizers_library_writes() -> None:
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    assert set(byte_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())
    seen = set()
    steps = (range(0x800), range(0x800, 0xD800, 0x1C1), range(0xE000, 0x110000, 0x9C1))
    for char in map(chr, itertools.chain(*steps)):
        ((written, _),) = splitter.pre_tokenize_str(char)
        assert "".join(byte_alphabet()[byte] for byte in char.encode()) == written
        seen.update(char.encode())
    # No text in UTF-8 holds the other bytes.
    assert set(range(256)) - seen <= {0xC0, 0xC1, *range(0xF5, 0x100)}
    assert {letter: byte for byte, letter in enumerate(byte_alphabet())} == gpt2_letters()


def test_a_byte_vocabulary_is_the_bytes() -> None:
    vocabulary = opened("bytes:unigram").vocabulary
    assert vocabulary.token_bytes[:256] == tuple(bytes([byte]) for byte in range(256))
    assert set(vocabulary.token_bytes[256:]) == {b""}
    assert not vocabulary.is_dead.any()


def test_byte_fallback_entries_are_known_by_the_model_alone() -> None:
    entries = {"<0x41>": 0, "A": 1, "<0x0a>": 2, "<0x42>x": 3}
    with_fallback = open_backend(Tokenizer(models.BPE(entries, [], byte_fallback=True))).vocabulary
    assert with_fallback.token_bytes == (b"A", b"A", b"<0x0a>", b"<0x42>x")
    assert with_fallback.is_fallback.tolist() == [True, False, False, False]
    without = open_backend(Tokenizer(models.BPE(entries, []))).vocabulary
    assert without.token_bytes == (b"<0x41>", b"A", b"<0x0a>", b"<0x42>x")
    assert not without.is_fallback.any()


def test_of_entries_with_equal_bytes_the_ordinary_one_wins_and_a_byte_entry_is_last() -> None:
    """Added entries come by literal text, so they can repeat ordinary ones in the alphabet."""
    backend = Tokenizer(
        models.BPE({"<0x41>": 0, "▁A": 1, "A": 2, "<0x20>": 3}, [], byte_fallback=True)
    )
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.add_tokens([AddedToken(entry, normalized=False) for entry in (" A", " ", "B", "  ")])
    vocabulary = open_backend(backend).vocabulary
    assert vocabulary.token_bytes == (b"A", b" A", b"A", b" ", b" A", b" ", b"B", b"  ")
    assert vocabulary.id_of_bytes == {b"A": 2, b" A": 1, b" ": 5, b"B": 6, b"  ": 7}


def test_of_equal_ordinary_entries_the_first_wins() -> None:
    vocabulary = Vocabulary(
        token_bytes=(b"", b"a", b"b", b"a", b"a"),
        special={0: "<s>"},
        roles=np.array([1, 0, 0, 0, 0], np.uint8),
        is_dead=np.zeros(5, np.bool_),
        is_added=np.array([True, True, False, False, False]),
        is_fallback=np.zeros(5, np.bool_),
    )
    assert vocabulary.id_of_bytes == {b"a": 3, b"b": 2}


def test_special_and_dead_entries_are_found_by_no_bytes() -> None:
    for family in ("byte-level", "unigram"):
        vocabulary = opened(family).vocabulary
        found = vocabulary.id_of_bytes
        assert b"" not in found
        assert set(found) == set(vocabulary.token_bytes) - {b""}
        assert all(vocabulary.token_bytes[number] == entry for entry, number in found.items())


def test_ids_without_entry_are_dead() -> None:
    backend = Tokenizer(models.BPE({"h": 1, "i": 4, "hi": 7}, [("h", "i")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = open_backend(backend)
    assert tokenizer.vocabulary.token_bytes == (b"", b"h", b"", b"", b"i", b"", b"", b"hi")
    assert np.flatnonzero(tokenizer.vocabulary.is_dead).tolist() == [0, 2, 3, 5, 6]
    assert tokenizer.encode("hii").ids.tolist() == [7, 4]


def test_entries_outside_the_alphabet_are_dead() -> None:
    backend = Tokenizer(
        models.BPE(ENTRIES | {"日": 5, "h i": 6, "h\u0180": 7, "\x00": 8, "": 9}, MERGES)
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary = open_backend(backend).vocabulary
    assert np.flatnonzero(vocabulary.is_dead).tolist() == [5, 6, 7, 8, 9]
    assert not any(vocabulary.token_bytes[5:])


def test_an_unknown_token_is_special_and_not_dead() -> None:
    backend = Tokenizer(models.BPE({"<unk>": 0, "a": 1}, [], unk_token="<unk>"))
    vocabulary = open_backend(backend).vocabulary
    assert vocabulary.special == {0: "<unk>"}
    assert vocabulary.ids_with_role(Role.UNKNOWN) == (0,)
    assert not vocabulary.is_dead.any()


@pytest.mark.parametrize("family", ["byte-level", "marked", "unigram"])
def test_added_tokens_that_are_not_special_have_the_bytes_of_their_text(family: str) -> None:
    backend = Tokenizer.from_str(opened(family).hf.backend_tokenizer.to_str())
    literals = ["<think>", "\n\n", "\n\n\n", "日本", "  ", "Ġx", "é"]
    backend.add_tokens([AddedToken(literal, normalized=False) for literal in literals])
    vocabulary = open_backend(backend).vocabulary
    for literal in literals:
        number = backend.token_to_id(literal)
        assert vocabulary.token_bytes[number] == literal.encode()
        assert vocabulary.is_added[number]
        assert not vocabulary.is_dead[number]
        assert number not in vocabulary.special


LOST = "so tokens do not tell the bytes of a text; choose another tokenizer"
# A table of no replacements, as SentencePiece stores it.
EMPTY_TABLE = b"\x04\0\0\0" + b"\0" * 5
LOSSY_NORMALIZERS = [
    (normalizers.Lowercase(), "Lowercase lower-cases text"),
    (normalizers.StripAccents(), "StripAccents strips accents"),
    (normalizers.NFD(), "NFD decomposes characters"),
    (normalizers.NFKC(), "NFKC replaces compatibility characters"),
    (normalizers.NFKD(), "NFKD replaces compatibility characters"),
    (normalizers.Nmt(), "Nmt drops control characters"),
    (normalizers.Strip(), "Strip strips white space"),
    (
        normalizers.Precompiled(EMPTY_TABLE),
        "Precompiled replaces characters by a table of its own, as NFKC does",
    ),
    (
        normalizers.BertNormalizer(),
        "BertNormalizer cleans text and may lower-case it or strip its accents",
    ),
    (normalizers.Replace("``", '"'), "Replace replaces '``' by '\"'"),
    (normalizers.Replace(" ", ""), "Replace replaces ' ' by ''"),
    (normalizers.Replace(" ", "__"), "Replace replaces ' ' by '__'"),
    (normalizers.Replace(Regex(" {2,}"), "▁"), "Replace replaces ' {2,}' by '▁'"),
    (normalizers.Replace(Regex(" "), "▁"), "Replace replaces ' ' by '▁'"),
    (
        normalizers.Sequence([normalizers.NFC(), normalizers.Sequence([normalizers.NFKC()])]),
        "NFKC replaces compatibility characters",
    ),
]
DROPPING_SPLITTERS = [
    (pre_tokenizers.Whitespace(), "Whitespace"),
    (pre_tokenizers.WhitespaceSplit(), "WhitespaceSplit"),
    (pre_tokenizers.BertPreTokenizer(), "BertPreTokenizer"),
    (pre_tokenizers.CharDelimiterSplit("-"), "CharDelimiterSplit"),
    (pre_tokenizers.Split(Regex(r"\s+"), "removed"), "Split"),
    (pre_tokenizers.Punctuation("removed"), "Punctuation"),
    (
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(), pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])]
        ),
        "Whitespace",
    ),
]


@pytest.mark.parametrize(("normalizer", "reason"), LOSSY_NORMALIZERS)
def test_a_tokenizer_that_changes_text_is_refused(normalizer: Any, reason: str) -> None:
    backend = byte_level_bpe()
    backend.normalizer = normalizer
    with pytest.raises(TextError) as error:
        open_backend(backend)
    assert str(error.value) == f"given: its normaliser {reason}, {LOST}"


@pytest.mark.parametrize(("splitter", "kind"), DROPPING_SPLITTERS)
def test_a_tokenizer_that_drops_text_between_words_is_refused(splitter: Any, kind: str) -> None:
    backend = byte_level_bpe()
    backend.pre_tokenizer = splitter
    with pytest.raises(TextError) as error:
        open_backend(backend)
    expected = f"given: its pre-tokenizer {kind} drops the text between words, {LOST}"
    assert str(error.value) == expected


WORDS = {"a": 0, "[UNK]": 1}


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            models.WordPiece(WORDS, unk_token="[UNK]"),
            "WordPiece marks or drops the borders of words",
        ),
        (
            models.WordLevel(WORDS, unk_token="[UNK]"),
            "WordLevel marks or drops the borders of words",
        ),
        (models.BPE(WORDS, [], continuing_subword_prefix="##"), "BPE marks the borders of words"),
        (models.BPE(WORDS, [], end_of_word_suffix="</w>"), "BPE marks the borders of words"),
        (models.BPE(WORDS, [], dropout=0.1), "BPE drops merges at random"),
    ],
)
def test_a_model_without_bytes_is_refused(model: Any, reason: str) -> None:
    with pytest.raises(TextError) as error:
        open_backend(Tokenizer(model))
    assert str(error.value) == f"given: its model {reason}, {LOST}"


def test_settings_that_change_nothing_are_no_reason_to_refuse() -> None:
    model = models.BPE(WORDS, [], dropout=0.0, continuing_subword_prefix="", end_of_word_suffix="")
    assert open_backend(Tokenizer(model)).vocabulary.token_bytes == (b"a", b"[UNK]")


NFC, BYTES = normalizers.NFC(), normalizers.ByteLevel()
SPLIT = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
PREPEND = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]


@pytest.mark.parametrize(
    ("normalizer", "splitter", "expected"),
    [
        (None, None, Scheme(False, None, False, None)),
        (None, SPLIT, Scheme(True, None, False, None)),
        (NFC, SPLIT, Scheme(True, None, False, "NFC")),
        (normalizers.Sequence([NFC, BYTES]), None, Scheme(True, None, False, "NFC")),
        (BYTES, None, Scheme(True, None, False, None)),
        (normalizers.Sequence([]), SPLIT, Scheme(True, None, False, None)),
        (normalizers.Replace(" ", "▁"), None, Scheme(False, "▁", False, None)),
        (normalizers.Replace(" ", "_"), None, Scheme(False, "_", False, None)),
        (normalizers.Sequence(PREPEND), None, Scheme(False, "▁", False, None)),
        (
            normalizers.Sequence([NFC, normalizers.Sequence(PREPEND)]),
            None,
            Scheme(False, "▁", False, "NFC"),
        ),
        (None, pre_tokenizers.Metaspace("▂"), Scheme(False, "▂", False, None)),
        (
            None,
            pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Digits(individual_digits=True),
                    pre_tokenizers.Punctuation("isolated"),
                    pre_tokenizers.Split(Regex(r"\s"), "merged_with_next"),
                    pre_tokenizers.UnicodeScripts(),
                    SPLIT,
                ]
            ),
            Scheme(True, None, False, None),
        ),
    ],
)
def test_a_scheme_is_read_from_all_parts(normalizer: Any, splitter: Any, expected: Scheme) -> None:
    backend = Tokenizer(models.BPE(ENTRIES, MERGES))
    if normalizer is not None:
        backend.normalizer = normalizer
    if splitter is not None:
        backend.pre_tokenizer = splitter
    assert read_scheme(backend, "given") == expected


def test_byte_fallback_is_read_from_both_kinds_of_model() -> None:
    for fallback in (False, True):
        bpe = Tokenizer(models.BPE(ENTRIES, MERGES, byte_fallback=fallback))
        unigram = Tokenizer(models.Unigram([("<unk>", 0.0)], unk_id=0, byte_fallback=fallback))
        assert read_scheme(bpe, "given").has_byte_fallback is fallback
        assert read_scheme(unigram, "given").has_byte_fallback is fallback


@pytest.mark.parametrize("family", ["byte-level", "marked", "unigram", "bytes:byte-level"])
def test_a_row_of_tokens_is_joined_as_their_bytes(family: str) -> None:
    vocabulary = opened(family).vocabulary
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 50):
        ids = rng.integers(0, len(vocabulary), count).astype(np.int32)
        assert vocabulary.join(ids) == b"".join(vocabulary.token_bytes[number] for number in ids)


def test_a_vocabulary_of_a_wrapped_tokenizer_knows_its_special_tokens_by_role() -> None:
    vocabulary = open_tokenizer(wrap(byte_level_bpe()), name="given").vocabulary
    names = {role: vocabulary.ids_with_role(role) for role in Role if role != Role.REGULAR}
    assert sorted(number for ids in names.values() for number in ids) == sorted(vocabulary.special)
    assert [vocabulary.special[number] for number in names[Role.END]] == ["<|end|>"]
    assert names[Role.UNKNOWN] == ()
