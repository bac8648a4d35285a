from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_models import ToyModel

from suite.ensemble.pieces import ScoredTokens, common_cuts, piece_log_probs, word_mixture

# What the regular tokens of a toy model stand for; those with a space begin a pre-token.
ENTRIES = (b"a", b" b", b"ab", b" ")


def begins(token: int) -> bool:
    """Whether a token is in S; the end of a text is."""
    return token == len(ENTRIES) or ENTRIES[token].startswith(b" ")


def read(model: ToyModel, tokens: list[int]) -> ScoredTokens:
    rows = model.rows(tokens).exp().numpy()
    in_s = np.array([begins(token) for token in range(len(ENTRIES) + 1)])
    with np.errstate(divide="ignore"):
        return ScoredTokens(
            byte_ends=np.cumsum([len((*ENTRIES, b"")[token]) for token in tokens]),
            token=np.log(rows[np.arange(len(tokens)), tokens]),
            boundary=np.log(rows[:, in_s].sum(axis=1)),
            begins=np.array([begins(token) for token in tokens]),
        )


def scored(tokens: list[tuple[bytes, float, float]]) -> ScoredTokens:
    """Tokens with their log-probability and the boundary's before them."""
    return ScoredTokens(
        byte_ends=np.cumsum([len(data) for data, _, _ in tokens]),
        token=np.array([token for _, token, _ in tokens]),
        boundary=np.array([boundary for _, _, boundary in tokens]),
        begins=np.array([data.startswith(b" ") or not data for data, _, _ in tokens]),
    )


# "the cat sat" and its end, in two ways.
WORDS = scored([(b"the", -1.0, -9.0), (b" cat", -2.0, -0.5), (b" sat", -3.0, -0.25)])
LETTERS = scored(
    [
        (b"t", -0.1, -8.0),
        (b"he", -0.2, -7.0),
        (b" ", -0.3, -0.125),
        (b"cat", -0.4, -6.0),
        (b" s", -0.5, -0.0625),
        (b"at", -0.6, -5.0),
    ]
)


def test_a_piece_is_conditioned_on_a_boundary_before_it_and_claims_one_behind() -> None:
    assert common_cuts([WORDS, LETTERS]).tolist() == [3, 7]
    found = piece_log_probs([WORDS, LETTERS])
    expected = [
        [-1.0 - 0.5, -2.0 - 0.25 + 0.5, -3.0 + 0.25],
        [-0.3 - 0.125, -0.7 - 0.0625 + 0.125, -1.1 + 0.0625],
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    weights = (0.25, 0.75)
    total = sum(
        math.log(sum(w * math.exp(own) for w, own in zip(weights, piece, strict=True)))
        for piece in np.transpose(expected)
    )
    assert word_mixture([WORDS, LETTERS], weights) == pytest.approx(total, abs=1e-12)


def test_a_boundary_that_one_member_lacks_is_no_cut() -> None:
    joined = scored([(b"the cat", -2.5, -9.0), (b" sat", -3.0, -0.25)])
    assert common_cuts([WORDS, joined]).tolist() == [7]
    glued = scored([(b"the ", -1.0, -9.0), (b"cat", -2.0, -0.5), (b" sat", -3.0, -0.25)])
    assert common_cuts([WORDS, glued]).tolist() == [7]
    assert common_cuts([WORDS, scored([(b"the cat sat", -7.0, -9.0)])]).tolist() == []


def test_tokens_without_bytes_begin_a_piece_of_their_own() -> None:
    ended = scored([(b"the", -1.0, -9.0), (b" cat", -2.0, -0.5), (b"", -3.0, -0.25)])
    assert common_cuts([ended]).tolist() == [3, 7]
    marked = scored([(b"the", -1.0, -9.0), (b"", -4.0, -0.5), (b" cat", -2.0, -0.25)])
    assert common_cuts([marked]).tolist() == [3]
    np.testing.assert_allclose(piece_log_probs([marked]), [[-1.5, -5.5]], atol=1e-12)


def test_a_member_of_weight_0_neither_speaks_nor_cuts() -> None:
    alone = word_mixture([LETTERS], [1.0])
    whole = scored([(b"the cat sat", -7.0, -9.0)])
    assert word_mixture([LETTERS, whole], [1.0, 0.0]) == alone


def test_one_text_of_one_token_is_one_piece() -> None:
    whole = scored([(b"the cat sat", -7.0, -9.0)])
    assert piece_log_probs([whole, LETTERS]).tolist() == [[-7.0], pytest.approx([-2.1])]


def test_float32_scores_cancel_without_loss() -> None:
    random = np.random.default_rng(0)
    num_tokens = 300
    own = ScoredTokens(
        byte_ends=np.arange(1, num_tokens + 1),
        token=random.normal(-5, 2, num_tokens).astype(np.float32),
        boundary=random.normal(-5, 2, num_tokens).astype(np.float32),
        begins=random.random(num_tokens) < 0.4,
    )
    expected = math.fsum(own.token.astype(np.float64))
    assert word_mixture([own], [1.0]) == pytest.approx(expected, abs=1e-9)


@given(
    seed=st.integers(0, 999),
    tokens=st.lists(st.integers(0, len(ENTRIES) - 1), min_size=1, max_size=6),
    weight=st.floats(0.05, 0.95),
)
@settings(max_examples=50)
def test_one_member_or_the_same_twice_is_the_plain_log_likelihood(
    seed: int, tokens: list[int], weight: float
) -> None:
    model = ToyModel(seed=seed, num_tokens=len(ENTRIES), horizon=8, concentration=2.0)
    own = read(model, tokens)
    expected = float(model.token_log_probs(tokens).sum())
    assert word_mixture([own], [1.0]) == pytest.approx(expected, abs=1e-12)
    twice = word_mixture([own, own], [weight, 1 - weight])
    assert twice == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("context", [[], [0], [1, 0]])
def test_the_pieces_that_may_follow_a_boundary_sum_to_1(context: list[int]) -> None:
    # Every sequence of tokens, so also those that no tokenizer would make of their bytes.
    model = ToyModel(seed=3, num_tokens=len(ENTRIES), horizon=5)
    first = [token for token in range(len(ENTRIES)) if begins(token)]
    inner = [token for token in range(len(ENTRIES)) if not begins(token)]
    end = len(ENTRIES)
    total = 0.0
    for length in range(model.horizon - len(context)):
        for own in itertools.product(first, *[inner] * length):
            read_own = read(model, [0, *context, *own, end])
            pieces = piece_log_probs([read_own])[0]
            own_piece = len([token for token in context if begins(token)]) + 1
            total += math.exp(pieces[own_piece])
    # The end begins a pre-token too: it is the one piece that is left.
    rows = model.rows([0, *context, end]).exp()
    of_end = float(rows[-1, end] / rows[-1, [*first, end]].sum())
    assert total + of_end == pytest.approx(1, abs=1e-12)


def test_the_first_and_the_last_piece_are_distributions_too() -> None:
    model = ToyModel(seed=4, num_tokens=len(ENTRIES), horizon=4)
    inner = [token for token in range(len(ENTRIES)) if not begins(token)]
    end = len(ENTRIES)
    total = sum(
        math.exp(piece_log_probs([read(model, [*own, end])])[0, 0])
        for length in range(1, model.horizon + 1)
        for own in itertools.product(range(len(ENTRIES)), *[inner] * (length - 1))
    )
    assert total == pytest.approx(1 - float(model.probs([])[end]), abs=1e-12)
    assert torch.isclose(model.rows([0]).exp().sum(), torch.tensor(1.0, dtype=torch.float64))
