"""Our hf backend against lm-eval's own class, on the same weights and requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from suite.harness.backends import HfBackend

PAIRS = [
    ("Question: 2+2?\nAnswer:", " four"),
    ("Question: 2+2?\nAnswer:", " five"),
    ("A context that ends in spaces  ", "and goes on"),
    ("", "no context at all"),
    ("日本語 🎉", " naïve café"),
    ("Question: 2+2?\nAnswer:", " four"),
]
PROMPTS = [("Say something:", 6), ("日本", 6), ("A longer prompt than the others, by far:", 6)]
TEXTS = ["A first document, long enough to need more than one window.\n" * 4, "short", "🎉"]


def ours(folder: Path, **options: Any) -> HfBackend:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return HfBackend(model, tokenizer, **({"batch_size": 2} | options))


def upstream(folder: Path, **options: Any) -> HFLM:
    return HFLM(
        pretrained=str(folder), dtype="float32", device="cpu", **({"batch_size": 2} | options)
    )


def likelihood_requests(pairs: list[tuple[str, str]]) -> list[Instance]:
    return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]


def generation_requests() -> list[Instance]:
    return [
        Instance("generate_until", {}, (text, {"until": ["\n"], "max_gen_toks": limit}), index)
        for index, (text, limit) in enumerate(PROMPTS)
    ]


def rolling_requests() -> list[Instance]:
    return [
        Instance("loglikelihood_rolling", {}, (text,), index) for index, text in enumerate(TEXTS)
    ]


@pytest.fixture(params=["tiny_model", "tiny_model_bos", "tiny_model_merges"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("batch_size", [1, 3])
def test_log_likelihoods_equal_upstreams_to_the_last_digit(folder: Path, batch_size: int) -> None:
    requests = likelihood_requests(PAIRS)
    mine = ours(folder, batch_size=batch_size).loglikelihood(requests)
    assert mine == upstream(folder, batch_size=batch_size).loglikelihood(requests)


def test_generations_equal_upstreams(folder: Path) -> None:
    mine = ours(folder).generate_until(generation_requests())
    assert mine == upstream(folder).generate_until(generation_requests())


def test_rolling_scores_equal_upstreams_without_begin_token(folder: Path) -> None:
    mine = ours(folder, max_length=64).loglikelihood_rolling(rolling_requests())
    theirs = upstream(folder, max_length=64, add_bos_token=False)
    assert mine == theirs.loglikelihood_rolling(rolling_requests())


def test_upstream_charges_tokenizers_with_a_begin_token_for_a_second_one(
    tiny_model_bos: Path,
) -> None:
    mine = ours(tiny_model_bos).loglikelihood_rolling(rolling_requests())
    theirs = upstream(tiny_model_bos).loglikelihood_rolling(rolling_requests())
    assert all(a != b for a, b in zip(mine, theirs, strict=True))


def test_a_token_across_the_border_is_scored_where_upstream_stops(tiny_model_merges: Path) -> None:
    requests = likelihood_requests([("t", "h")])
    with pytest.raises(AssertionError):
        upstream(tiny_model_merges).loglikelihood(requests)

    backend = ours(tiny_model_merges)
    [(log_likelihood, _)] = backend.loglikelihood(requests)

    begin, token = backend.prefix_token_id, backend.tokenizer.convert_tokens_to_ids("th")
    logits = backend.model(torch.tensor([[begin]])).logits[0, -1]
    expected = torch.log_softmax(logits, dim=-1)[token].item()
    assert log_likelihood == pytest.approx(expected, abs=1e-6)
    assert backend.num_boundary_moves == 1


def test_prompts_cut_to_the_context_length_are_counted(tiny_model: Path) -> None:
    backend = ours(tiny_model, max_length=24)
    long, short = "x" * 40, "x"
    backend.loglikelihood(likelihood_requests([(long, "y"), (short, "y"), (long, "z")]))
    assert backend.num_truncated == 2

    backend.num_truncated = 0
    options = {"until": ["\n"], "max_gen_toks": 4}
    prompts = [(long, options), (short, options)]
    backend.generate_until([Instance("generate_until", {}, p, i) for i, p in enumerate(prompts)])
    assert backend.num_truncated == 1


def test_rolling_windows_are_not_counted_as_cut(tiny_model: Path) -> None:
    backend = ours(tiny_model, max_length=16)
    backend.loglikelihood_rolling(rolling_requests())
    assert backend.num_truncated == 0


@pytest.mark.parametrize("kind", ["loglikelihood", "generate_until", "loglikelihood_rolling"])
def test_every_answer_is_reported_once(tiny_model: Path, kind: str) -> None:
    requests = {
        "loglikelihood": likelihood_requests(PAIRS),
        "generate_until": generation_requests(),
        "loglikelihood_rolling": rolling_requests(),
    }[kind]
    totals: list[int] = []
    answered: list[None] = []
    backend = ours(tiny_model)
    backend.report_to(totals.append, lambda: answered.append(None))
    getattr(backend, kind)(requests)
    assert totals == [len(requests)] == [len(answered)]


def test_the_papers_protocol_encodes_prompt_and_continuation_apart(tiny_model_merges: Path) -> None:
    backend = ours(tiny_model_merges, protocol="paper")
    encode = backend.tokenizer.encode
    context, continuation = backend._encode_pair("Answer:", " the")
    assert context == [backend.prefix_token_id, *encode("Answer:")]
    assert continuation == encode(" the")


def test_the_papers_protocol_puts_one_begin_token_even_if_the_tokenizer_adds_one(
    tiny_model_bos: Path,
) -> None:
    context, continuation = ours(tiny_model_bos, protocol="paper")._encode_pair("a", "b")
    assert len(context) == 2
    assert len(continuation) == 1


def test_the_papers_protocol_cuts_at_2048_tokens(tiny_model: Path) -> None:
    assert ours(tiny_model, protocol="paper").max_length == 2048
    assert ours(tiny_model, protocol="paper", max_length=100).max_length == 100
