"""Toy members that generate together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from toy_members import ToyMember

from suite.engine.generation import Choir, Generated, GenerationSettings, Prompts, Speaker, generate
from suite.ensemble.combine import COMBINERS

GREEDY = GenerationSettings(stop=(), max_tokens=6)
SAMPLED = GenerationSettings(stop=(), max_tokens=6, do_sample=True)
PROMPTS = [(0,), (1, 2), (2, 1, 0, 0, 1), (1,), (2, 2, 2), (0, 1, 2, 0), (1, 2, 0)]


def letters(outcomes: Sequence[int]) -> str:
    return "".join("abcdefgh"[outcome] for outcome in outcomes)


def speaker_alone(member: ToyMember) -> Speaker:
    return Speaker(member, lambda log_probs: log_probs, torch.arange(member.num_entries))


def choir_of(*members: ToyMember, rule: str = "mean_probs", never: Sequence[int] = ()) -> Choir:
    """Members whose ids are the outcomes."""
    size = members[0].num_entries
    is_end, is_never = torch.zeros(2, size, dtype=torch.bool)
    is_end[list(members[0].end_ids)] = True
    is_never[list(never)] = True
    speakers = [speaker_alone(member) for member in members]
    return Choir(speakers, COMBINERS[rule], is_end, is_never, letters)


def run(
    choir: Choir,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings = GREEDY,
    weights: Sequence[float] | None = None,
    keys: Sequence[int] | None = None,
    **options: Any,
) -> list[Generated]:
    """Generate with the same prompts for all members."""
    count = len(choir.speakers)
    log_weights = torch.tensor(weights or [1 / count] * count, dtype=torch.float64).log()
    options = {"max_rows": 8, **options}
    asked = Prompts([prompts] * count, log_weights, keys)
    return generate(choir, asked, settings, **options)
