from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_models import toy_vocabulary

from suite.ensemble import mined
from suite.ensemble.mined import mined_outcomes, nearest_entries
from suite.ensemble.outcomes import MemberVocabulary
from suite.text.encoding import Role


def edit_distance(a: bytes, b: bytes) -> int:
    """Levenshtein's, by its table."""
    above = list(range(len(b) + 1))
    for row, byte in enumerate(a, start=1):
        here = [row]
        for column, other in enumerate(b, start=1):
            swapped = above[column - 1] + (byte != other)
            here.append(min(above[column] + 1, here[-1] + 1, swapped))
        above = here
    return above[-1]


def nearest_by_loops(queries: list[bytes], choices: list[bytes]) -> list[int]:
    return [
        min(range(len(choices)), key=lambda place: (edit_distance(query, choices[place]), place))
        for query in queries
    ]


ENTRY = st.binary(min_size=1, max_size=7).map(lambda data: bytes(b % 3 + 252 for b in data))


@given(
    queries=st.lists(ENTRY, min_size=1, max_size=12, unique=True),
    choices=st.lists(ENTRY, min_size=1, max_size=12, unique=True),
)
@settings(max_examples=40, deadline=None)
def test_the_nearest_entry_has_the_smallest_edit_distance_and_the_lowest_place(
    queries: list[bytes], choices: list[bytes]
) -> None:
    assert nearest_entries(queries, choices).tolist() == nearest_by_loops(queries, choices)


def test_blocks_of_queries_give_the_same_map(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    entries = [bytes(random.integers(97, 100, random.integers(1, 9))) for _ in range(70)]
    queries, choices = sorted(set(entries[:35])), sorted(set(entries[35:]))
    monkeypatch.setattr(mined, "_BLOCK_PAIRS", 50)
    counts: list[tuple[int, int]] = []
    found = nearest_entries(queries, choices, lambda done, total: counts.append((done, total)))
    assert found.tolist() == nearest_by_loops(queries, choices)
    assert counts == sorted(counts)
    assert counts[-1] == (len(queries), len(queries))


def test_distances_are_counted_in_bytes() -> None:
    # An accent is two bytes: another letter is farther than another ending.
    assert nearest_entries(["é".encode()], [b"ee", "éee".encode(), "è".encode()]).tolist() == [2]
    assert nearest_entries([b"\xc3"], [b"a", "é".encode()]).tolist() == [0]


def member(name: str, entries: list[bytes | Role], end_ids: tuple[int, ...]) -> MemberVocabulary:
    return MemberVocabulary(name, toy_vocabulary(entries), len(entries), end_ids)


PIVOT = member("pivot", [Role.END, b"cat", b"dog", b"dogs", Role.OTHER], (0,))
OTHER = member("other", [b"dog", b"bat", Role.END, Role.END_OF_TURN, b"", b"cow"], (2, 3))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path))


def test_each_token_of_the_pivot_takes_its_nearest_entry_and_rows_sum_to_1() -> None:
    space, (pivot, other) = mined_outcomes(PIVOT, [OTHER])
    assert space.token_bytes == (b"cat", b"dog", b"dogs")
    assert pivot.id_of.tolist() == [1, 2, 3]
    assert other.id_of.tolist() == [1, 0, 0]
    probs = torch.tensor([[0.3, 0.1, 0.15, 0.05, 0.0, 0.4]], dtype=torch.float64)
    found = other.to_outcomes(probs.log())[0].exp()
    np.testing.assert_allclose(found, np.array([0.1, 0.3, 0.3, 0.2, 0.0]) / 0.9, atol=1e-12)
    own = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25], dtype=torch.float64)
    found = pivot.to_outcomes(own.log()).exp()
    np.testing.assert_allclose(found, np.array([0.2, 0.3, 0.15, 0.1, 0.0]) / 0.75, atol=1e-12)
    assert other.to_outcomes(probs.float().log()).dtype == torch.float32


def test_a_member_without_an_end_never_ends() -> None:
    endless = member("endless", [b"dog", b"cat"], ())
    space, (_, own) = mined_outcomes(PIVOT, [endless])
    found = own.to_outcomes(torch.tensor([0.5, 0.5]).log())
    assert found[space.end] == -math.inf
    assert not found.isnan().any()


def test_a_map_is_made_once_and_again_for_other_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    search = nearest_entries
    monkeypatch.setattr(
        mined,
        "nearest_entries",
        lambda queries, choices, report: (
            made.append(len(choices)) or search(queries, choices, report)
        ),
    )
    _, (_, first) = mined_outcomes(PIVOT, [OTHER])
    _, (_, again) = mined_outcomes(PIVOT, [member("renamed", [b"dog", b"bat", b"cow"], ())])
    assert again.id_of.tolist() == first.id_of.tolist()
    assert made == [3]
    mined_outcomes(PIVOT, [member("more", [b"dog", b"bat", b"cow", b"cat"], ())])
    assert made == [3, 4]
