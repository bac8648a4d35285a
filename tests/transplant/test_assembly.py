from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TEXTS, kept
from tokenizers import AddedToken, Tokenizer, processors
from trained_tokenizers import CHAT_TEMPLATE, FAMILIES, byte_level_bpe, marked_bpe, opened, wrap
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from suite.errors import TextError
from suite.text.encoding import Role
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer
from suite.transplant.assembly import assemble

OTHER_SPECIAL = ["<bos>", "<eos>", "<unused7>", "<image>"]


def make_owner() -> OpenedTokenizer:
    """A tokenizer with special tokens of its own, which puts a begin token before a text."""
    backend = byte_level_bpe()
    backend.add_special_tokens([AddedToken(name, special=True) for name in OTHER_SPECIAL])
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", backend.token_to_id("<bos>"))]
    )
    hf = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<bos>",
        eos_token="<eos>",
        model_max_length=77,
        chat_template="{{ bos_token }}{% for m in messages %}{{ m['content'] }}<eos>{% endfor %}",
    )
    return open_tokenizer(hf, name="owner")


OWNER = make_owner()
ASSEMBLED = {family: kept(OWNER, family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=25)
@given(text=st.one_of(st.sampled_from(TEXTS), st.text(max_size=30)))
def test_text_is_read_as_by_the_tokenizer_of_the_regular_tokens(family: str, text: str) -> None:
    new, target = ASSEMBLED[family], opened(family)
    (expected,), (found,) = target.encode_each([text]), new.encode_each([text])
    if isinstance(expected, TextError):
        assert isinstance(found, TextError)
        return
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.byte_spans.tolist() == expected.byte_spans.tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_regular_tokens_keep_their_ids_and_bytes(family: str) -> None:
    new, target = ASSEMBLED[family].vocabulary, opened(family).vocabulary
    regular = [n for n, entry in enumerate(target.token_bytes) if entry]
    assert [new.token_bytes[n] for n in regular] == [target.token_bytes[n] for n in regular]
    beyond = set(range(len(new))) - set(regular)
    assert {new.token_bytes[n] for n in beyond} == {b""}


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_follow_and_are_parsed(family: str) -> None:
    new, target = ASSEMBLED[family], opened(family)
    last = max(n for n, entry in enumerate(target.vocabulary.token_bytes) if entry)
    kept_ids = {string: number for number, string in new.vocabulary.special.items()}
    kept_ids.pop("<unk>", None)  # a Unigram model's own
    # An entry that nothing uses, reserved by its name, is not kept.
    assert kept_ids == {"<bos>": last + 1, "<eos>": last + 2, "<image>": last + 3}
    text = "a<image> b<eos><|turn|>"
    parsed = new.encode(text, parse_special=True).ids.tolist()
    assert [n for n in parsed if n > last] == [last + 3, last + 2]
    plain = new.encode(text).ids.tolist()
    assert max(plain) <= last


@pytest.mark.parametrize("family", FAMILIES)
def test_begin_token_template_and_settings_are_the_owners(family: str) -> None:
    new = ASSEMBLED[family]
    assert (new.adds_begin, new.begin_id) == (True, new.hf.bos_token_id)
    assert new.hf.model_max_length == 77
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    rendered = new.hf.apply_chat_template(messages, tokenize=False)
    assert rendered == OWNER.hf.apply_chat_template(messages, tokenize=False)
    read = new.encode(rendered, parse_special=True)
    assert read.text == b"HiHo"
    assert [new.vocabulary.special.get(n) for n in read.ids if n >= new.begin_id] == [
        "<bos>",
        "<eos>",
        "<eos>",
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_transformers_opens_what_was_saved(family: str, tmp_path: Path) -> None:
    new = ASSEMBLED[family].hf
    new.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*TEXTS, "a<image>b", "<eos>"):
        ids = again(text).input_ids
        assert ids == new(text).input_ids
        assert again.decode(ids) == new.decode(ids)
    assert again.get_vocab() == new.get_vocab()
    assert again.chat_template == new.chat_template


@pytest.mark.parametrize("family", FAMILIES)
def test_roles_are_the_owners(family: str) -> None:
    vocabulary = ASSEMBLED[family].vocabulary
    strings = {vocabulary.special[n] for n in vocabulary.ids_with_role(Role.BEGIN)}
    assert strings == {"<bos>"}
    assert ASSEMBLED[family].hf.eos_token == "<eos>"


def test_unused_special_tokens_can_be_kept() -> None:
    made = assemble(OWNER, opened("byte-level"), keep=["<unused7>"])
    assert "<unused7>" in made.get_vocab()


def test_without_a_begin_token_none_is_added() -> None:
    new = kept(opened("marked"), "byte-level")
    assert not new.adds_begin
    assert new.hf.chat_template == CHAT_TEMPLATE


def test_a_special_token_takes_the_string_of_a_regular_one() -> None:
    backend = marked_bpe()
    backend.add_tokens([AddedToken("<image>", special=False), AddedToken("<br>", special=False)])
    target = open_tokenizer(wrap(backend), name="target")
    gone, stays = backend.token_to_id("<image>"), backend.token_to_id("<br>")
    new = open_tokenizer(assemble(OWNER, target), name="new").vocabulary
    assert new.is_dead[gone]
    assert new.token_bytes[stays] == b"<br>"
    assert "<image>" in {new.special[n] for n in new.special if n > stays}


def test_no_merge_leads_to_the_string_of_a_special_token() -> None:
    state = json.loads(byte_level_bpe().to_str())
    state["pre_tokenizer"]["use_regex"] = False
    size = len(state["model"]["vocab"])
    state["model"]["vocab"] |= {"<e": size, "<eo": size + 1, "<eos": size + 2, "<eos>": size + 3}
    first = [["<", "e"], ["<e", "o"], ["<eo", "s"], ["<eos", ">"]]
    state["model"]["merges"] = [*first, *state["model"]["merges"]]
    target = open_tokenizer(wrap(Tokenizer.from_str(json.dumps(state))), name="target")
    new = open_tokenizer(assemble(OWNER, target), name="new")
    found = new.encode("<eos>").ids.tolist()
    assert found == [size + 2, new.vocabulary.id_of_bytes[b">"]]
