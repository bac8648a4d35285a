"""Drawn texts of toy members, whose every text can be enumerated."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from toy_choirs import PROMPTS, SAMPLED, choir_of, run
from toy_members import ToyMember

from suite.engine.generation import GenerationSettings


def enumerated(
    members: Sequence[ToyMember], prompt: Sequence[int], horizon: int, weights: Sequence[float]
) -> dict[tuple[int, ...], float]:
    """Probability of every text of the token mixture until its end; ends are the last entry."""
    end = members[0].num_entries - 1
    found = {}
    for length in range(horizon + 1):
        for text in itertools.product(range(end), repeat=length):
            prob = 1.0
            for place, token in enumerate((*text, end)):
                history = [*prompt, *text[:place]]
                prob *= sum(
                    weight * float(member.probs(history)[token])
                    for weight, member in zip(weights, members, strict=True)
                )
            if prob > 0:
                found[text] = prob
    return found


def test_samples_have_the_frequencies_of_the_enumerated_texts() -> None:
    prompt, num_draws = (0,), 20_000
    members = [ToyMember(seed=seed, horizon=3, num_entries=3, end_ids=(2,)) for seed in (1, 2)]
    probs = enumerated(members, prompt, horizon=2, weights=(0.3, 0.7))
    assert sum(probs.values()) == pytest.approx(1)

    found = run(
        choir_of(*members), [prompt] * num_draws, SAMPLED, weights=(0.3, 0.7), max_rows=num_draws
    )

    counts = {text: 0 for text in probs}
    for one in found:
        counts[one.outcomes] += 1
    expected = {text: prob * num_draws for text, prob in probs.items()}
    statistic = sum((counts[text] - expected[text]) ** 2 / expected[text] for text in probs)
    # Seven texts, six degrees of freedom: exceeded once in a thousand times.
    assert len(probs) == 7
    assert statistic < 22.5


@pytest.mark.parametrize(
    "warp", [{"temperature": 0.0}, {"temperature": 1e-3}, {"top_k": 1}, {"top_p": 1e-6}]
)
def test_the_limits_of_warping_are_greedy(warp: dict[str, Any]) -> None:
    choir = choir_of(ToyMember(seed=11), ToyMember(seed=12))
    settings = GenerationSettings(stop=(), max_tokens=6, do_sample=True, **warp)

    assert run(choir, PROMPTS, settings) == run(choir, PROMPTS)


@pytest.mark.parametrize("warp", [{"top_p": 1.0}, {"top_k": 0}, {"top_k": 4}])
def test_warping_that_leaves_everything_is_plain_sampling(warp: dict[str, Any]) -> None:
    choir = choir_of(ToyMember(seed=13))
    settings = GenerationSettings(stop=(), max_tokens=6, do_sample=True, **warp)

    assert run(choir, PROMPTS, settings) == run(choir, PROMPTS, SAMPLED)


def test_the_mixture_is_warped_not_its_members() -> None:
    """Two members are sure of different outcomes; a third is second with both."""
    members = [ToyMember(), ToyMember()]
    members[0].tables[:] = torch.tensor([0.6, 0.0, 0.4, 0.0])
    members[1].tables[:] = torch.tensor([0.0, 0.6, 0.4, 0.0])
    settings = GenerationSettings(stop=(), max_tokens=6, do_sample=True, top_k=1)

    assert run(choir_of(*members), [(0,)], settings)[0].outcomes == (2,) * 6


def test_each_request_has_random_numbers_of_its_own() -> None:
    choir = choir_of(ToyMember(seed=14))

    found = run(choir, [(0,)] * 8, SAMPLED)
    other = run(choir, [(0,)] * 8, GenerationSettings((), 6, do_sample=True, seed=1))

    assert len(set(found)) > 3
    assert found != other
    assert found == run(choir, [(0,)] * 8, SAMPLED)


def test_a_request_with_a_key_draws_the_same_wherever_it_stands() -> None:
    choir = choir_of(ToyMember(seed=14))
    keys = [2**60 + number for number in range(6)]

    found = run(choir, [(0,)] * 6, SAMPLED, keys=keys)
    some = run(choir, [(0,)] * 3, SAMPLED, keys=[keys[4], keys[1], keys[0]])

    assert len(set(found)) > 3
    assert some == [found[4], found[1], found[0]]
