"""Word mixtures of members that read a text in forms of their own."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from lm_requests import ensemble, load, log_probs, member, pairs, single, texts
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from suite.errors import ConfigError, HarnessError
from suite.harness.opening import OpenedModel, open_model
from suite.models.loading import LoadedModel

# Decomposed: NFC joins the letter and its mark, which saves a byte.
DECOMPOSED = "cafe\u0301 au lait"
COMPOSED = "caf\u00e9 au lait"


def changed(
    folder: Path, name: str, *, normalizer: object = None, special: bool = True
) -> OpenedModel:
    loaded = load(folder)
    parts = json.loads(loaded.tokenizer.backend_tokenizer.to_str())
    parts["normalizer"] = normalizer
    if not special:
        parts["added_tokens"] = [t for t in parts["added_tokens"] if t["content"] != "<pad>"]
    hf = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(parts)),
        bos_token="<begin>",
        eos_token="<end>",
    )
    return open_model(LoadedModel(loaded.model, hf), name=name)


def test_all_members_read_the_normal_form_that_one_needs(tiny_model: Path) -> None:
    members = [member(tiny_model, "plain"), changed(tiny_model, "nfc", normalizer={"type": "NFC"})]
    backend = ensemble(members, "word_mixture")
    found = backend.loglikelihood(pairs([("a", DECOMPOSED), ("a", COMPOSED)]))
    assert found[0] == found[1]
    rolling = backend.loglikelihood_rolling(texts([DECOMPOSED, COMPOSED]))
    assert rolling[0] == rolling[1]


def test_a_special_token_of_one_member_only_is_refused(tiny_model: Path) -> None:
    members = [member(tiny_model, "plain"), changed(tiny_model, "bare", special=False)]
    backend = ensemble(members, "word_mixture")
    for continuation in ("b<pad> c", "<pad>"):
        with pytest.raises(HarnessError) as error:
            backend.loglikelihood(pairs([("a", "b"), ("a", continuation)]))
        assert str(error.value) == (
            "item 1 of task 'task': 'bare' reads other bytes in it than 'plain', so that their"
            " words differ; leave the item out"
        )


def test_white_space_that_only_one_template_ends_in_is_scored_by_no_member(
    tiny_model: Path,
) -> None:
    bare = "{% for m in messages %}{{ m.content }}{% endfor %}"
    members = [
        member(tiny_model, "a", template=bare + "{{ '\\n' }}"),
        member(tiny_model, "b", template=bare),
    ]
    backend = ensemble(members, "word_mixture")
    text = backend.apply_chat_template([{"role": "user", "content": "hello"}])
    [(found, _)] = backend.loglikelihood(pairs([(text, "x")]))
    asked = pairs([("hello", "\nx"), ("hello", "\n"), ("hello", "x")])
    whole, line, plain = log_probs(single(tiny_model).loglikelihood(asked))
    assert found == pytest.approx(np.logaddexp(whole - line, plain) - math.log(2), abs=1e-4)


def test_word_weights_need_something_to_be_fitted_to(tiny_model: Path) -> None:
    backend = ensemble([member(tiny_model), member(tiny_model, "b")], "word_mixture")
    with pytest.raises(ConfigError) as error:
        backend.fit_weights([("a", "")])
    assert str(error.value) == (
        "ensemble 'e': the development items have nothing to fit weights to; choose another task or"
        " split"
    )
