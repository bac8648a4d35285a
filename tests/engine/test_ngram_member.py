"""Byte-level models with n-gram embeddings in the engine: pieces give what whole texts give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from ngram_models import TEXT, byte_model, byte_tokenizer_of, ngram_model
from trained_tokenizers import opened

from suite.engine.generation import Choir, GenerationSettings, Prompts, Speaker, generate
from suite.engine.members import HfMember
from suite.engine.ngram_member import NgramMember, open_member
from suite.engine.readers import read_tokens
from suite.engine.requests import TokenRequest
from suite.engine.scoring import score
from suite.ensemble.combine import COMBINERS
from suite.models.ngram_lookup import NOTHING
from suite.transplant.bits_per_byte import bits_per_byte

KINDS = ("llama", "gemma3")


@cache
def member(kind: str, seed: int = 0) -> tuple[HfMember, Any]:
    model, new = ngram_model(kind, seed=seed)
    return open_member(model, name=f"tiny {kind}"), new


def ids_of(new: Any, text: str = TEXT) -> list[int]:
    return [new.begin_id, *new.encode(text).ids.tolist()]


def padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Padding is the byte 0 unless it is told apart."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    return ids, torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])


@torch.no_grad()
def plain_log_probs(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Row i predicts token i + 1: one pass over the whole text."""
    return model(torch.tensor([list(ids)]), use_cache=False).logits[0].log_softmax(-1)


def states_of(reader: HfMember, ids: Sequence[int]) -> torch.Tensor:
    return reader.read(*padded([ids]), None)[0][0]


