"""Requests as lm-eval makes them, and backends on tiny models, for the tests of our backends."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from transformers import AutoModelForCausalLM, AutoTokenizer

from suite.ensemble.config import EnsembleConfig
from suite.harness.backends import HfBackend
from suite.harness.contract import EngineOptions
from suite.harness.engine_backend import SuiteLM
from suite.harness.ensemble_backend import KeptStore, SuiteEnsembleLM
from suite.harness.ensemble_opening import configured
from suite.harness.opening import OpenedModel, open_model
from suite.models.loading import LoadedModel

# No token of the tokenizer with merges spans a border between these.
PAIRS = [
    ("Question: 2+2?\nAnswer", " four"),
    ("Question: 2+2?\nAnswer", " five"),
    ("A context that ends in spaces  ", "and goes on"),
    ("", "no context at all"),
    ("日本語 🎉", " naïve café"),
    ("Question: 2+2?\nAnswer", " four"),
    ("Question: 2+2?\nAnswer", " four and more"),
    ("a", ""),
]
TEXTS = ["A first document, long enough to need more than one window.\n" * 4, "short", "🎉", ""]


def pairs(given: Sequence[tuple[str, str]] = PAIRS) -> list[Instance]:
    return [
        Instance("loglikelihood", {}, pair, 0, ("task", number, 1))
        for number, pair in enumerate(given)
    ]


def texts(given: Sequence[str] = TEXTS) -> list[Instance]:
    return [Instance("loglikelihood_rolling", {}, (text,), n) for n, text in enumerate(given)]


def prompts(given: Sequence[str], **kwargs: Any) -> list[Instance]:
    settings = {"until": ["\n"], "max_gen_toks": 6} | kwargs
    return [
        Instance("generate_until", {}, (prompt, dict(settings)), 0, ("task", number, 1))
        for number, prompt in enumerate(given)
    ]


@cache
def load(folder: Path, template: str | None = None) -> LoadedModel:
    """Model and tokenizer; the same objects for the same folder, so they are not to be changed."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if template is not None:
        tokenizer.chat_template = template
    return LoadedModel(model, tokenizer)


@cache
def member(folder: Path, name: str | None = None, **options: Any) -> OpenedModel:
    """A model in the engine; the same object for the same arguments."""
    loaded = load(folder, options.pop("template", None))
    return open_model(loaded, name=name or folder.name, **options)


def single(folder: Path, options: EngineOptions | None = None, **rest: Any) -> SuiteLM:
    return SuiteLM(member(folder, **rest), options)


def hugging_face(folder: Path, **options: Any) -> HfBackend:
    loaded = load(folder)
    return HfBackend(loaded.model, loaded.tokenizer, **({"batch_size": 2} | options))


def ensemble(
    members: Sequence[OpenedModel],
    combine: str,
    *,
    options: EngineOptions | None = None,
    store: KeptStore | None = None,
    **config: Any,
) -> SuiteEnsembleLM:
    names = tuple(own.member.name for own in members)
    settings = EnsembleConfig(members=names, combine=combine, **config)
    return SuiteEnsembleLM(configured("e", members, settings, "task"), options, store)


def log_probs(answers: Sequence[tuple[float, bool]]) -> list[float]:
    return [answer[0] for answer in answers]


def flags(answers: Sequence[tuple[float, bool]]) -> list[bool]:
    return [answer[1] for answer in answers]
