"""Generation with tiny transformers, against full recomputation and transformers' own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from suite.engine.batching import TokenBudget
from suite.engine.generation import Choir, Generated, GenerationSettings, Prompts, Speaker, generate
from suite.engine.members import HfMember
from suite.engine.texts import MemberText, open_text
from suite.ensemble.combine import COMBINERS
from suite.models.tiny import write_tiny_model

START = "The quick brown fox jumps over the lazy dog. "
TEXTS = ["a", "Once upon", "12 + 13 =", "naïve café €5", "x y z and more", ""]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
SETTINGS = GenerationSettings(stop=(), max_tokens=12)
SAMPLED = GenerationSettings(stop=(), max_tokens=12, do_sample=True, temperature=0.7, top_p=0.9)


@cache
def loaded(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    return model, AutoTokenizer.from_pretrained(folder, padding_side="left")


class Model:
    """A tiny transformer, its tokenizer, and what it was asked for."""

    def __init__(self, folder: Path, dtype: torch.dtype, name: str = "tiny") -> None:
        self.hf, self.tokenizer = loaded(folder, dtype)
        self.text: MemberText = open_text(self.tokenizer, self.hf, name=name)
        self.member = HfMember(self.hf, name=name)
        self.seen: list[Tensor] = []

    def to_outcomes(self, log_probs: Tensor) -> Tensor:
        self.seen.append(log_probs.clone())
        return log_probs

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.text.encode(text) or [self.text.prefix_id] for text in texts]

    def log_probs(self, ids: Sequence[int]) -> Tensor:
        """log p(next | ids) without a cache."""
        with torch.no_grad():
            return self.hf(torch.tensor([list(ids)]), use_cache=False).logits[0, -1].log_softmax(-1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("tiny")
    write_tiny_model(path, seed=1)
    return path


@pytest.fixture(scope="module")
def folder_bos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("tiny_bos")
    write_tiny_model(path, seed=2, adds_begin_token=True)
    return path


def choir_of(*models: Model, rule: str = "mean_probs", ends: Sequence[int] | None = None) -> Choir:
    size = models[0].member.num_entries
    is_end = torch.zeros(size, dtype=torch.bool)
    is_end[list(models[0].text.end_ids if ends is None else ends)] = True
    speakers = [Speaker(model.member, model.to_outcomes, torch.arange(size)) for model in models]
    never = torch.zeros(size, dtype=torch.bool)
    return Choir(speakers, COMBINERS[rule], is_end, never, models[0].text.decode)


def run(
    choir: Choir,
    models: Sequence[Model],
    texts: Sequence[str],
    settings: GenerationSettings = SETTINGS,
    **options: Any,
) -> list[Generated]:
    prompts = [model.prompts(texts) for model in models]
    log_weights = torch.full((len(models),), 1 / len(models)).log()
    return generate(choir, Prompts(prompts, log_weights), settings, **{"max_rows": 8, **options})


@pytest.mark.parametrize("start", ["", START * 3])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_cached_steps_equal_full_recomputation(
    folder: Path, dtype: torch.dtype, start: str
) -> None:
    model = Model(folder, dtype)
    texts = [start + text for text in TEXTS]
    # About a tenth of all bytes end a text, so that rows leave at different steps.
    choir = choir_of(model, ends=range(0, 256, 10))

    found = run(choir, [model], texts, budget=TokenBudget(64, 10_000))

    prompts = model.prompts(texts)
    order = sorted(range(len(texts)), key=lambda request: -len(prompts[request]))
    assert len({len(one.outcomes) for one in found}) > 1
    for step, log_probs in enumerate(model.seen):
        steps = [len(one.outcomes) + (one.reason == "end") for one in found]
        rows = [request for request in order if steps[request] > step]
        expected = torch.stack(
            [model.log_probs([*prompts[row], *found[row].outcomes[:step]]) for row in rows]
        )
        torch.testing.assert_close(
            log_probs, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
        )


def test_greedy_texts_are_those_of_transformers(folder: Path) -> None:
    model = Model(folder, torch.float64)
    prompts = model.prompts(TEXTS)
    padded = model.tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
    width = padded["input_ids"].shape[1]
    ends = list(range(0, 256, 10))
    expected = model.hf.generate(
        **padded, max_new_tokens=12, do_sample=False, eos_token_id=ends, pad_token_id=ends[0]
    )

    found = run(choir_of(model, ends=ends), [model], TEXTS)

    for row, one in zip(expected[:, width:].tolist(), found, strict=True):
        end = next((place for place, token in enumerate(row) if token in ends), len(row))
        assert list(one.outcomes) == row[:end]
        assert one.text == model.tokenizer.decode(row[:end], skip_special_tokens=True)


@pytest.mark.parametrize("settings", [SETTINGS, SAMPLED])
def test_batches_and_budgets_do_not_change_the_texts(
    folder: Path, settings: GenerationSettings
) -> None:
    model = Model(folder, torch.float64)
    texts = [START * 2 + text for text in TEXTS]
    choir = choir_of(model)
    alone = run(choir, [model], texts, settings, max_rows=1)

    for max_rows, num_read in [(2, 16), (4, 1000), (8, 8)]:
        budget = TokenBudget(num_read, num_read)
        found = run(choir, [model], texts, settings, max_rows=max_rows, budget=budget)
        assert found == alone


@pytest.mark.parametrize("rule", COMBINERS)
def test_two_models_write_what_full_recomputation_chooses(
    folder: Path, folder_bos: Path, rule: str
) -> None:
    """Their prompts differ by a begin token; weights start at one half each."""
    models = [Model(folder, torch.float64), Model(folder_bos, torch.float64)]
    prompts = [model.prompts(TEXTS) for model in models]
    assert len(prompts[1][0]) == len(prompts[0][0]) + 1

    found = run(choir_of(*models, rule=rule), models, TEXTS)

    for request, one in enumerate(found):
        text: list[int] = []
        weights = [0.5, 0.5]
        for outcome in one.outcomes:
            rows = [
                model.log_probs([*own[request], *text]).exp()
                for model, own in zip(models, prompts, strict=True)
            ]
            pairs = list(zip(weights, rows, strict=True))
            if rule == "mean_log_probs":
                scores = sum(weight * row.log() for weight, row in pairs)
            else:
                scores = sum(weight * row for weight, row in pairs)
            assert outcome == int(scores.argmax())
            text.append(outcome)
            if rule == "sequence_mixture":
                joint = [weight * float(row[outcome]) for weight, row in pairs]
                weights = [value / sum(joint) for value in joint]


def test_stop_strings_are_found_in_real_text(folder: Path) -> None:
    model = Model(folder, torch.float64)
    plain = run(choir_of(model), [model], TEXTS)
    settled = [one.text[3:5] for one in plain if "\ufffd" not in one.text[3:5]]
    assert settled
    settings = GenerationSettings(stop=tuple(settled), max_tokens=12)

    found = run(choir_of(model), [model], TEXTS, settings)

    for before, after in zip(plain, found, strict=True):
        places = [before.text.find(stop) for stop in settled]
        first = min((place for place in places if place >= 0), default=None)
        assert after.text == before.text[:first]
