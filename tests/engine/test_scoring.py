"""Scores equal one plain pass a text, whatever is shared, batched or out of memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_members import member, plain_scores, random_requests, request
from toy_members import ToyMember

from suite.engine import prefixes
from suite.engine.batching import TokenBudget
from suite.engine.readers import BoundaryReader, read_tokens
from suite.engine.requests import pair_request
from suite.engine.scoring import Ask, NotFiniteError, score, score_all
from suite.errors import ModelError

KINDS = ("llama", "gpt2", "gemma")


class Counting:
    """A member that counts the tokens it is given, and fails above a number of them."""

    def __init__(self, inner, *, most=10**9):
        self.inner = inner
        self.most = most
        self.num_read = 0
        self.num_rows = 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def read(self, ids, mask, past):
        if ids.numel() > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        self.num_read += int(mask.sum())
        return self.inner.read(ids, mask, past)

    def log_probs(self, states):
        self.num_rows += len(states)
        return self.inner.log_probs(states)


def check(scored, requests, model, tolerance):
    for place, asked in enumerate(requests):
        tokens, is_greedy = plain_scores(model, asked)
        found = scored.of(place)
        np.testing.assert_allclose(found["token"].double(), tokens, atol=tolerance)
        assert found["is_greedy"].tolist() == is_greedy


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_scores_equal_a_plain_pass_over_each_text(kind, dtype, tolerance):
    reader = member(kind, dtype)
    requests = random_requests(0, 25)
    check(score(reader, requests, read_tokens), requests, reader.model, tolerance)


@pytest.mark.parametrize("num_read", [1, 7, 40, 10**6])
@pytest.mark.parametrize("least_saved", [1, 12, 10**9])
def test_budgets_and_sharing_change_nothing(num_read, least_saved, monkeypatch):
    monkeypatch.setattr(prefixes, "MIN_SAVED_TOKENS", least_saved)
    reader = member("gemma")
    requests = random_requests(1, 15)
    scored = score(reader, requests, read_tokens, budget=TokenBudget(num_read, 2 * num_read))
    check(scored, requests, reader.model, 1e-10)


def test_the_order_of_the_requests_changes_nothing():
    reader = member("llama")
    requests = random_requests(2, 15)
    forward = score(reader, requests, read_tokens)
    backward = score(reader, requests[::-1], read_tokens)
    for place in range(len(requests)):
        torch.testing.assert_close(
            forward.of(place)["token"], backward.of(len(requests) - 1 - place)["token"]
        )


def test_what_texts_share_is_read_once_and_the_head_sees_scored_places_only():
    shots, question = list(range(3, 23)), list(range(23, 36))
    answers = [[40, 41], [42], [43], [44, 45, 46]]
    requests = [pair_request([1, *shots, *question], own, max_length=60) for own in answers]
    counting = Counting(member("llama"))
    score(counting, requests, read_tokens)
    # The prompt once; of each answer all but its last token.
    assert counting.num_read == 1 + len(shots) + len(question) + 1 + 2
    # One place behind the prompt serves all first tokens.
    assert counting.num_rows == 1 + 1 + 2


def test_out_of_memory_halves_the_budget_and_changes_nothing():
    requests = random_requests(3, 20)
    counting = Counting(member("llama"), most=40)
    budget = TokenBudget(10**4, 10**5)
    scored = score(counting, requests, read_tokens, budget=budget)
    check(scored, requests, member("llama").model, 1e-10)
    assert budget.num_read <= 40


def test_out_of_memory_with_a_single_text_is_told():
    requests = [request(range(3, 20), [16])]
    with pytest.raises(ModelError) as caught:
        score(Counting(member("llama"), most=4), requests, read_tokens)
    assert str(caught.value) == (
        "member 'tiny llama': a text of 16 tokens does not fit into memory; lower max_length"
    )


def test_a_head_out_of_memory_takes_fewer_states_and_every_answer_is_told_once():
    class SmallHead(Counting):
        def log_probs(self, states):
            if len(states) > 3:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return self.inner.log_probs(states)

    told = []
    requests = random_requests(7, 12)
    scored = score(SmallHead(member("llama")), requests, read_tokens, on_answer=told.append)
    check(scored, requests, member("llama").model, 1e-10)
    assert sum(told) == len(requests)


def test_scored_places_may_have_gaps():
    asked = request([1, 5, 6, 7, 8, 9, 10], [1, 2, 5])
    scored = score(member("llama"), [asked], read_tokens)
    check(scored, [asked], member("llama").model, 1e-10)


def test_a_request_without_scored_tokens_is_empty_and_counts_as_answered():
    told = []
    requests = [request([1, 5], []), request([1, 5], [1])]
    scored = score(member("llama"), requests, read_tokens, on_answer=told.append)
    assert scored.of(0)["token"].tolist() == []
    assert len(scored.of(1)["token"]) == 1
    assert sum(told) == 2


def test_no_requests_are_no_scores():
    assert score(member("llama"), [], read_tokens).values == {}


def test_every_answer_is_told_once():
    told = []
    requests = random_requests(4, 20)
    score(member("llama"), requests, read_tokens, on_answer=told.append)
    assert sum(told) == len(requests)


def test_several_asks_share_one_pass():
    reader = member("llama")
    first, second = random_requests(5, 8), random_requests(5, 12)
    starts = torch.zeros(50, dtype=torch.bool)
    starts[10:20] = True
    counting = Counting(reader)
    one, two = score_all(counting, [Ask(first, read_tokens), Ask(second, BoundaryReader(starts))])
    check(one, first, reader.model, 1e-10)
    check(two, second, reader.model, 1e-10)
    alone = Counting(reader)
    score(alone, [*first, *second], read_tokens)
    assert counting.num_read == alone.num_read


def test_the_boundary_mass_is_that_of_the_row_that_predicts_the_token():
    from tiny_members import plain_rows

    reader = member("gpt2")
    starts = torch.zeros(50, dtype=torch.bool)
    starts[[4, 9, 33]] = True
    asked = request([1, 5, 6, 7], [2, 3])
    found = score(reader, [asked], BoundaryReader(starts)).of(0)
    rows = plain_rows(reader.model, asked.ids.tolist())
    expected = [np.log(np.exp(rows[place, [4, 9, 33]].numpy()).sum()) for place in (1, 2)]
    np.testing.assert_allclose(found["boundary"], expected, atol=1e-10)


def test_numbers_that_are_none_name_the_member_and_the_request():
    class Broken(Counting):
        def log_probs(self, states):
            rows = self.inner.log_probs(states)
            rows[:, 9] = torch.nan
            return rows

    requests = [request([1, 5, 6], [1, 2]), request([1, 5, 9], [2])]
    with pytest.raises(NotFiniteError) as caught:
        score(Broken(member("llama")), requests, read_tokens)
    assert str(caught.value) == (
        "member 'tiny llama': log-probabilities of request 1 are not numbers (NaN); try dtype:"
        " float32"
    )
    assert (caught.value.member, caught.value.request) == ("tiny llama", 1)


@pytest.mark.parametrize("num_read", [3, 25, 10**6])
@pytest.mark.parametrize("least_saved", [1, 12])
def test_what_a_member_keeps_for_each_text_is_carried_along_the_tree(
    num_read, least_saved, monkeypatch
):
    monkeypatch.setattr(prefixes, "MIN_SAVED_TOKENS", least_saved)
    toy = ToyMember(num_entries=50, concentration=0.5)
    requests = random_requests(8, 30)
    scored = score(toy, requests, read_tokens, budget=TokenBudget(num_read, 3 * num_read))
    for place, asked in enumerate(requests):
        ids = asked.ids.tolist()
        expected = [float(toy.probs(ids[:n])[ids[n]].log()) for n in asked.scored.tolist()]
        np.testing.assert_allclose(scored.of(place)["token"], expected, atol=1e-12)


def test_a_long_prompt_is_cut_on_the_left():
    asked = pair_request(range(3, 13), [20, 21, 22], max_length=6)
    assert asked.ids.tolist() == [9, 10, 11, 12, 20, 21, 22]
    assert asked.scored.tolist() == [4, 5, 6]
    assert asked.num_cut == 6


def test_a_continuation_longer_than_the_model_reads_is_scored_as_far_as_it_goes():
    asked = pair_request([3], [20, 21, 22, 23], max_length=3)
    assert asked.ids.tolist() == [20, 21, 22, 23]
    assert asked.scored.tolist() == [1, 2, 3]
