"""lm-eval's generation settings as the engine takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_requests import load, prompts

from suite.engine.generation import GenerationSettings
from suite.harness.generation_kwargs import (
    cut_reasoning,
    generation_settings,
    grouping_key,
    random_keys,
    special_stops,
)


def settings(**kwargs: Any) -> GenerationSettings:
    return generation_settings({"seed": 0} | kwargs, ("<end>",))


@pytest.mark.parametrize("name", ["max_gen_toks", "max_new_tokens", "max_tokens"])
def test_the_limit_has_several_names(name: str) -> None:
    assert settings(**{name: 5}).max_tokens == 5


def test_lm_evals_own_name_of_the_limit_wins() -> None:
    assert settings(max_completion_tokens=7, max_tokens=6, max_gen_toks=5).max_tokens == 5
    assert settings().max_tokens == 256


@pytest.mark.parametrize(
    ("given", "do_sample", "temperature"),
    [
        ({}, False, 1.0),
        ({"temperature": 0.0}, False, 1.0),
        ({"temperature": 0.7}, True, 0.7),
        ({"do_sample": False, "temperature": 0.7}, False, 1.0),
        ({"do_sample": True}, True, 1.0),
        ({"do_sample": True, "temperature": 0.0}, False, 1.0),
    ],
)
def test_sampling_is_on_where_lm_eval_has_it_on(
    given: dict[str, Any], do_sample: bool, temperature: float
) -> None:
    found = settings(**given)
    assert (found.do_sample, found.temperature) == (do_sample, temperature)


def test_the_end_as_text_is_one_more_stop_string() -> None:
    assert settings(until="\n").stop == ("\n", "<end>")
    assert settings(until=["a", "", "a"]).stop == ("a", "<end>")
    assert settings(until=None).stop == ("<end>",)


def test_what_is_given_is_not_changed() -> None:
    until = ["\n"]
    settings(until=until)
    assert until == ["\n"]


def test_the_seed_is_lm_evals_unless_one_is_given() -> None:
    torch.manual_seed(99)
    assert generation_settings({}, ()).seed == 99
    assert generation_settings({"seed": 0}, ()).seed == 0


def test_everything_else_passes_through() -> None:
    found = settings(top_p=0.9, top_k=5, max_gen_bytes=80, do_sample=True, temperature=0.5)
    assert (found.top_p, found.top_k, found.max_bytes) == (0.9, 5, 80)


def test_settings_in_any_order_belong_together() -> None:
    assert grouping_key({"a": 1, "b": [2]}) == grouping_key({"b": [2], "a": 1})
    assert grouping_key({"a": 1}) != grouping_key({"a": 2})


def test_stop_strings_count_behind_the_reasoning_only() -> None:
    assert cut_reasoning("a; b</think>\n c; d", "</think>", [";"]) == "c"
    assert cut_reasoning("a; b", "</think>", [";"]) == "a"


def test_random_numbers_follow_from_the_item_and_its_repetition_alone() -> None:
    one, two = prompts(["a", "b"])
    keys = random_keys([one, two, one])
    assert len(set(keys)) == 3
    assert random_keys([two, one, one]) == [keys[1], keys[0], keys[2]]


def test_special_tokens_that_spell_a_stop_string_end_a_text(tiny_model: Path) -> None:
    hf = load(tiny_model).tokenizer
    pad = hf.pad_token_id
    assert special_stops(hf, ("a", "<pad>", "\n"), len(hf)) == [pad]
    assert special_stops(hf, ("<pad>",), pad) == []
