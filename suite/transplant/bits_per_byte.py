"""Bits per byte: how well a model predicts a text, whatever its tokens are.

Legend: T tokens of a passage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from suite.engine.ngram_member import open_member
from suite.engine.readers import read_tokens
from suite.engine.requests import pair_request
from suite.engine.scoring import score
from suite.errors import ModelError
from suite.likelihood.heads import num_entries
from suite.text.tokenizers import OpenedTokenizer


def bits_per_byte(
    model: Any,
    tokenizer: OpenedTokenizer,
    passages: Sequence[str],
    on_answer: Callable[[int], None] = lambda count: None,
) -> float:
    """-sum log p / (ln 2 x bytes), each passage behind the begin token.

    Entries that no text has are masked.

    Args:
        model: A causal language model on its device.
        tokenizer: Its tokenizer.
        passages: Texts that the model can read whole; bytes are those of their UTF-8.
        on_answer: Told how many more passages are scored.

    Raises:
        ModelError: The tokenizer has no begin and no end token to begin with.
        TextError: The tokenizer cannot read a passage.
    """
    begin = tokenizer.begin_id
    if begin is None:
        raise ModelError(f"{tokenizer.name} has neither begin nor end token to begin a text with")
    name, dead = tokenizer.name, torch.from_numpy(tokenizer.vocabulary.is_dead)
    count = num_entries(tokenizer.vocabulary, model, name=name)
    member = open_member(model, name=name, num_entries=count, dead=dead[:count])
    requests = [
        pair_request([begin], tokenizer.encode(passage).ids.tolist(), max_length=member.max_length)
        for passage in passages
    ]
    scored = score(member, requests, read_tokens, on_answer=on_answer)
    total = float(scored.values["token"].double().sum())
    return -total / (math.log(2) * sum(len(passage.encode()) for passage in passages))
