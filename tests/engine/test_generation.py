"""Texts of toy members, whose every distribution can be looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_choirs import GREEDY, PROMPTS, SAMPLED, choir_of, letters, run
from toy_members import ToyMember

from suite.engine.batching import TokenBudget
from suite.engine.generation import Generated, GenerationSettings
from suite.errors import ConfigError, ModelError


def greedy_by_steps(members: Sequence[ToyMember], prompt: Sequence[int], limit: int) -> list[int]:
    """The text of step-wise largest probabilities of a uniform token mixture."""
    text: list[int] = []
    while len(text) < limit:
        probs = sum(member.probs([*prompt, *text]) for member in members)
        assert isinstance(probs, Tensor)
        best = int(probs.argmax())
        if best in members[0].end_ids:
            break
        text.append(best)
    return text


@pytest.mark.parametrize("seed", range(5))
def test_greedy_text_is_the_stepwise_largest_probability(seed: int) -> None:
    members = [ToyMember(seed=seed), ToyMember(seed=seed + 100)]

    found = run(choir_of(*members), PROMPTS)

    assert [list(one.outcomes) for one in found] == [
        greedy_by_steps(members, prompt, GREEDY.max_tokens) for prompt in PROMPTS
    ]
    assert {one.reason for one in found} <= {"end", "length"}
    assert [one.text for one in found] == [letters(one.outcomes) for one in found]


def test_of_equally_probable_outcomes_the_first_is_taken() -> None:
    member = ToyMember()
    member.tables[:] = torch.tensor([0.1, 0.4, 0.4, 0.1])

    assert run(choir_of(member), [(0,)])[0].outcomes == (1,) * 6


@pytest.mark.parametrize(("max_rows", "num_read"), [(1, 3), (2, 4), (3, 1), (7, 7), (50, 1000)])
@pytest.mark.parametrize("settings", [GREEDY, SAMPLED])
def test_batches_do_not_change_the_texts(
    settings: GenerationSettings, max_rows: int, num_read: int
) -> None:
    choir = choir_of(ToyMember(seed=3), ToyMember(seed=4), rule="sequence_mixture")
    alone = run(choir, PROMPTS, settings, max_rows=1)

    budget = TokenBudget(num_read, num_read)
    assert run(choir, PROMPTS, settings, max_rows=max_rows, budget=budget) == alone


@pytest.mark.parametrize("order", [(6, 5, 4, 3, 2, 1, 0), (2, 0, 6, 1, 5, 3, 4)])
def test_texts_come_back_in_the_order_of_requests(order: Sequence[int]) -> None:
    choir = choir_of(ToyMember(seed=5))
    expected = run(choir, PROMPTS)

    found = run(choir, [PROMPTS[place] for place in order], max_rows=3)

    assert found == [expected[place] for place in order]


@pytest.mark.parametrize("max_rows", [2, 3, 8])
def test_what_all_prompts_begin_with_is_read_once(max_rows: int) -> None:
    start = tuple(place % 3 for place in range(100))
    prompts = [(*start, *prompt) for prompt in PROMPTS]
    member, plain = ToyMember(seed=6), ToyMember(seed=6)

    found = run(choir_of(member), prompts, max_rows=max_rows)

    assert found == [run(choir_of(plain), [prompt])[0] for prompt in prompts]
    num_own = sum(map(len, PROMPTS)) + sum(max(0, len(one.outcomes)) for one in found)
    assert member.num_tokens_read <= len(start) + num_own
    assert plain.num_tokens_read > len(PROMPTS) * len(start)


def test_a_beginning_that_a_batch_shares_is_read_behind_the_one_that_all_share() -> None:
    start = tuple(place % 3 for place in range(100))
    rests = [(0,) * 99 + (1,), (0,) * 100, (1, 2, 0), (1, 2, 1)]
    member = ToyMember(seed=7)

    found = run(choir_of(member), [start + rest for rest in rests], max_rows=2)

    assert found == [run(choir_of(ToyMember(seed=7)), [start + rest])[0] for rest in rests]
    num_new = sum(len(one.outcomes) for one in found)
    assert member.num_tokens_read <= 100 + 99 + 1 + 1 + 3 + 3 + num_new


def test_finished_rows_are_read_no_more() -> None:
    member = ToyMember(seed=8, end_ids=(3,))

    found = run(choir_of(member), PROMPTS, GenerationSettings(stop=(), max_tokens=20))

    lengths = [len(one.outcomes) for one in found]
    # The last token of a row that reached its limit is not read.
    reads = [length - (one.reason == "length") for length, one in zip(lengths, found, strict=True)]
    rows = [sum(num_read > step for num_read in reads) for step in range(max(reads))]
    assert member.rows_read == [len(PROMPTS), *rows]
    assert len(set(rows)) > 2


def test_a_stop_string_ends_its_row_and_is_read_no_further() -> None:
    member = ToyMember(seed=9, num_entries=5, end_ids=(4,))
    settings = GenerationSettings(stop=(), max_tokens=12)
    plain = run(choir_of(member), PROMPTS, settings)
    place = next(place for place, one in enumerate(plain) if len(one.outcomes) > 6)
    text = plain[place].text
    stop = text[3:5]
    cut = text.index(stop)
    member.rows_read.clear()

    found = run(choir_of(member), [PROMPTS[place]], GenerationSettings((stop,), max_tokens=12))

    assert found[0].text == text[:cut]
    assert found[0].reason == "stop"
    assert found[0].outcomes == plain[place].outcomes[: cut + 2]
    # The prompt, then all but the last token.
    assert len(member.rows_read) == cut + 2


def test_a_stop_string_is_not_found_in_the_prompt_or_across_its_edge() -> None:
    member = ToyMember()
    member.tables[:] = torch.tensor([0.1, 0.8, 0.05, 0.05])  # Always b.
    settings = GenerationSettings(stop=("ab",), max_tokens=4)

    found = run(choir_of(member), [(0, 1, 0)], settings)

    assert found == [Generated("bbbb", (1, 1, 1, 1), "length")]


def test_a_text_has_at_most_so_many_bytes() -> None:
    settings = GenerationSettings(stop=(), max_tokens=20, max_bytes=3)
    member = ToyMember()
    member.tables[:] = torch.tensor([0.1, 0.8, 0.05, 0.05])

    assert run(choir_of(member), [(0,)], settings) == [Generated("bbb", (1, 1, 1), "length")]


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED])
def test_what_must_never_be_emitted_is_not(settings: GenerationSettings) -> None:
    member = ToyMember(seed=20)
    member.tables[:, 1] += 5
    member.tables /= member.tables.sum(1, keepdim=True)

    found = run(choir_of(member, never=[1]), PROMPTS, settings)

    assert all(1 not in one.outcomes for one in found)


def test_answers_are_told_once_each() -> None:
    told: list[tuple[int, Generated]] = []

    found = run(
        choir_of(ToyMember(seed=21, fails_at_read=6)),
        PROMPTS,
        max_rows=3,
        on_answer=lambda request, generated: told.append((request, generated)),
    )

    assert sorted(request for request, _ in told) == list(range(len(PROMPTS)))
    assert [generated for _, generated in sorted(told, key=lambda pair: pair[0])] == found


def test_no_requests_give_no_texts() -> None:
    assert run(choir_of(ToyMember()), []) == []


def test_a_member_that_leaves_nothing_to_emit_is_refused() -> None:
    member = ToyMember()
    member.tables[:] = torch.tensor([0.0, 1.0, 0.0, 0.0])

    with pytest.raises(ModelError) as caught:
        run(choir_of(member, never=[1]), [(0,)])

    assert str(caught.value) == (
        "toy: all that may be generated for request 0 has probability 0;"
        " give weight to a member that can go on"
    )


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED])
def test_rows_are_halved_where_memory_does_not_suffice(settings: GenerationSettings) -> None:
    expected = run(choir_of(ToyMember(seed=22)), PROMPTS, settings)
    member = ToyMember(seed=22, fails_above=2)

    found = run(choir_of(member), PROMPTS, settings, max_rows=7)

    assert found == expected
    assert member.rows_read[:3] == [7, 3, 1]


def test_memory_that_fails_midway_loses_no_text() -> None:
    expected = run(choir_of(ToyMember(seed=23)), PROMPTS)

    for fails_at_read in range(1, 6):
        member = ToyMember(seed=23, fails_at_read=fails_at_read)
        assert run(choir_of(member), PROMPTS, max_rows=7) == expected


def test_memory_that_does_not_suffice_for_one_row_is_told() -> None:
    with pytest.raises(ModelError) as caught:
        run(choir_of(ToyMember(fails_above=0)), PROMPTS, max_rows=2)

    assert str(caught.value) == (
        "toy: out of memory while generating for request 2 alone (5 tokens of prompt, at most 6"
        " new); lower max_length or the number of new tokens"
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_tokens": 0}, "max_tokens is 0, must be at least 1"),
        ({"max_bytes": 0}, "max_bytes is 0, must be at least 1"),
        ({"temperature": -0.5}, "temperature is -0.5, must be at least 0"),
        ({"temperature": float("nan")}, "temperature is nan, must be at least 0"),
        ({"top_p": 0.0}, "top_p is 0.0, must be above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p is 1.5, must be above 0 and at most 1"),
        ({"top_k": -1}, "top_k is -1, must be at least 0 (0 for all)"),
        ({"seed": -1}, "seed is -1, must be at least 0"),
        ({"stop": ("a", "")}, "a stop string is empty; leave it out"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GenerationSettings(**{"stop": (), "max_tokens": 5, **options})

    assert str(caught.value) == f"generation: {sentence}"
