from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tiny_models import TEXTS, kept, kept_plan, tiny_llama
from trained_tokenizers import opened

from suite.errors import ModelError
from suite.transplant.bits_per_byte import bits_per_byte


@pytest.mark.parametrize("family", ["marked", "unigram", "byte-level"])
def test_it_is_the_sum_of_the_tokens_logs_over_the_bytes(family: str) -> None:
    tokenizer = opened(family)
    model = tiny_llama(tokenizer).double()
    total, num_bytes = 0.0, 0
    entries = len(tokenizer.vocabulary)
    for text in TEXTS:
        ids = [tokenizer.begin_id, *tokenizer.encode(text).ids.tolist()]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, :, :entries]
        logits[:, torch.from_numpy(tokenizer.vocabulary.is_dead)] = -math.inf
        for place in range(1, len(ids)):
            total += float(logits[place - 1].log_softmax(0)[ids[place]])
        num_bytes += len(text.encode())
    counts: list[int] = []
    found = bits_per_byte(model, tokenizer, TEXTS, counts.append)
    assert found == pytest.approx(-total / math.log(2) / num_bytes, rel=1e-9)
    assert sum(counts) == len(TEXTS)


def test_entries_that_no_text_has_take_nothing() -> None:
    old = opened("byte-level")
    new = kept(old, "marked")
    assert new.vocabulary.is_dead[0]
    assert kept_plan(old, new).num_unused
    model = tiny_llama(new, is_tied=False)
    before = bits_per_byte(model, new, TEXTS)
    with torch.no_grad():
        model.lm_head.weight[0] = 100
    assert bits_per_byte(model, new, TEXTS) == pytest.approx(before, rel=1e-6)


def test_a_tokenizer_without_begin_and_end_is_refused() -> None:
    tokenizer = replace(opened("marked"), begin_id=None)
    with pytest.raises(ModelError) as error:
        bits_per_byte(tiny_llama(tokenizer), tokenizer, TEXTS)
    assert str(error.value) == "marked has neither begin nor end token to begin a text with"
