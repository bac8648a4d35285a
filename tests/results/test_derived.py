"""Votes, ceilings and choices among members, computed from logged samples."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.records import MetricScore
from suite.results.derived import (
    Item,
    Items,
    NotDerivableError,
    any_member_correct,
    check_is_mean,
    item_of,
    majority_vote,
    mean_score,
    ranked,
)


def items_of(answers: list[str], golds: list[str]) -> Items:
    """A member's items: right where its answer is the gold one."""
    return {
        ("t", i, f"hash{i}"): Item(answer, float(answer == gold))
        for i, (answer, gold) in enumerate(zip(answers, golds, strict=True))
    }


def score(value: float | None, *, higher: bool | None = True, metric: str = "acc") -> MetricScore:
    return MetricScore(metric, "none", value, None, higher)


def choice_sample(lls: list[float], options: list[str], **metrics: float) -> dict[str, Any]:
    arguments = {
        f"gen_args_{i}": {"arg_0": "q", "arg_1": " " + option} for i, option in enumerate(options)
    }
    return {
        "arguments": arguments,
        "filtered_resps": [[str(ll), "False"] for ll in lls],
    } | metrics


panels = st.integers(1, 4).flatmap(
    lambda num: st.lists(
        st.tuples(st.tuples(*[st.sampled_from("abc")] * num), st.sampled_from("abc")),
        min_size=1,
        max_size=6,
    )
)


@given(panels, st.randoms(use_true_random=False))
def test_a_vote_is_won_by_the_most_frequent_answer_of_the_best_ranked_voter(
    panel: list[tuple[tuple[str, ...], str]], random: Any
) -> None:
    answers, golds = [row[0] for row in panel], [row[1] for row in panel]
    num = len(answers[0])
    ranking = random.sample(range(num), num)
    members = [items_of([row[m] for row in answers], golds) for m in range(num)]
    expected = []
    for row, gold in zip(answers, golds, strict=True):
        counts = Counter(row)
        most = max(counts.values())
        winner = next(row[m] for m in ranking if counts[row[m]] == most)
        expected.append(float(winner == gold))
    assert majority_vote(members, ranking) == expected


@given(panels)
def test_the_ceiling_bounds_every_member_and_every_vote(
    panel: list[tuple[tuple[str, ...], str]],
) -> None:
    answers, golds = [row[0] for row in panel], [row[1] for row in panel]
    members = [items_of([row[m] for row in answers], golds) for m in range(len(answers[0]))]
    ceiling = any_member_correct(members, higher_is_better=True)
    assert ceiling == [float(gold in row) for row, gold in zip(answers, golds, strict=True)]
    vote = majority_vote(members, range(len(members)))
    assert all(top >= voted for top, voted in zip(ceiling, vote, strict=True))
    singles = [sum(item.value or 0.0 for item in member.values()) for member in members]
    assert sum(ceiling) >= max(singles)


def test_where_less_is_better_the_ceiling_takes_the_least() -> None:
    members: list[Items] = [{("t", 0, "h"): Item(None, value)} for value in (2.0, 1.0, 3.0)]
    assert any_member_correct(members, higher_is_better=False) == [1.0]


def test_copies_of_one_member_vote_as_it_does() -> None:
    member = items_of(["a", "b", "c"], ["a", "a", "c"])
    assert majority_vote([member] * 3, [2, 0, 1]) == [1.0, 0.0, 1.0]


def test_a_choice_is_the_first_most_likely_option() -> None:
    sample = choice_sample([-3.0, -1.0, -1.0], ["x", "y", "z"], acc=1.0)
    assert item_of(sample, "acc", " ") == Item("1", 1.0)


def test_a_normalised_choice_is_the_most_likely_one_per_character_or_byte() -> None:
    # Per character -2/2, -3/4 and -4/4; per byte -2/2, -3/4 and -4/8.
    sample = choice_sample([-2.0, -3.0, -4.0], ["ab", "abcd", "éééé"], acc_norm=0.0, acc_bytes=1.0)
    assert item_of(sample, "acc_norm", " ").answer == "1"
    assert item_of(sample, "acc_bytes", " ").answer == "2"
    assert item_of(sample, "acc", " ").answer == "0"


