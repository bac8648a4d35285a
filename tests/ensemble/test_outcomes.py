from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from toy_models import toy_vocabulary

from suite.ensemble.combine import COMBINERS
from suite.ensemble.outcomes import MemberVocabulary, OutcomeMap, shared_outcomes
from suite.errors import ConfigError
from suite.text.encoding import Role

END, BEGIN, TURN = Role.END, Role.BEGIN, Role.END_OF_TURN


def member(
    name: str,
    entries: list[bytes | Role],
    end_ids: tuple[int, ...] = (),
    *,
    num_entries: int | None = None,
    added: tuple[int, ...] = (),
    fallback: tuple[int, ...] = (),
) -> MemberVocabulary:
    vocabulary = toy_vocabulary(entries, added, fallback)
    return MemberVocabulary(name, vocabulary, num_entries or len(entries), end_ids)


FIRST = member("first", [END, b"a", b"b", b" c"], (0,))
SECOND = member(
    "second", [b" c", BEGIN, b"a", END, TURN, b"", b"b", b"<extra>"], (3, 4), added=(7,)
)


def rows(num_entries: int, dead: tuple[int, ...] = (), seed: int = 0) -> Tensor:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (4, num_entries)))
    logits[:, list(dead)] = -torch.inf
    return logits.log_softmax(-1)


def oracle(log_probs: Tensor, own: MemberVocabulary, tokens: tuple[bytes, ...]) -> list[float]:
    """Probabilities of the outcomes of one row, entry by entry."""
    totals = [0.0] * (len(tokens) + 2)
    for id, prob in enumerate(log_probs.exp().tolist()):
        data = own.vocabulary.token_bytes[id]
        if own.vocabulary.is_dead[id]:
            continue
        if id in own.end_ids:
            totals[-2] += prob
        elif data in tokens and own.vocabulary.id_of_bytes[data] == id:
            totals[tokens.index(data)] += prob
        else:
            totals[-1] += prob
    return totals


def test_tokens_are_shared_by_their_bytes_in_the_order_of_the_first_member() -> None:
    space, (first, second) = shared_outcomes([FIRST, SECOND])
    assert space.token_bytes == (b"a", b"b", b" c")
    assert (space.end, space.other, space.size) == (3, 4, 5)
    assert first.outcome_of.tolist() == [3, 0, 1, 2]
    assert second.outcome_of.tolist() == [2, 4, 0, 3, 3, -1, 1, 4]
    assert first.id_of.tolist() == [1, 2, 3]
    assert second.id_of.tolist() == [2, 6, 0]


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_entry_counts_in_one_outcome(place: int, dtype: torch.dtype) -> None:
    own = (FIRST, SECOND)[place]
    space, maps = shared_outcomes([FIRST, SECOND])
    log_probs = rows(own.num_entries, tuple(np.flatnonzero(own.vocabulary.is_dead)))
    found = maps[place].to_outcomes(log_probs.to(dtype))
    assert found.dtype == dtype
    for row, outcomes in zip(log_probs, found, strict=True):
        expected = oracle(row, own, space.token_bytes)
        np.testing.assert_allclose(outcomes.exp(), expected, atol=1e-6)
    assert float(found.exp().sum(-1).max()) == pytest.approx(1, abs=1e-6)


def test_the_mass_of_other_is_what_the_kept_outcomes_leave() -> None:
    space, (_, second) = shared_outcomes([FIRST, SECOND])
    log_probs = rows(SECOND.num_entries, (5,))
    found = second.to_outcomes(log_probs)
    kept = log_probs[:, [0, 2, 6, 3, 4]].exp().sum(-1)
    torch.testing.assert_close(found[:, space.other].exp(), 1 - kept, rtol=0, atol=1e-12)


def test_an_empty_bin_is_minus_infinity() -> None:
    plain = member("plain", [b"a", b"b"])
    _, (own, _) = shared_outcomes([plain, plain])
    found = own.to_outcomes(rows(2))
    assert found[:, 2:].isneginf().all()
    assert not found.isnan().any()


def test_any_leading_dimensions_are_kept() -> None:
    _, (first, second) = shared_outcomes([FIRST, SECOND])
    log_probs = rows(8, (5,)).reshape(2, 2, 8)
    torch.testing.assert_close(
        second.to_outcomes(log_probs).reshape(4, 5), second.to_outcomes(log_probs.reshape(4, 8))
    )
    assert first.to_outcomes(rows(4)[0]).shape == (5,)


