"""Rules over whole texts, on models whose texts can all be listed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy_models import ToyModel, complete_texts

from suite.ensemble.combine import COMBINERS

RULES = sorted(COMBINERS)
MEMBERS = (ToyModel(seed=1), ToyModel(seed=2, concentration=0.3))
WEIGHTS = (0.3, 0.7)


def log_prob_of_text(
    name: str, members: Sequence[ToyModel], weights: Sequence[float], text: Sequence[int]
) -> float:
    """A text's log-probability by the rule, one token after the other, as generation uses it."""
    rule = COMBINERS[name]
    log_weights = torch.tensor(weights, dtype=torch.float64).log()[:, None]
    total = 0.0
    for place, token in enumerate(text):
        rows = torch.stack([member.log_probs(text[:place]) for member in members])[:, None]
        total += float(rule.combine(rows, log_weights)[0, token])
        log_weights = rule.update(log_weights, rows[:, :, token])
    return total


def log_prob_of_texts(name: str) -> dict[tuple[int, ...], float]:
    return {text: log_prob_of_text(name, MEMBERS, WEIGHTS, text) for text in MEMBERS[0].texts}


def two_symbols(prob: float) -> Tensor:
    return torch.tensor([prob, 1 - prob], dtype=torch.float64).log()


def test_the_two_symbol_example_has_its_closed_form() -> None:
    rows = torch.stack([two_symbols(0.9), two_symbols(0.1)])
    log_weights = torch.full((2,), math.log(0.5), dtype=torch.float64)
    mixed = COMBINERS["mean_probs"].combine(rows[:, None], log_weights[:, None])[0]
    for text, of_sequences in (((0, 0), 0.41), ((0, 1), 0.09), ((1, 0), 0.09), ((1, 1), 0.41)):
        assert float(mixed[list(text)].sum().exp()) == pytest.approx(0.25, abs=1e-15)
        weights, total = log_weights[:, None], 0.0
        for token in text:
            row = COMBINERS["sequence_mixture"].combine(rows[:, None], weights)
            total += float(row[0, token])
            weights = COMBINERS["sequence_mixture"].update(weights, rows[:, [token]])
        assert math.exp(total) == pytest.approx(of_sequences, abs=1e-15)


@pytest.mark.parametrize("name", RULES)
def test_all_complete_texts_together_have_probability_1(name: str) -> None:
    total = sum(math.exp(value) for value in log_prob_of_texts(name).values())
    assert total == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_a_continuation_has_the_ratio_of_two_prefixes(name: str) -> None:
    texts = log_prob_of_texts(name)

    def mass(prefix: tuple[int, ...]) -> float:
        return sum(math.exp(v) for text, v in texts.items() if text[: len(prefix)] == prefix)

    for context, continuation in (((0,), (1, 2)), ((2, 1), (0,)), ((), (1, 1, 0)), ((1,), (3,))):
        whole = log_prob_of_text(name, MEMBERS, WEIGHTS, context + continuation)
        found = whole - log_prob_of_text(name, MEMBERS, WEIGHTS, context)
        expected = math.log(mass(context + continuation)) - math.log(mass(context))
        assert found == pytest.approx(expected, abs=1e-12)


def test_the_sequence_mixture_averages_the_probabilities_of_whole_texts() -> None:
    for text, found in log_prob_of_texts("sequence_mixture").items():
        own = [float(member.token_log_probs(text).sum()) for member in MEMBERS]
        mean = sum(w * math.exp(value) for w, value in zip(WEIGHTS, own, strict=True))
        if mean > 0:
            assert found == pytest.approx(math.log(mean), abs=1e-12)


@given(
    seeds=st.tuples(st.integers(0, 999), st.integers(0, 999)),
    text=st.sampled_from(list(complete_texts(3, 3))),
    weight=st.floats(0.05, 0.95),
)
@settings(max_examples=40)
def test_no_text_loses_more_than_its_bound_against_a_member(
    seeds: tuple[int, int], text: tuple[int, ...], weight: float
) -> None:
    members = [ToyModel(seed=seed, horizon=3) for seed in seeds]
    weights = (weight, 1 - weight)
    own = [float(member.token_log_probs(text).sum()) for member in members]
    mean = sum(w * value for w, value in zip(weights, own, strict=True))
    value = {name: log_prob_of_text(name, members, weights, text) for name in RULES}
    assert value["mean_probs"] >= mean - 1e-9
    assert value["mean_log_probs"] >= mean - 1e-9
    for member, w in zip(own, weights, strict=True):
        assert value["mean_probs"] >= member + len(text) * math.log(w) - 1e-9
        assert value["sequence_mixture"] >= member + math.log(w) - 1e-9


@pytest.mark.parametrize("name", RULES)
def test_three_copies_of_a_model_give_its_texts_their_probabilities(name: str) -> None:
    copies = [MEMBERS[0]] * 3
    for text in itertools.islice(MEMBERS[0].texts, 0, None, 7):
        own = float(MEMBERS[0].token_log_probs(text).sum())
        np.testing.assert_allclose(
            log_prob_of_text(name, copies, (0.2, 0.5, 0.3), text), own, rtol=0, atol=1e-12
        )


def test_a_toy_model_is_a_distribution_over_its_texts() -> None:
    assert MEMBERS[0].prob_of_prefix(()) == pytest.approx(1, abs=1e-12)
    prefix = (1, 0)
    ratio = MEMBERS[0].prob_of_prefix((*prefix, 2)) / MEMBERS[0].prob_of_prefix(prefix)
    assert ratio == pytest.approx(MEMBERS[0].probs(prefix)[2], abs=1e-12)
