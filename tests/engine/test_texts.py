"""Where a text is cut between prompt and continuation, for tokenizers that begin texts or don't."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.engine.texts import MemberText, encode_pair, open_text
from suite.errors import TextError
from suite.models.tiny import write_tiny_model


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "with begin token"])
def text(request, tmp_path_factory) -> MemberText:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder, adds_begin_token=request.param, merges=True)
    hf = AutoTokenizer.from_pretrained(folder)
    return open_text(hf, SimpleNamespace(), name="tiny")


def written(text: MemberText, ids: list[int]) -> str:
    return text.hf.decode(ids, skip_special_tokens=True)


def begins(text: MemberText) -> list[int]:
    return text.encode("")


def test_a_pair_is_cut_behind_the_prompt(text):
    pair = encode_pair(text, "ab", " cd")
    assert written(text, pair.context) == "ab"
    assert written(text, pair.continuation) == " cd"
    assert pair.context == [*begins(text), *text.encode("ab", False)]
    assert not pair.is_moved


def test_white_space_at_the_end_of_a_prompt_counts_with_the_continuation(text):
    pair = encode_pair(text, "ab ", "cd")
    assert written(text, pair.context) == "ab"
    assert written(text, pair.continuation) == " cd"


def test_an_empty_prompt_becomes_the_begin_token(text):
    pair = encode_pair(text, "", "ab")
    assert pair.context == [text.prefix_id]
    assert written(text, pair.continuation) == "ab"


def test_a_prompt_of_white_space_becomes_the_begin_token_and_keeps_its_space(text):
    pair = encode_pair(text, " \n", "ab")
    assert pair.context == [text.prefix_id]
    assert written(text, pair.continuation) == " \nab"


def test_a_continuation_that_begins_with_the_begin_token_needs_no_second_one(text):
    pair = encode_pair(text, "", "<begin>ab")
    assert pair.context == [text.prefix_id]
    assert written(text, pair.continuation) == "ab"


def test_a_prompt_that_begins_with_the_begin_token_gets_no_second_one(text):
    pair = encode_pair(text, "<begin>ab", "cd")
    assert pair.context.count(text.prefix_id) == 1


def test_a_token_across_the_border_is_scored_whole(text):
    # `th` is one token: nothing would be left behind as many tokens as the prompt alone has.
    pair = encode_pair(text, "abt", "h")
    assert written(text, pair.context) == "ab"
    assert written(text, pair.continuation) == "th"
    assert pair.is_moved


def test_a_token_across_the_border_with_more_behind_it_loses_nothing(text):
    pair = encode_pair(text, "abt", "hed")
    assert written(text, pair.context) == "ab"
    assert written(text, pair.continuation) == "thed"
    assert pair.is_moved


def test_a_border_inside_the_first_token_leaves_the_begin_token(text):
    pair = encode_pair(text, "t", "h")
    assert pair.context == [text.prefix_id] or pair.context == begins(text)
    assert written(text, pair.continuation) == "th"


@settings(max_examples=40)
@given(st.text("abthein: ", max_size=8), st.text("abthein: ", min_size=1, max_size=8))
def test_prompt_and_continuation_are_the_tokens_of_the_whole_text(text, before, behind):
    pair = encode_pair(text, before, behind)
    assert len(pair.context) >= 1
    whole = [number for number in (*pair.context, *pair.continuation) if number != text.prefix_id]
    assert whole == text.encode(before + behind, False)
    assert written(text, pair.continuation).endswith(behind)


def test_the_paper_encodes_both_apart_behind_a_begin_token(text):
    pair = encode_pair(text, "abt", "h", "paper")
    assert pair.context == [text.prefix_id, *text.encode("abt", False)]
    assert pair.continuation == text.encode("h", False)


def test_end_tokens_are_the_tokenizer_s_and_those_of_the_generation_settings(text):
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=[257, 5]))
    opened = open_text(text.hf, model, name="tiny")
    assert opened.end_ids == tuple(dict.fromkeys([text.hf.eos_token_id, 257, 5]))
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=5))
    assert open_text(text.hf, model, name="tiny").end_ids == (text.hf.eos_token_id, 5)


def test_a_tokenizer_without_begin_and_end_is_refused():
    with pytest.raises(TextError) as caught:
        open_text(SimpleNamespace(bos_token_id=None, eos_token_id=None), None, name="mine")
    assert str(caught.value) == (
        "mine: its tokenizer has neither begin nor end token, so an empty prompt cannot be given;"
        " set bos_token or eos_token in its tokenizer_config.json"
    )
