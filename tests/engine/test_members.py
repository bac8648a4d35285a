"""A transformers model read piece by piece gives the states of one pass over the whole text."""

from __future__ import annotations

import pytest
import torch
from tiny_members import build, member

from suite.engine.members import HfMember
from suite.errors import ModelError

KINDS = ("llama", "gpt2", "gemma")


def whole(reader, ids):
    mask = torch.ones(1, len(ids), dtype=torch.bool)
    return reader.read(torch.tensor([ids]), mask, None)[0][0]


def padded(rows):
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    return ids, torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-10)])
def test_pieces_of_ragged_rows_equal_whole_texts(kind, dtype, tolerance):
    # Longer than the window of 6: padding must not count as places of it.
    reader = member(kind, dtype)
    first = [[5, 6, 7, 8, 9, 10, 11, 12], [13, 14, 15], [16]]
    second = [[20, 21], [22, 23, 24, 25, 26], [27, 28, 29]]
    third = [[30], [31], [32]]
    chosen = [1, 0, 1, 2]
    _, past = reader.read(*padded(first), None)
    states, after = reader.read(*padded([second[row] for row in chosen]), past.select(chosen))
    last, _ = reader.read(*padded([third[row] for row in chosen]), after.select(range(4)))
    for place, row in enumerate(chosen):
        expected = whole(reader, first[row] + second[row] + third[row])
        start, stop = len(first[row]), len(first[row]) + len(second[row])
        torch.testing.assert_close(
            states[place, : stop - start], expected[start:stop], atol=tolerance, rtol=tolerance
        )
        torch.testing.assert_close(last[place, 0], expected[-1], atol=tolerance, rtol=tolerance)
    assert after.lengths.tolist() == [8, 10, 8, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_pasts_of_several_batches_are_read_on_together(kind):
    reader = member(kind)
    first, second = [[5, 6, 7, 8, 9, 10, 11, 12], [13, 14]], [[15, 16, 17]]
    pasts = [
        reader.read(*padded(rows), None)[1].select(range(len(rows))) for rows in (first, second)
    ]
    joined = pasts[1].join([pasts[0]])
    assert joined.lengths.tolist() == [3, 8, 2]
    ends = [[20, 21], [22], [23, 24, 25]]
    states, _ = reader.read(*padded(ends), joined)
    for place, (start, end) in enumerate(zip([*second, *first], ends, strict=True)):
        expected = whole(reader, start + end)[len(start) :]
        torch.testing.assert_close(states[place, : len(end)], expected)


def test_a_past_can_be_read_twice():
    reader = member("llama")
    _, past = reader.read(*padded([[5, 6, 7]]), None)
    once, _ = reader.read(*padded([[8, 9]]), past)
    again, _ = reader.read(*padded([[8, 9]]), past)
    assert torch.equal(once, again)


def test_a_ragged_past_is_made_compact_before_it_is_read_on():
    reader = member("gemma")
    _, past = reader.read(*padded([[5, 6, 7], [8]]), None)
    states, _ = reader.read(*padded([[9], [10]]), past)
    torch.testing.assert_close(states[1, 0], whole(reader, [8, 10])[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_log_probs_are_those_of_the_model(kind):
    reader = member(kind)
    ids = [5, 6, 7]
    states = whole(reader, ids)
    with torch.no_grad():
        logits = reader.model(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(reader.log_probs(states), logits.log_softmax(-1))


def test_entries_beyond_the_tokenizer_and_dead_ones_have_no_probability():
    model = build("llama")
    dead = torch.zeros(40, dtype=torch.bool)
    dead[[3, 7]] = True
    reader = HfMember(model, name="tiny", num_entries=40, dead=dead)
    log_probs = reader.log_probs(whole(reader, [5, 6]))
    alive = (~dead).nonzero()[:, 0]
    with torch.no_grad():
        logits = model(torch.tensor([[5, 6]])).logits[0]
    torch.testing.assert_close(log_probs[:, alive], logits[:, alive].log_softmax(-1))
    assert log_probs[:, dead].isneginf().all()


def test_half_precision_becomes_float32_behind_the_logits():
    reader = HfMember(build("llama", torch.bfloat16), name="tiny")
    assert reader.log_probs(whole(reader, [5, 6])).dtype == torch.float32


def test_the_longest_text_is_read_from_the_configuration():
    assert member("llama").max_length == 64
    assert HfMember(build("gpt2"), name="tiny", max_length=7).max_length == 7


def test_a_model_whose_cache_cannot_be_carried_is_refused():
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(
        vocab_size=20, hidden_size=8, state_size=2, num_hidden_layers=1, expand=1, time_step_rank=1
    )
    with pytest.raises(ModelError) as caught:
        HfMember(MambaForCausalLM(config).eval(), name="tiny mamba")
    text = str(caught.value)
    assert text.startswith(
        "tiny mamba: MambaForCausalLM cannot go on from the cache of a prompt that several answers"
        " share ("
    )
    assert text.endswith("); choose backend: hf")
