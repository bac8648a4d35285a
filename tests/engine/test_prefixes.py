"""The tree of shared beginnings: every text can be read back, and nothing shared stands twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.engine import prefixes
from suite.engine.prefixes import Segment, prefix_tree


def texts_of(*texts: str) -> list[np.ndarray]:
    return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts]


def read_back(end: Segment) -> list[int]:
    parts = []
    segment: Segment | None = end
    while segment is not None:
        parts.append(segment.ids.tolist())
        segment = segment.parent
    return [token for part in reversed(parts) for token in part]


def all_segments(roots: list[Segment]) -> list[Segment]:
    return [s for root in roots for s in (root, *all_segments(root.children))]


texts = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=12).map(lambda t: np.array(t, np.int32)),
    min_size=1,
    max_size=12,
)


@given(texts, st.sampled_from([1, 3, 12, 10**9]))
def test_every_text_is_the_path_to_its_end(given_texts, least_saved):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefixes, "MIN_SAVED_TOKENS", least_saved)
        roots, ends = prefix_tree(given_texts)
    assert [read_back(end) for end in ends] == [text.tolist() for text in given_texts]
    for segment in all_segments(roots):
        assert len(segment.ids) > 0
        assert segment.start == (
            0 if segment.parent is None else segment.parent.start + len(segment.parent.ids)
        )
        assert all(child.parent is segment for child in segment.children)


@given(texts)
def test_with_no_least_saving_every_distinct_prefix_is_read_once(given_texts):
    distinct = {tuple(text[:n].tolist()) for text in given_texts for n in range(1, len(text) + 1)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefixes, "MIN_SAVED_TOKENS", 1)
        roots, _ = prefix_tree(given_texts)
    assert sum(len(segment.ids) for segment in all_segments(roots)) == len(distinct)


def test_equal_texts_are_one():
    roots, ends = prefix_tree(texts_of("abc", "abc", "abc"))
    assert len(roots) == 1
    assert ends[0] is ends[1] is ends[2]


def test_a_beginning_that_saves_too_little_is_read_again():
    # Two texts share 11 tokens, then 12.
    roots, _ = prefix_tree(texts_of("x" * 11 + "a", "x" * 11 + "b"))
    assert [len(root.ids) for root in roots] == [12, 12]
    roots, _ = prefix_tree(texts_of("x" * 12 + "a", "x" * 12 + "b"))
    assert [len(root.ids) for root in roots] == [12]
    assert [len(child.ids) for child in roots[0].children] == [1, 1]


def test_a_text_may_end_where_others_go_on():
    roots, ends = prefix_tree(texts_of("q" * 20, "q" * 20 + "a", "q" * 20 + "b"))
    assert ends[0] is roots[0]
    assert {len(child.ids) for child in roots[0].children} == {1}


def test_shots_questions_and_answers_make_three_levels():
    shots, questions = "s" * 30, ("one" * 5, "two" * 5)
    given_texts = texts_of(*(shots + q + a for q in questions for a in ("a1", "b2", "c3")))
    roots, _ = prefix_tree(given_texts)
    assert [len(root.ids) for root in roots] == [30]
    assert sorted(len(s.ids) for s in roots[0].children) == [15, 15]
    assert all(len(s.children) == 3 for s in roots[0].children)


def test_a_place_is_found_in_the_segment_that_holds_it():
    _, ends = prefix_tree(texts_of("q" * 20 + "ab", "q" * 20 + "cd"))
    segment, inside = ends[0].at(21)
    assert (segment, inside) == (ends[0], 1)
    segment, inside = ends[0].at(19)
    assert (segment, inside) == (ends[0].parent, 19)
