"""The guard: what was not measured alike is refused by name, or joined where it was alike."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from compared_scores import group, key, ratio, refusal, run
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.errors import NotComparableError
from suite.results.comparability import (
    Difference,
    check_comparable,
    check_conditions,
    differences,
    unknown_conditions,
)
from suite.results.samples_file import group_key


def test_runs_measured_alike_are_joined_without_a_word() -> None:
    first, second = run((1, 2, 3)), run((3, 2, 1), model="old")
    left, right, notes = check_comparable(first, second)
    assert differences(first, second) == ()
    assert left.keys.tolist() == right.keys.tolist() == sorted(map(key, (1, 2, 3)))
    assert notes == ()


@pytest.mark.parametrize(
    ("what", "value", "told"),
    [
        ("task version", "2.0", "task version: 1.0 against 2.0"),
        ("shots", 0, "shots: 5 against 0"),
        ("task definition", "bbbb", "task definition: aaaa against bbbb"),
        ("chat template", "f00", "chat template: none against f00"),
        ("protocol", "paper", "protocol: lm-eval against paper"),
    ],
)
def test_a_condition_that_differs_is_refused_by_name(what: str, value: Any, told: str) -> None:
    first, second = run(), run(model="old", **{what: value})
    expected = f"arc: new and old were not measured alike ({told}); evaluate both in the same way"
    assert refusal(first, second) == expected
    assert refusal(first, second, shared_items=True) == expected


def test_every_difference_is_told_at_once() -> None:
    first, second = run(), run((1, 2), model="old", shots=0, protocol="paper")
    assert refusal(first, second) == (
        "arc: new and old were not measured alike (shots: 5 against 0; protocol: lm-eval against"
        " paper; item sets: 2 of 4 items only there against 0 of 2 items only there); evaluate both"
        " in the same way"
    )


def test_another_filter_is_refused_with_the_options_that_choose_one() -> None:
    first = run()
    second = run(model="old")
    second = replace(second, score=replace(second.score, filter="strict"))
    assert refusal(first, second) == (
        "arc: new and old were not measured alike (filter: none against strict); choose a score"
        " that both have with --metric and --filter"
    )


def test_another_task_under_one_label_is_refused() -> None:
    first, second = run(), run(model="old")
    record = replace(second.record, task=replace(second.record.task, task="arc_easy"))
    assert "(task: arc against arc_easy)" in refusal(first, replace(second, record=record))


def test_what_one_side_does_not_tell_is_a_note() -> None:
    first, second = run(), run(model="old", shots=None, prompts=[""] * 4)
    assert unknown_conditions(first, second) == ("shots", "prompts")
    _, _, notes = check_comparable(first, second)
    assert notes == (
        "arc: only one of new and old tells shots, prompts, so whether they agree is not known",
    )


def test_what_neither_side_tells_is_no_note() -> None:
    first = run(shots=None, prompts=[""] * 4)
    second = run(model="old", shots=None, prompts=[""] * 4)
    assert unknown_conditions(first, second) == ()


def test_of_settings_only_those_that_differ_are_told() -> None:
    first = run(generation_settings={"until": ["\n"], "temperature": 0})
    second = run(model="old", generation_settings={"until": ["\n"], "temperature": 1, "top_p": 0.9})
    assert differences(first, second) == (
        Difference("generation settings", '{"temperature": 0}', '{"temperature": 1, "top_p": 0.9}'),
    )


def test_single_tasks_whose_condition_one_side_does_not_tell_do_not_differ() -> None:
    first = run(shots={"one": 5, "two": None})
    second = run(model="old", shots={"one": 5, "two": 0})
    assert differences(first, second) == ()


def test_long_texts_are_shown_where_they_begin_to_differ() -> None:
    same = "You are a helpful assistant. " * 10
    first = run(system_instruction=same + "Be brief.")
    second = run(system_instruction=same + "Be long.")
    (found,) = differences(first, second)
    assert found.first.startswith("…")
    assert found.first.endswith("Be brief.")
    assert found.second.startswith("…")
    assert found.second.endswith("Be long.")
    assert len(found.first) <= 61


def test_the_same_model_twice_is_told_apart() -> None:
    assert refusal(run(), run(shots=0)).startswith("arc: new (first) and new (second) were not")


def test_other_item_sets_are_refused_and_joined_on_request() -> None:
    first, second = run((1, 2, 3, 4)), run((3, 4, 5), model="old")
    assert refusal(first, second) == (
        "arc: new and old were not measured alike (item sets: 2 of 4 items only there against 1 of"
        " 3 items only there); compare the items that both share with --shared-items"
    )
    left, right, notes = check_comparable(first, second, shared_items=True)
    assert left.keys.tolist() == right.keys.tolist() == sorted([key(3), key(4)])
    assert left.values.tolist() == right.values.tolist()
    assert notes == (
        "arc: compared on 2 shared items; left out: 2 that only new has, 1 that only old has",
    )


def test_items_with_other_prompts_are_refused_and_left_out_on_request() -> None:
    first = run((1, 2, 3))
    second = run((1, 2, 3), prompts=["prompt 1", "another", "other"], model="old")
    left, right = (hashlib.md5(t).hexdigest()[:8] for t in (b"prompt 2", b"another"))
    assert refusal(first, second) == (
        "arc: new and old were not measured alike (prompts of 2 of 3 shared items, the first of"
        f" them item 2 of arc: hash {left} against hash {right}); compare the items that both share"
        " with --shared-items"
    )
    joined, _, notes = check_comparable(first, second, shared_items=True)
    assert joined.keys.tolist() == [key(1)]
    assert notes == ("arc: compared on 1 shared items; left out: 2 with different prompts",)


def test_without_any_item_of_equal_prompts_nothing_is_joined() -> None:
    first, second = run((1, 2)), run((1, 2), prompts=["a", "b"], model="old")
    assert refusal(first, second, shared_items=True) == (
        "arc: new and old share no item that was put to both with the same prompt; evaluate both on"
        " the same items"
    )


def test_a_ratio_over_other_bytes_is_refused_even_on_shared_items() -> None:
    first, second = ratio((1, 2), (10, 20)), ratio((1, 2), (10, 21), model="old")
    for shared_items in (False, True):
        assert refusal(first, second, shared_items=shared_items) == (
            "arc: new and old were not measured alike (units scored (bytes or words) of 1 of 2"
            " shared items: 20 in all against 21 in all); evaluate both in the same way"
        )


def test_bytes_of_items_with_other_prompts_do_not_matter_once_they_are_left_out() -> None:
    first = ratio((1, 2), (10, 20))
    second = ratio((1, 2), (10, 21), model="old", prompts=["prompt 1", "another"])
    left, _, _ = check_comparable(first, second, shared_items=True)
    assert left.weights is not None
    assert left.weights.tolist() == [10]


def test_conflicting_prompts_of_a_group_are_left_out_of_their_single_task_only() -> None:
    def change(task: str, size: int) -> list[str]:
        return ["another" if (task, i) == ("b", 1) else f"prompt {i}" for i in range(size)]

    first = group({"a": 2, "b": 2}, [0.5, 0.5])
    second = group({"a": 2, "b": 2}, [0.5, 0.5], change)
    assert "prompts of 1 of 4 shared items, the first of them item 1 of b" in refusal(first, second)
    left, right, _ = check_comparable(first, second, shared_items=True)
    expected = [group_key("a", key(0)), group_key("a", key(1)), group_key("b", key(0))]
    assert left.keys.tolist() == right.keys.tolist() == sorted(expected)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [(([0.25, 0.75], [0.75, 0.25]), [0.4, 0.6]), (([0.5, 0.5], [0.5, 0.5]), [0.5, 0.5])],
)
def test_swapping_two_groups_on_shared_items_swaps_the_result(
    weights: tuple[list[float], list[float]], expected: list[float]
) -> None:
    first = group({"a": 2, "b": 6}, weights[0])
    second = group({"a": 9, "b": 3}, weights[1])
    left, right, _ = check_comparable(first, second, shared_items=True)
    other_right, other_left, _ = check_comparable(second, first, shared_items=True)
    assert left.stratum_weights.tolist() == right.stratum_weights.tolist() == expected
    for one, swapped in ((left, other_left), (right, other_right)):
        assert one.keys.tolist() == swapped.keys.tolist()
        assert one.stratum_weights.tolist() == swapped.stratum_weights.tolist()


def test_items_left_out_for_their_prompts_do_not_count_for_a_groups_weights() -> None:
    first = group({"a": 2, "b": 2}, [0.5, 0.5])
    second = group(
        {"a": 2, "b": 6},
        [0.25, 0.75],
        lambda task, size: [
            "another" if (task, i) == ("b", 1) else f"prompt {i}" for i in range(size)
        ],
    )
    left, _, _ = check_comparable(first, second, shared_items=True)
    assert left.stratum_weights.tolist() == [2 / 3, 1 / 3]


@pytest.mark.parametrize("sizes", [{"a": 1, "b": 3}, {"a": 2, "b": 3}])
def test_a_group_averaged_in_another_way_is_refused(sizes: dict[str, int]) -> None:
    first = group({"a": 1, "b": 3}, [0.25, 0.75])
    second = group(sizes, [0.5, 0.5])
    for shared_items in (False, True):
        found = refusal(first, second, shared_items=shared_items)
        assert "weights of the single tasks: by size against equal" in found


def test_a_group_without_a_shared_item_of_a_single_task_is_not_joined() -> None:
    first = group({"a": 1, "b": 1}, [0.5, 0.5])
    second = group({"a": 1, "c": 1}, [0.5, 0.5])
    third = group({"a": 1}, [1.0])
    for one, other in ((first, second), (first, third), (third, first)):
        assert refusal(one, other, shared_items=True) == (
            "arc: new (first) and new (second) share no item of some single task that was put to"
            " both with the same prompt; evaluate both on the same items"
        )


def test_without_items_conditions_and_numbers_are_still_compared() -> None:
    first = replace(run((1, 2)), items=None, reason="no samples were written", tables=())
    second = run((1, 2), model="old")
    assert check_conditions(first, second) == ()
    assert refusal(first, second) == (
        "arc: new has no items to pair (no samples were written); evaluate it again with samples"
    )
    with pytest.raises(NotComparableError) as caught:
        check_conditions(first, run((1, 2, 3), model="old"))
    assert str(caught.value) == (
        "arc: new and old were not measured alike (number of items: 2 against 3); evaluate both on"
        " the same items, or with samples, which can be joined"
    )


def test_clusters_and_direction_known_on_one_side_hold_for_both() -> None:
    first, second = run((1, 2)), run((1, 2), model="old")
    assert first.items is not None
    assert second.items is not None
    clusters = np.array([7, 7])
    first = replace(first, items=replace(first.items, higher_is_better=None))
    second = replace(second, items=replace(second.items, clusters=clusters))
    left, right, _ = check_comparable(first, second)
    assert left.clusters is not None
    assert left.clusters.tolist() == [7, 7]
    assert left.higher_is_better is right.higher_is_better is True


@settings(max_examples=50)
@given(
    st.sets(st.integers(0, 12), min_size=1),
    st.sets(st.integers(0, 12), min_size=1),
    st.sets(st.integers(0, 12)),
)
def test_shared_items_are_those_of_both_with_equal_prompts(
    first: set[int], second: set[int], changed: set[int]
) -> None:
    others = sorted(second)
    prompts = [f"changed {i}" if i in changed else f"prompt {i}" for i in others]
    left, right = run(sorted(first)), run(others, prompts=prompts, model="old")
    expected = sorted(key(i) for i in first & second - changed)
    if not expected:
        assert "share no item" in refusal(left, right, shared_items=True)
        return
    joined, other, _ = check_comparable(left, right, shared_items=True)
    assert joined.keys.tolist() == other.keys.tolist() == expected
    assert joined.values.tolist() == other.values.tolist()
    is_alike = first == second and not first & changed
    assert (differences(left, right) == ()) == is_alike
