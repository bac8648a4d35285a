from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_models import kept, kept_plan, replaced_plan
from tokenizers import AddedToken
from trained_tokenizers import FAMILIES, byte_level_bpe, opened, wrap

from suite.text.encoding import Role
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer
from suite.transplant.vocabulary import plan_vocabulary, special_by_role, special_by_string

PAIRS = [(a, b) for a in FAMILIES for b in (*FAMILIES, "bytes") if a != b]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_row_is_copied_composed_or_unused(source: str, target: str) -> None:
    old = opened(source)
    new = kept(old, target)
    plan = kept_plan(old, new)
    before, after = old.vocabulary, new.vocabulary
    spelt: dict[bytes, int] = {}
    for number, entry in enumerate(after.token_bytes):
        # The tokenizer reads a byte by its fallback entry only where it has no other.
        if entry and (entry not in spelt or after.is_fallback[spelt[entry]]):
            spelt[entry] = number
    for number, entry in enumerate(after.token_bytes):
        copied = plan.copied_from[number]
        if number in after.special:
            same = [n for n, string in before.special.items() if string == after.special[number]]
            assert copied == (same[0] if same else -1)
        elif copied >= 0:
            assert before.token_bytes[copied] == entry
        elif entry and spelt[entry] == number:
            assert entry not in before.id_of_bytes
            assert number in plan.composed
        else:
            assert number not in plan.composed
    assert plan.composed_bytes == tuple(after.token_bytes[n] for n in plan.composed)
    assert plan.num_copied + len(plan.composed) + plan.num_unused == plan.num_rows == len(after)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_shared_tokens_are_the_byte_strings_of_both(source: str, target: str) -> None:
    old = opened(source)
    new = kept(old, target)
    plan = kept_plan(old, new)
    found = [new.vocabulary.token_bytes[number] for number, _ in plan.shared]
    assert found == [old.vocabulary.token_bytes[number] for _, number in plan.shared]
    both = set(old.vocabulary.token_bytes) & set(new.vocabulary.token_bytes) - {b""}
    assert len(found) == len(set(found))
    assert set(found) == both


@pytest.mark.parametrize("family", FAMILIES)
def test_every_token_of_its_own_tokenizer_is_copied_from_itself(family: str) -> None:
    old = opened(family)
    new = kept(old, family)
    plan = kept_plan(old, new)
    regular = [n for n, entry in enumerate(old.vocabulary.token_bytes) if entry]
    assert plan.copied_from[regular].tolist() == regular
    assert not len(plan.composed)


def test_a_second_entry_for_the_same_bytes_takes_no_row_of_the_first() -> None:
    old = opened("byte-level")
    new = kept(old, "marked")
    plan = kept_plan(old, new)
    first = new.vocabulary.id_of_bytes[b"a"]
    (second,) = [
        n
        for n, entry in enumerate(new.vocabulary.token_bytes)
        if entry == b"a" and n != first and new.vocabulary.is_fallback[n]
    ]
    assert plan.copied_from[first] == old.vocabulary.id_of_bytes[b"a"]
    assert plan.copied_from[second] == -1
    assert second not in plan.composed


def test_the_gaps_of_other_special_tokens_are_unused() -> None:
    new = kept(opened("byte-level"), "marked")
    plan = kept_plan(opened("byte-level"), new)
    assert opened("marked").vocabulary.special[0] == "<unk>"
    assert plan.copied_from[0] == -1
    assert 0 not in plan.composed


def with_special(*names: str, has_template: bool = True, **settings: str) -> OpenedTokenizer:
    backend = byte_level_bpe()
    backend.add_special_tokens([AddedToken(name, special=True) for name in names])
    hf = wrap(backend, **settings)
    if not has_template:
        hf.chat_template = None
    return open_tokenizer(hf, name="special")


def test_replaced_special_tokens_are_matched_by_role() -> None:
    old = opened("marked")
    new = with_special(
        "<s>",
        "</s>",
        "<p>",
        has_template=False,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<p>",
    )
    found = special_by_role(old, new)
    strings = {
        new.vocabulary.special[n]: old.vocabulary.special[source] for n, source in found.items()
    }
    assert strings == {"<s>": "<|begin|>", "</s>": "<|end|>", "<p>": "<|pad|>"}


def test_tokens_without_role_are_matched_by_their_strings() -> None:
    old = with_special("<image>")
    new = with_special("<video>", "<image>")
    found = special_by_role(old, new)
    number = new.hf.convert_tokens_to_ids
    assert found[number("<image>")] == old.hf.convert_tokens_to_ids("<image>")
    assert number("<video>") not in found


def test_the_begin_token_comes_last_whatever_else_it_is() -> None:
    old = opened("marked")
    new = with_special("<x>", bos_token="<|turn|>", eos_token="<|stop|>", pad_token="<|stop|>")
    assert new.vocabulary.roles[new.begin_id] == Role.HEADER
    found = special_by_role(old, new)
    assert found[new.begin_id] == old.begin_id
    # Its end token also ends turns, which the template shows.
    assert found[new.hf.eos_token_id] == old.hf.convert_tokens_to_ids("<|stop|>")


def test_an_end_of_turn_takes_the_end_row_where_the_model_knows_no_turns() -> None:
    old = with_special(has_template=False)
    new = with_special(eos_token="<|stop|>")
    assert new.vocabulary.roles[new.hf.eos_token_id] == Role.END_OF_TURN
    assert special_by_role(old, new)[new.hf.eos_token_id] == old.hf.eos_token_id


def test_replaced_special_tokens_without_counterpart_are_composed() -> None:
    old, new = opened("marked"), with_special("<video>")
    plan = replaced_plan(old, new)
    number = new.hf.convert_tokens_to_ids("<video>")
    place = plan.composed.tolist().index(number)
    assert plan.composed_bytes[place] == b"<video>"


def test_a_special_token_beyond_the_models_rows_has_none_to_copy() -> None:
    old = opened("byte-level")
    new = kept(old, "marked")
    last = max(old.vocabulary.special)
    plan = plan_vocabulary(old, new, special_by_string(old, new), num_old_rows=last)
    (number,) = [n for n, s in new.vocabulary.special.items() if s == old.vocabulary.special[last]]
    assert plan.copied_from[number] == -1
    assert number not in plan.composed
    assert plan.num_special == len(old.vocabulary.special) - 1


def test_entries_that_no_text_has_are_unused() -> None:
    old = opened("byte-level")
    dead = replace(old.vocabulary, token_bytes=(b"", *old.vocabulary.token_bytes[1:]))
    new = replace(old, vocabulary=dead)
    plan = kept_plan(old, new)
    assert (plan.num_unused, plan.copied_from[0]) == (1, -1)
