"""Models over bytes, with n-gram embeddings or without, behind lm-eval's interface."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from lm_requests import log_probs, pairs, prompts
from ngram_models import byte_model, byte_tokenizer_of, ngram_model
from trained_tokenizers import opened

from suite.engine.generation import Generated, GenerationSettings
from suite.harness.contract import EngineOptions
from suite.harness.engine_backend import SuiteLM
from suite.harness.ensemble_backend import SuiteEnsembleLM
from suite.harness.generation_kwargs import generation_settings, is_nearly_bytes
from suite.harness.opening import OpenedModel, open_model
from suite.models.loading import LoadedModel

PAIRS = [("The quick brown", " fox"), ("日本", "語 the"), ("", "été")]


def bytes_limits(**kwargs: object) -> tuple[int, int | None]:
    found = generation_settings({"seed": 0} | kwargs, (), counts_bytes=True)
    return found.max_tokens, found.max_bytes


def test_a_limit_in_tokens_counts_as_many_bytes_as_subword_tokens_have() -> None:
    assert bytes_limits(max_gen_toks=10) == (43, 43)
    assert bytes_limits(max_new_tokens=1280) == (5504, 5504)
    assert bytes_limits() == (1101, 1101)


def test_a_limit_in_bytes_is_taken_as_it_is() -> None:
    assert bytes_limits(max_gen_bytes=700) == (700, 700)
    assert bytes_limits(max_gen_bytes=2000) == (2000, 2000)


def test_of_two_limits_the_smaller_counts() -> None:
    assert bytes_limits(max_gen_toks=10, max_gen_bytes=700) == (43, 43)
    assert bytes_limits(max_gen_toks=256, max_gen_bytes=700) == (700, 700)


def test_limits_of_subword_models_stay() -> None:
    found = generation_settings({"seed": 0, "max_gen_toks": 10, "max_gen_bytes": 7}, ())
    assert (found.max_tokens, found.max_bytes) == (10, 7)


def test_which_vocabularies_are_of_bytes() -> None:
    assert is_nearly_bytes(opened("bytes:marked").vocabulary)
    assert not is_nearly_bytes(opened("marked").vocabulary)
    assert not is_nearly_bytes(opened("byte-level").vocabulary)


def opened_ngram(kind: str = "llama", protocol: str = "lm-eval") -> OpenedModel:
    model, new = ngram_model(kind, dtype=torch.float32)
    return open_model(LoadedModel(model, new.hf), name=f"ngram {kind}", protocol=protocol)


def opened_plain() -> OpenedModel:
    new = byte_tokenizer_of(opened("marked"))
    model = byte_model("llama", new, torch.float32, seed=5)
    return open_model(LoadedModel(model, new.hf), name="plain")


@torch.no_grad()
def plain_score(own: OpenedModel, context: str, continuation: str) -> float:
    ids = own.text.encode(context) or [own.text.prefix_id]
    target = own.text.encode(continuation, False)
    logits = own.member.model(torch.tensor([ids + target]), use_cache=False).logits[0]
    alive = torch.from_numpy(~own.vocabulary.is_dead)
    rows = logits.double().masked_fill(~alive, -torch.inf).log_softmax(-1)
    return sum(float(rows[len(ids) - 1 + n, token]) for n, token in enumerate(target))


def test_scores_are_those_of_the_whole_model() -> None:
    own = opened_ngram()
    found = log_probs(SuiteLM(own, EngineOptions()).loglikelihood(pairs(PAIRS)))
    assert found == pytest.approx([plain_score(own, *pair) for pair in PAIRS], abs=1e-4)


def test_it_writes_as_many_bytes_as_the_tokens_of_the_limit() -> None:
    backend = SuiteLM(opened_ngram(), EngineOptions())
    seen: list[GenerationSettings] = []
    generate = backend._generate

    def spy(requests, settings, on_answer):  # type: ignore[no-untyped-def]
        seen.append(settings)
        generate(requests, settings, on_answer)

    backend._generate = spy  # type: ignore[method-assign]
    (text,) = backend.generate_until(prompts(["The quick"], max_gen_toks=6, until=[]))
    assert (seen[0].max_tokens, seen[0].max_bytes) == (26, 26)
    assert len(text.encode()) <= 26
    assert backend.get_model_info()["bytes_per_token_of_limit"] == 4.3


def answer(backend: SuiteLM, data: bytes, reason: str) -> str:
    text = backend._decode(list(data))
    return backend._answer(Generated(text, tuple(data), reason), ())  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", ["length", "end"])
def test_a_character_that_was_not_finished_is_not_shown(reason: str) -> None:
    backend = SuiteLM(opened_ngram(), EngineOptions())
    whole = "a日👍"
    data = whole.encode()
    for count in range(len(data) + 1):
        found = answer(backend, data[:count], reason)
        assert found == data[:count].decode(errors="ignore")
        assert "\N{REPLACEMENT CHARACTER}" not in found


def test_bytes_that_are_no_character_are_shown_as_replaced() -> None:
    backend = SuiteLM(opened_ngram(), EngineOptions())
    assert answer(backend, b"a\xff", "length") == "a\ufffd"
    assert answer(backend, b"\xe6\x97a", "end") == "\ufffda"
    assert answer(backend, "\ufffd".encode(), "end") == "\ufffd"


def test_reasoning_cut_off_by_a_token_leaves_no_half_character() -> None:
    backend = SuiteLM(opened_ngram(), EngineOptions(strip_reasoning=ord("#")))
    assert answer(backend, b"why#" + "日".encode()[:2], "length") == ""
    assert answer(backend, b"why#b" + "日".encode()[:2], "length") == "b"


def test_two_models_over_bytes_share_one_vocabulary(tmp_path: Path) -> None:
    names = []
    for name, own in (("ngram", opened_ngram("gemma3")), ("plain", opened_plain())):
        own.member.model.save_pretrained(tmp_path / name)
        own.text.hf.save_pretrained(tmp_path / name)
        names.append({"name": name, "source": {"path": str(tmp_path / name)}, "device": "cpu"})
    file = tmp_path / "both.yaml"
    file.write_text(yaml.safe_dump({"members": names, "combine": "mean_probs"}))
    backend = SuiteEnsembleLM(path=str(file))
    found = log_probs(backend.loglikelihood(pairs([("The quick", " "), ("日", "\n")])))
    members = [opened_ngram("gemma3"), opened_plain()]
    for (context, byte), mixed in zip([("The quick", " "), ("日", "\n")], found, strict=True):
        scores = torch.tensor([plain_score(own, context, byte) for own in members])
        assert mixed == pytest.approx(float(scores.exp().mean().log()), abs=1e-4)
    (text,) = backend.generate_until(prompts(["The quick"], max_gen_toks=3, until=[]))
    assert len(text.encode()) <= 13
    assert backend.get_model_info()["bytes_per_token_of_limit"] == 4.3


def test_the_papers_window_is_as_many_bytes_within_what_the_model_reads() -> None:
    assert opened_ngram(protocol="paper").member.max_length == 512
    model, new = ngram_model(dtype=torch.float32)
    model.config.max_position_embeddings = 20_000
    loaded = LoadedModel(model, new.hf)
    assert open_model(loaded, name="it", protocol="paper").member.max_length == 8807
    assert open_model(loaded, name="it").member.max_length == 20_000