@pytest.mark.parametrize("kind", KINDS)
def test_full_is_incremental_at_every_split(kind: str) -> None:
    reader, new = member(kind)
    ids = ids_of(new)
    whole = states_of(reader, ids)
    torch.testing.assert_close(reader.log_probs(whole), plain_log_probs(reader.model, ids))
    for split in range(1, len(ids)):
        before, past = reader.read(*padded([ids[:split]]), None)
        after, _ = reader.read(*padded([ids[split:]]), past.select([0]))
        found = torch.cat([before[0], after[0]])
        torch.testing.assert_close(found, whole, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_byte_by_byte_gives_the_whole(kind: str) -> None:
    reader, new = member(kind)
    ids = ids_of(new)
    past, found = None, []
    for number in ids:
        states, past = reader.read(torch.tensor([[number]]), torch.ones(1, 1, dtype=bool), past)
        found.append(states[0, 0])
    torch.testing.assert_close(torch.stack(found), states_of(reader, ids), atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_of_ragged_rows_that_are_selected_and_joined_give_the_whole(kind: str) -> None:
    reader, new = member(kind)
    texts = [ids_of(new), ids_of(new, "brown fox the fox 日本"), ids_of(new, "été été")]
    cuts = [17, 3, 9]
    _, first = reader.read(*padded([t[:cut] for t, cut in zip(texts, cuts, strict=True)]), None)
    _, alone = reader.read(*padded([texts[0][:5]]), None)
    past = first.select([2, 0, 1, 0]).join([alone.select([0])])
    owners, places = [2, 0, 1, 0, 0], [9, 17, 3, 17, 5]
    assert past.lengths.tolist() == places
    rests = [texts[owner][place:] for owner, place in zip(owners, places, strict=True)]
    sizes = [max(1, len(rest) - 2 - number) for number, rest in enumerate(rests)]
    middle = [rest[:size] for rest, size in zip(rests, sizes, strict=True)]
    states, past = reader.read(*padded(middle), past)
    last = [rest[size:] for rest, size in zip(rests, sizes, strict=True)]
    ends, _ = reader.read(*padded(last), past.select(range(5)))
    for row, (owner, place) in enumerate(zip(owners, places, strict=True)):
        whole = states_of(reader, texts[owner])[place:]
        found = torch.cat([states[row, : sizes[row]], ends[row, : len(last[row])]])
        torch.testing.assert_close(found, whole, atol=1e-10, rtol=1e-10)


def test_a_past_can_be_read_twice() -> None:
    reader, new = member("llama")
    _, past = reader.read(*padded([ids_of(new)]), None)
    once, again = (
        reader.read(torch.tensor([[104, 101]]), torch.ones(1, 2) > 0, past)[0] for _ in "ab"
    )
    assert torch.equal(once, again)


def test_history_holds_each_rows_last_tokens_and_no_padding() -> None:
    reader, _ = member("llama")
    assert isinstance(reader, NgramMember)
    size = reader.model.ngram.table.history_length
    _, past = reader.read(*padded([[1, 2, 3], [4]]), None)
    _, past = reader.read(*padded([[5], [6, 7]]), past.select([0, 1]))
    nothing = [NOTHING] * (size - 4)
    assert past.history.tolist() == [[*nothing, 1, 2, 3, 5], [NOTHING, *nothing, 4, 6, 7]]


def test_plain_models_are_opened_as_before() -> None:
    new = byte_tokenizer_of(opened("marked"))
    assert type(open_member(byte_model("llama", new), name="it")) is HfMember


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_texts_that_share_beginnings_are_those_of_whole_texts(kind: str) -> None:
    reader, new = member(kind)
    shared = "The quick brown fox jumps over the lazy dog"
    texts = [ids_of(new, shared + end) for end in (" the", " été", "s.", " 日本", " they")]
    requests = []
    for ids in texts:
        places = np.arange(len(ids) - 4, len(ids), dtype=np.int32)
        array = np.array(ids, np.int32)
        requests.append(TokenRequest(array, places, array[places].astype(np.int64)))
    scored = score(reader, requests, read_tokens)
    for number, ids in enumerate(texts):
        rows = plain_log_probs(reader.model, ids)
        expected = [float(rows[place - 1, ids[place]]) for place in range(len(ids) - 4, len(ids))]
        found = scored.of(number)["token"].double()
        assert found.tolist() == pytest.approx(expected, abs=1e-5)


def choir_of(readers: Sequence[HfMember], new: Any, rule: str = "mean_probs") -> Choir:
    size = len(new.vocabulary)
    speakers = [Speaker(one, lambda log_probs: log_probs, torch.arange(size)) for one in readers]
    is_end = torch.zeros(size, dtype=torch.bool)
    is_end[256:] = True
    never = torch.zeros(size, dtype=torch.bool)
    return Choir(speakers, COMBINERS[rule], is_end, never, new.hf.decode)


def recomputed(models: Sequence[Any], prompt: Sequence[int], count: int) -> list[int]:
    """The most probable next entry by full passes over the whole text."""
    ids = list(prompt)
    for _ in range(count):
        rows = torch.stack([plain_log_probs(model, ids)[-1] for model in models])
        best = int(rows.logsumexp(0).argmax())
        if best >= 256:
            break
        ids.append(best)
    return ids[len(prompt) :]


@pytest.mark.parametrize("kind", KINDS)
def test_generation_equals_full_recomputation(kind: str) -> None:
    reader, new = member(kind)
    start = "The quick brown fox "
    prompts = [ids_of(new, start + end) for end in ("the", "日", "jumps over été", "")]
    found = generate(
        choir_of([reader], new),
        Prompts([prompts], torch.zeros(1)),
        GenerationSettings(stop=(), max_tokens=12),
        max_rows=3,
    )
    for prompt, generated in zip(prompts, found, strict=True):
        assert list(generated.outcomes) == recomputed([reader.model], prompt, 12)


def test_two_byte_models_one_without_ngram_embeddings_write_one_text() -> None:
    first, new = member("gemma3")
    second = open_member(byte_model("llama", new, seed=3), name="plain")
    prompts = [ids_of(new, "The quick "), ids_of(new, "日本 the")]
    log_weights = torch.full((2,), -math.log(2))
    found = generate(
        choir_of([first, second], new),
        Prompts([prompts, prompts], log_weights),
        GenerationSettings(stop=(), max_tokens=8),
        max_rows=2,
    )
    for prompt, generated in zip(prompts, found, strict=True):
        expected = recomputed([first.model, second.model], prompt, 8)
        assert list(generated.outcomes) == expected


def test_bits_per_byte_are_those_of_the_whole_model() -> None:
    reader, new = member("gemma3")
    ids = ids_of(new)
    rows = plain_log_probs(reader.model, ids)
    # An entry that no text has is left out of the sum.
    rows = rows.masked_fill(torch.from_numpy(new.vocabulary.is_dead), -torch.inf).log_softmax(-1)
    total = sum(float(rows[place - 1, ids[place]]) for place in range(1, len(ids)))
    expected = -total / (math.log(2) * len(TEXT.encode()))
    assert bits_per_byte(reader.model, new, [TEXT]) == pytest.approx(expected, abs=1e-6)