def test_a_run_of_ids_is_read_as_any_others() -> None:
    _, (first, _) = shared_outcomes([FIRST, SECOND])
    log_probs = rows(4)
    shuffled = OutcomeMap(first.outcome_of[[0, 3, 1, 2]], torch.tensor([2, 3, 1]))
    torch.testing.assert_close(
        first.to_outcomes(log_probs), shuffled.to_outcomes(log_probs[:, [0, 3, 1, 2]])
    )


@pytest.mark.parametrize("name", sorted(COMBINERS))
@pytest.mark.parametrize("num_padding", [0, 1, 164])
def test_rows_without_an_entry_change_nothing(name: str, num_padding: int) -> None:
    entries: list[bytes | Role] = [END, b"a", b"b", b" c"]
    padded = member("padded", entries + [b""] * num_padding, (0,))
    _, maps = shared_outcomes([FIRST, padded])
    logits = torch.from_numpy(np.random.default_rng(1).normal(0, 2, (4, 4 + num_padding)))
    logits[:, 4:] = -torch.inf
    found = maps[1].to_outcomes(logits.log_softmax(-1))
    expected = maps[0].to_outcomes(logits[:, :4].log_softmax(-1))
    log_weights = torch.full((2, 4), 0.5, dtype=torch.float64).log()
    other = maps[0].to_outcomes(rows(4, seed=2))
    torch.testing.assert_close(
        COMBINERS[name].combine(torch.stack([found, other]), log_weights),
        COMBINERS[name].combine(torch.stack([expected, other]), log_weights),
    )


def test_entries_beyond_the_models_rows_take_no_part() -> None:
    short = member("short", [END, b"a", b"b", b" c", BEGIN], (0, 4), num_entries=4)
    space, (own, _) = shared_outcomes([short, short])
    assert own.outcome_of.tolist() == [3, 0, 1, 2]
    short = member("short", [END, b"a", b"b", b" c", b"beyond"], (0,), num_entries=4)
    space, (own, _) = shared_outcomes([short, FIRST])
    assert own.outcome_of.tolist() == [3, 0, 1, 2]
    long = member("long", [END, b"a", b"b", b" c"], (0,), num_entries=6)
    _, (own, _) = shared_outcomes([long, long])
    assert own.outcome_of.tolist() == [3, 0, 1, 2, -1, -1]
    assert space.size == 5


def test_of_two_entries_with_the_same_bytes_one_is_the_token() -> None:
    doubled = member("doubled", [b"a", b"a", b"b", b"\xc3"], fallback=(0, 3))
    space, (own, _) = shared_outcomes([doubled, member("single", [b"b", b"\xc3", b"a"])])
    assert space.token_bytes == (b"a", b"b", b"\xc3")
    assert own.outcome_of.tolist() == [4, 0, 1, 2]


def test_an_ordinary_entry_that_ends_texts_is_no_token() -> None:
    newline = member("newline", [b"a", b"\n", b"b"], (1,))
    space, (own, other) = shared_outcomes([newline, member("other", [b"a", b"b", END], (2,))])
    assert space.token_bytes == (b"a", b"b")
    assert own.outcome_of.tolist() == [0, 2, 1]
    assert other.outcome_of.tolist() == [0, 1, 2]


def test_a_token_may_be_ordinary_for_one_and_added_for_another() -> None:
    space, _ = shared_outcomes([member("x", [b"a", b"\n"]), member("y", [b"a", b"\n"], added=(1,))])
    assert space.token_bytes == (b"a", b"\n")


def test_members_with_other_tokens_are_refused() -> None:
    many = [b"%d" % number for number in range(1200)]
    with pytest.raises(ConfigError) as caught:
        shared_outcomes([FIRST, SECOND, member("third", [b"a", *many, END], (1201,))])
    assert str(caught.value) == (
        "first and third: their vocabularies differ (2 entries are only in first's, 1,200 only in"
        " third's); give one the other's with `suite transplant`, or combine them by word_mixture"
        " or mined"
    )


def test_single_bytes_for_fallback_are_ordinary_entries() -> None:
    with pytest.raises(ConfigError) as caught:
        shared_outcomes([FIRST, member("bytes", [END, b"a", b"b", b" c", b"\xff"], fallback=(4,))])
    assert "(0 entries are only in first's, 1 only in bytes's)" in str(caught.value)