@given(st.lists(st.floats(-50, -0.1), min_size=2, max_size=5))
def test_choices_are_those_of_lm_evals_own_formula(lls: list[float]) -> None:
    options = [f"option{'!' * i}" for i in range(len(lls))]
    sample = choice_sample(lls, options, acc=1.0)
    lengths = np.array([float(len(option)) for option in options])
    assert item_of(sample, "acc", " ").answer == str(np.argmax(lls))
    assert item_of(sample, "acc_norm", " ").answer == str(np.argmax(lls / lengths))


def test_a_generated_answer_is_the_text_after_the_filter() -> None:
    sample = {
        "arguments": {"gen_args_0": {"arg_0": "q", "arg_1": {"until": ["\n"]}}},
        "filtered_resps": ["42"],
        "exact_match": 1.0,
    }
    assert item_of(sample, "exact_match", " ") == Item("42", 1.0)


def test_the_likelihood_of_one_text_is_no_answer() -> None:
    sample = {
        "arguments": {"gen_args_0": {"arg_0": "text"}},
        "filtered_resps": ["-12.5"],
        "bits_per_byte": [-12.5, 4],
    }
    assert item_of(sample, "bits_per_byte", " ") == Item(None, None)
    with pytest.raises(NotDerivableError, match="give no answers that could be counted"):
        majority_vote([{("t", 0, "h"): Item(None, 1.0)}], [0])


def test_options_inside_prompts_have_no_length_to_normalise_by() -> None:
    sample = choice_sample([-1.0, -2.0], ["same", "same"], acc=1.0, acc_norm=1.0)
    assert item_of(sample, "acc", " ").answer == "0"
    assert item_of(sample, "acc_norm", " ").answer is None


def test_members_with_other_items_cannot_be_compared() -> None:
    first, second = items_of(["a"], ["a"]), items_of(["a", "b"], ["a", "b"])
    with pytest.raises(NotDerivableError) as error:
        any_member_correct([first, second], higher_is_better=True)
    assert str(error.value) == "the members were not scored on the same items"


def test_one_answer_with_two_values_decides_nothing() -> None:
    members: list[Items] = [{("t", 0, "h"): Item("a", value)} for value in (0.0, 1.0)]
    with pytest.raises(NotDerivableError, match="one answer is scored differently by the members"):
        majority_vote(members, [0, 1])


def test_only_means_over_items_are_derived() -> None:
    items = items_of(["a", "b"], ["a", "a"])
    check_is_mean(items, score(0.5))
    for wrong in (score(0.6), score(None)):
        with pytest.raises(NotDerivableError) as error:
            check_is_mean(items, wrong)
        assert str(error.value) == "acc is not the mean of a value for each item"


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_a_mean_has_lm_evals_standard_error(values: list[float]) -> None:
    found = mean_score(values, score(0.0))
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    assert found.value == pytest.approx(mean)
    assert found.stderr == pytest.approx(math.sqrt(variance / len(values)), abs=1e-12)


def test_one_item_has_no_standard_error() -> None:
    assert mean_score([1.0], score(0.0)).stderr is None


def test_members_are_ranked_in_the_metrics_direction_and_equals_keep_their_order() -> None:
    assert ranked([score(0.2), score(0.5), score(0.5)]) == [1, 2, 0]
    assert ranked([score(0.2, higher=False), score(0.5, higher=False)]) == [0, 1]


scores_by_task = st.integers(1, 4).flatmap(
    lambda num: st.lists(
        st.lists(st.floats(0, 1), min_size=num, max_size=num), min_size=1, max_size=5
    )
)


@given(scores_by_task)
def test_the_best_member_of_each_task_is_on_average_no_worse_than_any_member(
    tasks: list[list[float]],
) -> None:
    chosen = [members[ranked([score(value) for value in members])[0]] for members in tasks]
    best_single = max(math.fsum(values) for values in zip(*tasks, strict=True))
    assert math.fsum(chosen) >= best_single


def test_a_member_without_a_score_cannot_be_ranked() -> None:
    with pytest.raises(NotDerivableError, match="no value of acc to be chosen by"):
        ranked([score(0.2), score(None)])
    with pytest.raises(NotDerivableError, match="whether more of acc is better is not known"):
        ranked([score(0.2, higher=None)])
