"""Ensemble scores equal plain loops over whole rows, by either route, flags included."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_members import NUM_ENTRIES, build, plain_rows, random_requests

from suite.engine.ensembles import (
    Ensemble,
    EnsembleRequest,
    Participant,
    keep_scores,
    usual_budgets,
)
from suite.engine.members import HfMember
from suite.engine.requests import TokenRequest
from suite.ensemble import kept as kept_entries
from suite.ensemble.combine import COMBINERS
from suite.ensemble.outcomes import OutcomeMap, OutcomeSpace

RULES = tuple(COMBINERS)
# Members number their entries in their own ways; both end by entry 2, the second by 0 as well.
NUM_TOKENS = NUM_ENTRIES - 3
END, OTHER = NUM_TOKENS, NUM_TOKENS + 1


def participant(seed: int, dtype=torch.float64) -> Participant:
    random = np.random.default_rng(seed)
    id_of = torch.from_numpy(
        random.permutation(np.arange(3, NUM_ENTRIES)) if seed else np.arange(3, NUM_ENTRIES)
    )
    outcome_of = torch.full((NUM_ENTRIES,), OTHER)
    outcome_of[id_of] = torch.arange(NUM_TOKENS)
    outcome_of[[2, 0] if seed else [2]] = END
    reader = HfMember(build("llama", dtype, seed), name=f"member {seed}")
    return Participant(reader, None, OutcomeMap(outcome_of, id_of))


@pytest.fixture(scope="module")
def participants():
    return (participant(0), participant(1))


def ensemble_requests(participants, seed=0, count=12, *, with_context=True):
    """The first member's requests in every member's own numbers; prompts shared by id."""
    return as_all_read(participants, random_requests(seed, count), with_context=with_context)


def every_next_token(length=4):
    """A prompt, and each token behind it."""
    prompt = [1, *range(5, 4 + length)]
    place = np.array([length], np.int32)
    return [
        TokenRequest(np.array([*prompt, token], np.int32), place, np.array([token]))
        for token in range(3, NUM_ENTRIES)
    ]


def as_all_read(participants, requests, *, with_context=True):
    found, prompts = [], {}
    for asked in requests:
        outcomes = asked.ids[1:] - 3
        continuations, contexts = [], []
        first = int(asked.scored[0])
        for own in participants:
            ids = np.concatenate([[1], own.outcomes.id_of.numpy()[outcomes]]).astype(np.int32)
            targets = outcomes[asked.scored - 1].astype(np.int64)
            continuations.append(TokenRequest(ids, asked.scored, targets))
            before = np.arange(1, first, dtype=np.int32)
            contexts.append(
                TokenRequest(ids[:first], before, outcomes[before - 1].astype(np.int64))
            )
        key = tuple(asked.ids[:first].tolist())
        prompt = prompts.setdefault(key, tuple(contexts)) if with_context else None
        found.append(EnsembleRequest(tuple(continuations), prompt))
    return found


def outcome_rows(own: Participant, request: TokenRequest) -> list[list[float]]:
    """Probabilities of the outcomes after every token, summed in plain loops."""
    rows = plain_rows(own.member.model, request.ids.tolist()).exp().tolist()
    summed = [[0.0] * (NUM_TOKENS + 2) for _ in rows]
    for place, row in enumerate(rows):
        for entry, outcome in enumerate(own.outcomes.outcome_of.tolist()):
            summed[place][outcome] += row[entry]
    return summed


def oracle(participants, request, rule, weights, *, learns, renormalise):
    """log-probability and flag of one request, from the formulas."""
    active = [m for m, weight in enumerate(weights) if weight > 0]
    rows = {m: outcome_rows(participants[m], request.continuations[m]) for m in active}
    if renormalise:
        for own in rows.values():
            for row in own:
                left = 1 - row[-1]
                row[:] = [*(p / left for p in row[:-1]), 0.0]
    now = {m: weights[m] for m in active}

    def learn(place, outcome):
        joint = {m: now[m] * rows[m][place - 1][outcome] for m in active}
        return {m: value / sum(joint.values()) for m, value in joint.items()}

    asked = request.continuations[0]
    if learns:
        for place in range(1, int(asked.scored[0])):
            outcome = int(participants[0].outcomes.outcome_of[asked.ids[place]])
            now = learn(place, outcome)
    total, is_greedy = 0.0, True
    for place, target in zip(asked.scored.tolist(), asked.targets.tolist(), strict=True):
        if rule == "mean_log_probs":
            scores = [
                math.prod(rows[m][place - 1][v] ** now[m] for m in active) for v in range(OTHER + 1)
            ]
            combined = [value / sum(scores) for value in scores]
        else:
            combined = [
                sum(now[m] * rows[m][place - 1][v] for m in active) for v in range(OTHER + 1)
            ]
        total += math.log(combined[target])
        is_greedy &= max(range(OTHER), key=combined.__getitem__) == target
        if rule == "sequence_mixture":
            now = learn(place, target)
    return total, is_greedy


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.9, 0.1), (0.0, 1.0)])
def test_scores_equal_plain_loops(participants, rule, renormalise, weights):
    learns = rule == "sequence_mixture"
    requests = ensemble_requests(participants, with_context=learns)
    ensemble = Ensemble(
        participants,
        OutcomeSpace((b"",) * NUM_TOKENS),
        COMBINERS[rule],
        weights,
        renormalise=renormalise,
    )
    for found, request in zip(ensemble.score(requests), requests, strict=True):
        value, is_greedy = oracle(
            participants, request, rule, weights, learns=learns, renormalise=renormalise
        )
        assert found.log_prob == pytest.approx(value, abs=1e-9)
        assert found.is_greedy == is_greedy


def test_the_sequence_mixture_may_begin_at_the_continuation(participants):
    requests = ensemble_requests(participants, with_context=False)
    ensemble = Ensemble(
        participants,
        OutcomeSpace((b"",) * NUM_TOKENS),
        COMBINERS["sequence_mixture"],
        (0.3, 0.7),
        posterior_from="continuation",
    )
    for found, request in zip(ensemble.score(requests), requests, strict=True):
        value, _ = oracle(
            participants, request, "sequence_mixture", (0.3, 0.7), learns=False, renormalise=False
        )
        assert found.log_prob == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("rule", ["mean_probs", "sequence_mixture"])
@pytest.mark.parametrize("renormalise", [False, True])
def test_kept_entries_and_whole_rows_agree(participants, rule, renormalise, monkeypatch):
    asked = [*random_requests(1, 20), *every_next_token(), *every_next_token(6)]
    requests = as_all_read(participants, asked)
    budgets = usual_budgets(participants)
    kept = keep_scores(participants, requests, budgets)
    undecided, flags = [], []
    # Whatever is within a factor of 20 of the mixture's largest is left to whole rows.
    monkeypatch.setattr(kept_entries, "MARGIN", math.log(20))
    for weights in [(0.5, 0.5), (0.2, 0.8), (1.0, 0.0)]:
        ensemble = Ensemble(
            participants,
            OutcomeSpace((b"",) * NUM_TOKENS),
            COMBINERS[rule],
            weights,
            renormalise=renormalise,
        )
        with monkeypatch.context() as patch:
            patch.setattr(Ensemble, "rows", counted(undecided))
            from_kept = ensemble.score(requests, kept)
        evidence = ensemble.evidence(kept)
        from_rows = ensemble._score_rows(
            requests, evidence, budgets, lambda count: None, lambda other: None
        )
        for one, other in zip(from_kept, from_rows, strict=True):
            assert one.log_prob == pytest.approx(other.log_prob, abs=1e-10)
            assert one.is_greedy == other.is_greedy
            flags.append(one.is_greedy)
    # Both ways to a flag were taken, and not every rival that was looked at lost.
    assert sum(flags) == 6 < sum(undecided) < len(flags)


def counted(counts):
    """`Ensemble.rows`, which writes down of how many requests it was asked."""
    rows = Ensemble.rows

    def asked(self, requests, *rest):
        counts.append(len(requests))
        return rows(self, requests, *rest)

    return asked


class Fixed:
    """A member that says the same after every text."""

    device = torch.device("cpu")
    max_length = 100

    def __init__(self, probs):
        self.name = "fixed"
        self.row = torch.tensor(probs, dtype=torch.float64).log()
        self.num_entries = len(probs)

    def read(self, ids, mask, past):
        return torch.zeros(*ids.shape, 1, dtype=torch.float64), self

    def select(self, rows):
        return self

    def join(self, others):
        return self

    @property
    def lengths(self):
        return torch.ones(1)

    def log_probs(self, states):
        return self.row.expand(len(states), -1)


def fixed_ensemble(rule, *probs, weights):
    size = len(probs[0])
    outcome_map = OutcomeMap(torch.arange(size), torch.arange(size - 2))
    members = tuple(Participant(Fixed(own), None, outcome_map) for own in probs)
    return Ensemble(members, OutcomeSpace((b"",) * (size - 2)), COMBINERS[rule], weights)


def fixed_request(tokens, num_members):
    ids = np.array([0, *tokens], np.int32)
    places = np.arange(1, len(ids), dtype=np.int32)
    one = TokenRequest(ids, places, ids[1:].astype(np.int64))
    return EnsembleRequest((one,) * num_members)


@pytest.mark.parametrize("rule", RULES)
def test_the_mixture_s_favourite_may_be_no_member_s(rule):
    # Each member prefers its own token; the third is second for both.
    one = [0.5, 0.02, 0.4, 0.0, 0.08]
    two = [0.02, 0.5, 0.4, 0.0, 0.08]
    ensemble = fixed_ensemble(rule, one, two, weights=(0.5, 0.5))
    requests = [fixed_request([token], 2) for token in range(3)]
    assert [found.is_greedy for found in ensemble.score(requests)] == [False, False, True]


def test_other_is_never_what_greedy_decoding_writes():
    ensemble = fixed_ensemble("mean_probs", [0.3, 0.2, 0.0, 0.5], weights=(1.0,))
    assert [ensemble.score([fixed_request([t], 1)])[0].is_greedy for t in (0, 1)] == [True, False]


def test_what_kept_entries_do_not_decide_is_decided_by_whole_rows():
    # 40 tokens are alike: none of the 16 kept ones tells that token 30 is the largest by a little.
    probs = np.full(42, 1.0)
    probs[30] += 1e-3
    probs[-2:] = 0
    probs /= probs.sum()
    ensemble = fixed_ensemble("mean_probs", probs.tolist(), probs[::1].tolist(), weights=(0.5, 0.5))
    flags = [ensemble.score([fixed_request([t], 2)])[0].is_greedy for t in (29, 30, 31)]
    assert flags == [False, True, False]


@pytest.mark.parametrize("rule", RULES)
def test_a_continuation_without_tokens_is_certain(rule):
    ensemble = fixed_ensemble(rule, [0.5, 0.5, 0.0, 0.0], weights=(1.0,))
    (found,) = ensemble.score([fixed_request([], 1)])
    assert (found.log_prob, found.is_greedy) == (0.0, True)


@pytest.mark.parametrize("rule", RULES)
def test_a_renormalised_continuation_without_tokens_is_certain(rule):
    one = fixed_ensemble(rule, [0.5, 0.3, 0.0, 0.2], weights=(1.0,))
    (found,) = replace(one, renormalise=True).score([fixed_request([], 1)])
    assert (found.log_prob, found.is_greedy) == (0.0, True)


def test_a_prompt_that_is_nearly_all_other_still_teaches_the_posterior():
    # Of the shared outcomes alone: 1/4 and 3/4 for the first member, halves for the second.
    ensemble = fixed_ensemble(
        "sequence_mixture", [1e-20, 3e-20, 0, 1.0], [1e-20, 1e-20, 0, 1.0], weights=(0.5, 0.5)
    )
    context, continuation = fixed_request([0], 2), fixed_request([1], 2)
    asked = EnsembleRequest(continuation.continuations, context.continuations)
    (found,) = replace(ensemble, renormalise=True).score([asked])
    assert math.exp(found.log_prob) == pytest.approx(1 / 3 * 3 / 4 + 2 / 3 * 1 / 2, abs=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_texts_of_a_closed_world_sum_to_one(rule):
    # Two tokens and the end, three steps: what has not ended by then is left over.
    ensemble = fixed_ensemble(rule, [0.5, 0.2, 0.3, 0.0], [0.1, 0.7, 0.2, 0.0], weights=(0.4, 0.6))
    ended = [
        [*tokens, 2] for length in range(3) for tokens in itertools.product((0, 1), repeat=length)
    ]
    going = [list(tokens) for tokens in itertools.product((0, 1), repeat=3)]
    scored = ensemble.score([fixed_request(text, 2) for text in ended + going])
    assert math.fsum(math.exp(found.log_prob) for found in scored) == pytest.approx(1, abs=1e-12)


def test_dropped_mass_is_what_is_in_no_shared_outcome(participants):
    requests = ensemble_requests(participants, 2, 6)
    kept = keep_scores(participants, requests, usual_budgets(participants))
    for m, own in enumerate(participants):
        expected = []
        for request in requests:
            asked = request.continuations[m]
            rows = outcome_rows(own, asked)
            expected += [1 - sum(rows[place - 1][:-1]) for place in asked.scored.tolist()]
        np.testing.assert_allclose(kept.entries[m].other.exp(), expected, atol=1e-12)
