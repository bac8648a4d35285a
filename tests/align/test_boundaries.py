from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trained_tokenizers import opened

from suite.align.boundaries import boundary_start_mask, boundary_violations, merge_groups
from suite.errors import ConfigError
from suite.text.encoding import Role
from suite.text.vocabulary import Vocabulary


def vocabulary(entries: list[bytes | Role]) -> Vocabulary:
    """Entries by their bytes or role; empty bytes are a dead entry."""
    roles = [entry if isinstance(entry, Role) else Role.REGULAR for entry in entries]
    return Vocabulary(
        token_bytes=tuple(entry if isinstance(entry, bytes) else b"" for entry in entries),
        special={i: role.name for i, role in enumerate(roles) if role != Role.REGULAR},
        roles=np.array(roles, np.uint8),
        is_dead=np.array([entry == b"" for entry in entries], np.bool_),
        is_added=np.zeros(len(entries), np.bool_),
        is_fallback=np.zeros(len(entries), np.bool_),
    )


ENTRIES: list[bytes | Role] = [
    b"a",
    b" a",
    b"\ta",
    b"\n",
    b"\r\n",
    b"a b",
    b"  ",
    b".\n",
    b"",
    Role.BEGIN,
    Role.OTHER,
    b"\xc2\xa0",
]


def test_an_entry_starts_a_pre_token_by_its_first_byte_or_by_being_special() -> None:
    mask = boundary_start_mask(vocabulary(ENTRIES))
    assert mask.dtype == torch.bool
    expected = [False, True, True, True, False, False, True, False, False, True, True, False]
    assert mask.tolist() == expected


def test_boundary_bytes_behind_the_first_one_are_counted() -> None:
    violations = boundary_violations(vocabulary(ENTRIES))
    assert violations.num_runs == 1
    assert violations.num_inside == 3
    assert violations.num_entries == 9
    assert violations.examples == (b"\r\n", b"a b", b".\n")


@pytest.mark.parametrize("family", ["byte-level", "marked", "unigram", "bytes:marked"])
def test_the_mask_of_a_trained_tokenizer_equals_a_plain_loop(family: str) -> None:
    own = opened(family).vocabulary
    mask = boundary_start_mask(own).tolist()
    assert len(mask) == len(own)
    for entry, role, is_start in zip(own.token_bytes, own.roles, mask, strict=True):
        assert is_start == (role != 0 or entry.startswith((b" ", b"\t", b"\n")))


def plain_groups(
    log_probs: list[float], mask: list[bool], always: list[bool], gamma: float
) -> list[int]:
    """The oracle: a walk over one row, written from the definition."""
    groups, group, is_open = [], 0, False
    for n, (log_prob, real, closes) in enumerate(zip(log_probs, mask, always, strict=True)):
        if not real:
            # A dropped chunk belongs to no group and closes the one before it.
            group += is_open
            is_open = False
            groups.append(-1)
            continue
        groups.append(group)
        is_open = True
        if math.exp(log_prob) > gamma or closes or n == len(mask) - 1:
            group += 1
            is_open = False
    return groups


CHUNKS = st.lists(
    st.tuples(st.floats(min_value=-12, max_value=0, width=16), st.booleans(), st.integers(0, 9)),
    min_size=1,
    max_size=20,
)


@settings(max_examples=200)
@given(row=CHUNKS, gamma=st.sampled_from([0.0, 0.05, 0.1, 0.5, 0.9, 1.0]))
def test_groups_equal_those_of_a_plain_walk(row: list[tuple[Any, ...]], gamma: float) -> None:
    log_probs = [value for value, _, _ in row]
    mask = [real for _, real, _ in row]
    always = [draw == 0 for _, _, draw in row]
    found = merge_groups(
        torch.tensor([log_probs]), torch.tensor([mask]), torch.tensor([always]), gamma=gamma
    )
    assert found.dtype == torch.int64
    expected = plain_groups(log_probs, mask, always, gamma)
    assert found[0].tolist() == expected
    real = [group for group in expected if group >= 0]
    assert sorted(set(real)) == list(range(max(real, default=-1) + 1))


def test_rows_are_independent_and_padding_changes_nothing() -> None:
    log_probs = torch.tensor([[-5.0, -0.1, -5.0, -5.0], [-5.0, -5.0, 0.0, 0.0]])
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    groups = merge_groups(log_probs, mask, torch.zeros_like(mask))
    assert groups.tolist() == [[0, 0, 1, 1], [0, 0, -1, -1]]


def test_gamma_is_a_strict_limit_and_its_ends_mean_always_and_never() -> None:
    at_the_limit = torch.tensor([[math.log(0.25), math.log(0.25)]], dtype=torch.float64)
    mask, never = torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2, dtype=torch.bool)
    assert merge_groups(at_the_limit, mask, never, gamma=0.25).tolist() == [[0, 0]]
    assert merge_groups(at_the_limit, mask, never, gamma=0.24).tolist() == [[0, 1]]
    assert merge_groups(at_the_limit - 100, mask, never, gamma=0.0).tolist() == [[0, 1]]
    assert merge_groups(at_the_limit * 0, mask, never, gamma=1.0).tolist() == [[0, 0]]


def test_a_batch_without_chunks_has_no_groups() -> None:
    none = torch.zeros(2, 0)
    assert merge_groups(none, none.bool(), none.bool()).shape == (2, 0)


@pytest.mark.parametrize("gamma", [-0.1, 1.5, math.nan])
def test_gamma_that_is_no_probability_is_refused(gamma: float) -> None:
    one = torch.zeros(1, 1)
    with pytest.raises(ConfigError) as caught:
        merge_groups(one, one.bool(), one.bool(), gamma=gamma)
    assert str(caught.value) == f"gamma is {gamma}; it is a probability, from 0 to 1"
