"""Several toy members that write one text, each by its own ids and ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_choirs import GREEDY, PROMPTS, SAMPLED, choir_of, letters, run
from toy_members import ToyMember

from suite.engine.generation import Choir, Generated, GenerationSettings, Prompts, Speaker, generate
from suite.engine.scoring import NotFiniteError
from suite.ensemble.combine import COMBINERS


@pytest.mark.parametrize("rule", COMBINERS)
@pytest.mark.parametrize("settings", [GREEDY, SAMPLED])
def test_copies_of_a_member_write_what_it_writes(rule: str, settings: GenerationSettings) -> None:
    alone = run(choir_of(ToyMember(seed=15), rule=rule), PROMPTS, settings)

    three = choir_of(*[ToyMember(seed=15) for _ in range(3)], rule=rule)

    assert run(three, PROMPTS, settings, weights=(0.2, 0.5, 0.3)) == alone


def test_the_sequence_mixture_follows_the_posterior() -> None:
    members = [ToyMember(seed=16), ToyMember(seed=17)]
    prompt = (0,)
    found = run(choir_of(*members, rule="sequence_mixture"), [prompt], weights=(0.4, 0.6))[0]

    # p(text so far and next) by the definition: a mixture of whole texts.
    joint = [0.4, 0.6]
    text: list[int] = []
    for _ in range(GREEDY.max_tokens):
        rows = [member.probs([*prompt, *text]) for member in members]
        best = int(sum(weight * row for weight, row in zip(joint, rows, strict=True)).argmax())
        if best == 3:
            break
        joint = [weight * float(row[best]) for weight, row in zip(joint, rows, strict=True)]
        text.append(best)
    assert found.outcomes == tuple(text)


def test_weights_may_differ_between_requests() -> None:
    members = [ToyMember(seed=18), ToyMember(seed=19)]
    log_weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).log()
    prompts = [(0,), (0,)]

    found = generate(choir_of(*members), Prompts([prompts] * 2, log_weights), GREEDY, max_rows=2)

    assert found == [run(choir_of(member), [(0,)])[0] for member in members]


def shifted_speaker(member: ToyMember, ids: Sequence[int]) -> Speaker:
    """A member whose `ids` are the shared tokens; then come the end and `other`."""

    def to_outcomes(log_probs: Tensor) -> Tensor:
        ends = log_probs[:, list(member.end_ids)].logsumexp(-1, keepdim=True)
        known = {*ids, *member.end_ids}
        rest = [entry for entry in range(member.num_entries) if entry not in known]
        other = log_probs[:, rest].logsumexp(-1, keepdim=True)
        return torch.cat([log_probs[:, list(ids)], ends, other], dim=1)

    return Speaker(member, to_outcomes, torch.tensor([*ids, -1, -1]))


def two_tongues(**first_options: Any) -> tuple[Choir, list[ToyMember]]:
    """Three shared tokens. The first member ends by 3, or by 4 and then 3; the second by 0.

    The first has a special token 5, the second dead entries and its tokens in another order.
    """
    first = ToyMember(name="one", num_entries=6, end_ids=(3, 4), seed=30, **first_options)
    second = ToyMember(name="two", num_entries=7, end_ids=(0,), seed=31, dead=(4, 6))
    speakers = [shifted_speaker(first, (0, 1, 2)), shifted_speaker(second, (5, 1, 3))]
    is_end = torch.tensor([False, False, False, True, False])
    never = torch.tensor([False, False, False, False, True])
    return Choir(speakers, COMBINERS["mean_probs"], is_end, never, letters), [first, second]


IDS = ((0, 1, 2), (5, 1, 3))
# Each member has specials of its own before the prompt.
BEGINNINGS = ((5,), (2, 2))


def tongue_prompts(prompts: Sequence[Sequence[int]]) -> list[list[tuple[int, ...]]]:
    return [
        [(*begin, *(ids[token] for token in prompt)) for prompt in prompts]
        for begin, ids in zip(BEGINNINGS, IDS, strict=True)
    ]


def next_outcomes(members: Sequence[ToyMember], text: Sequence[int], weights: Any) -> Tensor:
    """The mixture over three tokens and the end, by the definition, not normalised."""
    total = torch.zeros(4, dtype=torch.float64)
    for member, begin, ids, weight in zip(members, BEGINNINGS, IDS, weights, strict=True):
        probs = member.probs([*begin, *(ids[token] for token in text)])
        total[:3] += weight * probs[list(ids)]
        total[3] += weight * probs[list(member.end_ids)].sum()
    return total


@pytest.mark.parametrize("max_rows", [1, 3, 8])
def test_every_member_reads_its_own_ids_behind_its_own_specials(max_rows: int) -> None:
    choir, members = two_tongues()
    prompts = [prompt[:4] for prompt in PROMPTS]
    log_weights = torch.tensor([0.35, 0.65], dtype=torch.float64).log()

    found = generate(
        choir, Prompts(tongue_prompts(prompts), log_weights), GREEDY, max_rows=max_rows
    )

    for prompt, one in zip(prompts, found, strict=True):
        text: list[int] = []
        while len(text) < GREEDY.max_tokens:
            best = int(next_outcomes(members, [*prompt, *text], (0.35, 0.65)).argmax())
            if best == 3:
                break
            text.append(best)
        assert one.outcomes == tuple(text)


def test_the_end_has_the_weighted_mass_of_every_members_terminators() -> None:
    choir, members = two_tongues()
    num_draws, weights = 2000, (0.35, 0.65)
    log_weights = torch.tensor(weights, dtype=torch.float64).log()
    settings = GenerationSettings(stop=(), max_tokens=1, do_sample=True)

    for prompt in [(0,), (2, 1)]:
        found = generate(
            choir,
            Prompts(tongue_prompts([prompt] * num_draws), log_weights),
            settings,
            max_rows=num_draws,
        )
        probs = next_outcomes(members, prompt, weights)
        probs = probs / probs.sum()  # `other` is never emitted.
        counts = torch.zeros(4, dtype=torch.float64)
        for one in found:
            counts[one.outcomes[0] if one.outcomes else 3] += 1
        assert float(((counts - num_draws * probs) ** 2 / (num_draws * probs)).sum()) < 16.3


@pytest.mark.parametrize("sure", [0, 1])
def test_any_member_can_end_the_text_and_no_end_is_read(sure: int) -> None:
    choir, members = two_tongues()
    ending = members[sure]
    ending.tables[:] = 0
    ending.tables[:, ending.end_ids[-1]] = 1
    log_weights = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    members[1 - sure].tables[:] = 1 / members[1 - sure].num_entries

    found = generate(choir, Prompts(tongue_prompts([(0,), (1,)]), log_weights), GREEDY, max_rows=2)

    assert found == [Generated("", (), "end")] * 2
    assert [member.rows_read for member in members] == [[2], [2]]


def test_probabilities_that_are_no_numbers_name_the_member_and_the_request() -> None:
    choir, members = two_tongues()
    members[1].broken_after = (*BEGINNINGS[1], 5, 1)
    log_weights = torch.tensor([0.5, 0.5], dtype=torch.float64).log()

    with pytest.raises(NotFiniteError) as caught:
        generate(
            choir, Prompts(tongue_prompts([(0,), (2, 1), (0, 1)]), log_weights), GREEDY, max_rows=2
        )

    assert str(caught.value) == (
        "member 'two': log-probabilities of request 2 are not numbers (NaN); try dtype: float32"
    )
    assert caught.value.request == 2


def test_members_of_different_dtypes_write_one_text() -> None:
    exact = [ToyMember(seed=24), ToyMember(seed=25)]
    mixed = [ToyMember(seed=24, dtype=torch.float32), ToyMember(seed=25)]

    assert run(choir_of(*mixed), PROMPTS) == run(choir_of(*exact), PROMPTS)
