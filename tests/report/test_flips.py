"""Which items changed between two models, how they are grouped, and which of them are shown."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from flip_cases import scored_run
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.report.flips import TURN, all_changes, changes, count_groups, group_places, in_turns
from suite.report.page_features import (
    Grouping,
    text_groupings,
    token_groupings,
    written_groupings,
)


def test_right_to_wrong_is_lost_and_wrong_to_right_is_gained() -> None:
    found = changes(scored_run("a", [1, 1, 0, 0]), scored_run("b", [1, 0, 1, 0]))
    assert found is not None
    assert found.is_lost.tolist() == [False, True, False, False]
    assert found.is_gained.tolist() == [False, False, True, False]


def test_only_items_that_both_were_given_count() -> None:
    found = changes(scored_run("a", [1, 1, 0]), scored_run("b", [0, 0]))
    assert found is not None
    assert found.keys.tolist() == [b"key000", b"key001"]


def test_scores_that_are_not_right_or_wrong_have_no_flips() -> None:
    assert changes(scored_run("a", [0.5, 1]), scored_run("b", [1, 0])) is None


def test_runs_that_were_measured_differently_have_no_flips() -> None:
    first, second = scored_run("a", [1, 0]), scored_run("b", [0, 1])
    second = replace(second, record=replace(second.record, conditions={"shots": 5}))
    first = replace(first, record=replace(first.record, conditions={"shots": 0}))
    assert changes(first, second) is None


def test_runs_without_items_have_no_flips() -> None:
    assert changes(replace(scored_run("a", [1]), items=None), scored_run("b", [0])) is None


def test_runs_measured_alike_have_the_changes_of_each_pair_by_itself() -> None:
    rng = np.random.default_rng(0)
    found = {
        name: scored_run(name, rng.integers(0, 2, size).astype(float).tolist())
        for name, size in (("a", 9), ("b", 9), ("c", 7), ("d", 9), ("e", 7))
    }
    other = replace(found["d"].record, conditions={"shots": 5})
    found["d"] = replace(found["d"], record=other)
    together = all_changes(found)
    assert set(together) == set(combinations("abce", 2))
    for (first, second), own in together.items():
        before, after = (
            dict(zip(side.keys.tolist(), side.values.tolist(), strict=True))
            for side in (found[first].items, found[second].items)
            if side is not None
        )
        keys = sorted(before.keys() & after.keys())
        assert own.keys.tolist() == keys
        assert own.is_lost.tolist() == [before[key] > after[key] for key in keys]
        assert own.is_gained.tolist() == [before[key] < after[key] for key in keys]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from((0, 1)), st.sampled_from((0, 1)), st.integers(-1, 2)),
        min_size=1,
        max_size=20,
    )
)
def test_counts_of_groups_are_those_of_a_loop(rows: list[tuple[int, int, int]]) -> None:
    before, after, codes = zip(*rows, strict=True)
    found = changes(scored_run("a", before), scored_run("b", after))
    assert found is not None
    grouping = Grouping("size", ("x", "y", "z"), np.array(codes))
    for code, group in enumerate(count_groups(found, [grouping])):
        inside = [(a, b) for a, b, c in rows if c == code]
        assert group.num_items == len(inside)
        assert group.num_lost == sum(a == 1 and b == 0 for a, b in inside)
        assert group.num_gained == sum(a == 0 and b == 1 for a, b in inside)


def test_an_item_knows_its_places_among_the_groups_of_all_features() -> None:
    groupings = [
        Grouping("size", ("x", "y"), np.array([1, 0])),
        Grouping("digits", ("none", "some"), np.array([-1, 1])),
    ]
    assert group_places(groupings, np.array([0, 1])).tolist() == [[1, -1], [0, 3]]


def test_pairs_with_the_reference_come_first_in_every_turn() -> None:
    order = list(in_turns([TURN + 1, 2, 1], [False, True, True]))
    assert order[:3] == [(1, 0), (2, 0), (1, 1)]
    assert order[3 : 3 + TURN] == [(0, place) for place in range(TURN)]
    assert order[3 + TURN :] == [(0, TURN)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=6))
def test_every_flip_comes_once(pairs: list[tuple[int, bool]]) -> None:
    sizes = [size for size, _ in pairs]
    order = list(in_turns(sizes, [prefer for _, prefer in pairs]))
    assert sorted(order) == [(i, place) for i, size in enumerate(sizes) for place in range(size)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=40))
def test_quarters_of_length_keep_order_and_say_their_limits(lengths: list[int]) -> None:
    keys = [b"%d" % i for i in range(len(lengths))]
    found = written_groupings(
        keys, {k: {"num_bytes": n} for k, n in zip(keys, lengths, strict=True)}
    )
    if not found:
        # No quarter ends before the largest length.
        assert 4 * lengths.count(max(lengths)) >= 3 * len(lengths)
        return
    (grouping,) = found
    assert grouping.feature == "length"
    assert len(grouping.groups) <= 4
    for code, name in enumerate(grouping.groups):
        inside = [n for n, c in zip(lengths, grouping.codes, strict=True) if c == code]
        limits = [int(part) for part in name.removesuffix(" bytes").split("–")]
        assert [limits[0], limits[-1]] == [min(inside), max(inside)]
    pairs = sorted(zip(lengths, grouping.codes.tolist(), strict=True))
    assert [code for _, code in pairs] == sorted(code for _, code in pairs)


def test_texts_are_grouped_by_length_digits_and_characters_outside_ascii() -> None:
    keys = [b"a", b"b", b"c"]
    length, digits, outside = text_groupings(keys, {b"a": "one 1", b"b": "zwölf"[:4]})
    assert length.codes.tolist() == [1, 0, -1]
    assert digits.codes.tolist() == [1, 0, -1]
    assert outside.codes.tolist() == [0, 1, -1]
    assert outside.groups == ("none", "some")


def test_tokens_are_grouped_by_rate_and_boundary_splits_for_a_model() -> None:
    features = {
        b"a": {"num_bytes": 10, "num_tokens": 5, "num_boundary_splits": 0},
        b"b": {"num_bytes": 10, "num_tokens": 2, "num_boundary_splits": 3},
    }
    rate, splits = token_groupings([b"a", b"b"], features, "byte model")
    assert rate.feature == "tokens a byte, byte model"
    assert rate.groups == ("0.2", "0.5")
    assert rate.codes.tolist() == [1, 0]
    assert splits.codes.tolist() == [0, 1]


@pytest.mark.parametrize("features", [{}, {b"a": {"num_bytes": 0, "num_tokens": 0}}])
def test_what_is_not_known_of_any_item_makes_no_group(
    features: dict[bytes, dict[str, int]],
) -> None:
    assert token_groupings([b"a"], features, "m") == ()
