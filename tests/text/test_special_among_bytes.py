from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from trained_tokenizers import byte_level_bpe, opened, wrap

from suite.text.bytelevel import byte_tokenizer
from suite.text.encoding import Role
from suite.text.tokenizers import open_tokenizer

SPECIAL_PIECES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from(["<|turn|>", "<|stop|>", "<|begin|>", "<|sto", "|>", "<unk>", " ", "\n"]),
)


@settings(max_examples=100)
@given(text=st.lists(SPECIAL_PIECES, max_size=8).map("".join))
def test_special_tokens_among_bytes_are_those_that_the_library_finds(text: str) -> None:
    tokenizer = opened("bytes:unigram")
    found = tokenizer.encode(text, parse_special=True)
    assert found.ids.tolist() == tokenizer.hf(text, add_special_tokens=False).input_ids
    regular = found.roles == Role.REGULAR
    assert found.ids[regular].tolist() == list(found.text)
    assert np.diff(found.byte_spans)[:, 0].tolist() == regular.astype(int).tolist()


def test_special_tokens_that_take_white_space_take_it_among_bytes_too() -> None:
    backend = byte_level_bpe()
    backend.add_special_tokens([AddedToken("<|x|>", special=True, rstrip=True)])
    source = open_tokenizer(wrap(backend), name="source")
    tokenizer = open_tokenizer(byte_tokenizer(source), name="bytes")
    assert tokenizer.strips
    found = tokenizer.encode("a<|x|> \n b", parse_special=True)
    assert found.text == b"ab" == source.encode("a<|x|> \n b", parse_special=True).text
    assert found.roles.tolist() == [Role.REGULAR, Role.OTHER, Role.REGULAR]
