"""The backend `suite` against our `hf` backend on the same weights and requests."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.model import CachingLM
from lm_requests import (
    PAIRS,
    TEXTS,
    flags,
    hugging_face,
    load,
    log_probs,
    pairs,
    prompts,
    single,
    texts,
)

from suite.engine.generation import Generated
from suite.errors import ConfigError, HarnessError
from suite.harness.contract import EngineOptions
from suite.harness.engine_backend import SuiteLM
from suite.harness.opening import open_model
from suite.models.loading import LoadedModel

PROMPTS = ["Say something:", "日本", "A longer prompt than the others, by far:", "", "x" * 30]
# Single letters behind many prompts: for some of them greedy decoding writes one.
LETTERS = [(f"Item {n}", chr(code)) for n in range(12) for code in range(32, 127)]


@pytest.fixture(params=["tiny_model", "tiny_model_bos", "tiny_model_merges"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("token_budget", [None, 1, 40])
def test_log_likelihoods_equal_those_of_the_hf_backend(
    folder: Path, token_budget: int | None
) -> None:
    scored = [pair for pair in PAIRS if pair[1]]
    mine = single(folder, EngineOptions(token_budget=token_budget)).loglikelihood(pairs(scored))
    theirs = hugging_face(folder).loglikelihood(pairs(scored))
    assert log_probs(mine) == pytest.approx(log_probs(theirs), abs=1e-4)
    assert flags(mine) == flags(theirs)


def test_greedy_flags_equal_those_of_the_hf_backend(folder: Path) -> None:
    mine = flags(single(folder).loglikelihood(pairs(LETTERS)))
    assert mine == flags(hugging_face(folder, batch_size=64).loglikelihood(pairs(LETTERS)))
    assert any(mine)


@pytest.mark.parametrize("max_length", [None, 16])
def test_rolling_scores_equal_those_of_the_hf_backend(folder: Path, max_length: int | None) -> None:
    mine = single(folder, max_length=max_length).loglikelihood_rolling(texts())
    theirs = hugging_face(folder, max_length=max_length).loglikelihood_rolling(texts())
    assert mine == pytest.approx(theirs, abs=1e-4 * len(TEXTS[0]))
    assert mine[-1] == 0.0


@pytest.mark.parametrize("batch_size", [1, 3])
def test_generations_equal_those_of_the_hf_backend(folder: Path, batch_size: int) -> None:
    asked = prompts([prompt for prompt in PROMPTS if prompt])
    mine = single(folder, EngineOptions(batch_size=batch_size)).generate_until(asked)
    assert mine == hugging_face(folder, batch_size=1).generate_until(asked)


def test_the_papers_protocol_gives_the_numbers_of_the_hf_backend(folder: Path) -> None:
    scored = [("Answer:", " the"), ("", " the"), ("A long prompt", " with an answer")]
    mine = single(folder, EngineOptions(protocol="paper"), protocol="paper")
    theirs = hugging_face(folder, protocol="paper")
    assert mine.max_length == theirs.max_length == 2048
    found = log_probs(mine.loglikelihood(pairs(scored)))
    assert found == pytest.approx(log_probs(theirs.loglikelihood(pairs(scored))), abs=1e-4)


def test_prompts_that_are_too_long_lose_their_left_end_and_are_counted(tiny_model: Path) -> None:
    mine, theirs = single(tiny_model, max_length=24), hugging_face(tiny_model, max_length=24)
    asked = pairs([("x" * 40, "y"), ("x", "y"), ("y" * 40, "zzz")])
    found = log_probs(mine.loglikelihood(asked))
    assert found == pytest.approx(log_probs(theirs.loglikelihood(asked)), abs=1e-4)
    assert mine.num_truncated == 2

    mine.reset_counts()
    asked = prompts(["x" * 40, "y"], max_gen_toks=4)
    assert mine.generate_until(asked) == theirs.generate_until(asked)
    assert mine.num_truncated == 1


def test_a_request_that_lm_eval_repeats_counts_once(tiny_model: Path) -> None:
    backend = single(tiny_model, max_length=24)
    long = pairs([("x" * 40, "y")])[0]
    assert len(backend.loglikelihood([long] * 3)) == 3
    assert backend.num_truncated == 1
    totals = backend.loglikelihood_rolling(texts(["abc"]) * 2)
    assert totals[0] == totals[1]


def test_an_empty_continuation_is_certain(tiny_model: Path) -> None:
    assert single(tiny_model).loglikelihood(pairs([("a", ""), ("", "")])) == [(0.0, True)] * 2


def test_no_requests_give_no_answers(tiny_model: Path) -> None:
    backend = single(tiny_model)
    assert backend.loglikelihood([]) == backend.generate_until([]) == []
    assert backend.loglikelihood_rolling([]) == []


def test_a_token_across_the_border_is_scored_from_its_beginning(tiny_model_merges: Path) -> None:
    backend = single(tiny_model_merges)
    [(log_likelihood, _)] = backend.loglikelihood(pairs([("t", "h")]))

    loaded = load(tiny_model_merges)
    begin, token = backend.prefix_token_id, backend.tokenizer.convert_tokens_to_ids("th")
    logits = loaded.model(torch.tensor([[begin]])).logits[0, -1]
    expected = torch.log_softmax(logits, dim=-1)[token].item()
    assert log_likelihood == pytest.approx(expected, abs=1e-6)
    assert backend.num_boundary_moves == 1


def test_continuations_of_one_text_add_up_where_tokens_end(tiny_model: Path) -> None:
    backend = single(tiny_model)
    whole, first, second = log_probs(
        backend.loglikelihood(pairs([("x", " yz ab"), ("x", " yz"), ("x yz", " ab")]))
    )
    assert whole == pytest.approx(first + second, abs=1e-4)


@pytest.mark.parametrize("kind", ["loglikelihood", "generate_until", "loglikelihood_rolling"])
def test_every_answer_is_told_once_to_progress_and_cache(tiny_model: Path, kind: str) -> None:
    asked = {
        "loglikelihood": pairs(),
        "generate_until": prompts(PROMPTS),
        "loglikelihood_rolling": texts(),
    }[kind]
    totals: list[int] = []
    answered: list[None] = []
    kept: list[Any] = []
    backend = single(tiny_model)
    backend.report_to(totals.append, lambda: answered.append(None))
    backend.cache_hook.add_partial = lambda name, args, answer: kept.append((name, args, answer))
    answers = getattr(backend, kind)(asked)
    assert totals == [len(asked)] == [len(answered)]
    wanted = [(kind, request.args, answer) for request, answer in zip(asked, answers, strict=True)]
    assert sorted(kept, key=repr) == sorted(wanted, key=repr)


def test_answers_come_back_from_lm_evals_response_cache(tiny_model: Path, tmp_path: Path) -> None:
    backend = single(tiny_model)
    kept = CachingLM(backend, str(tmp_path / "answers.db"))
    first = kept.loglikelihood(pairs())
    backend.opened = None  # type: ignore[assignment]
    assert [tuple(answer) for answer in kept.loglikelihood(pairs())] == first


def test_requests_are_grouped_by_their_settings(tiny_model: Path) -> None:
    backend = single(tiny_model)
    asked = prompts(["a", "b"], max_gen_toks=3) + prompts(["a"], max_gen_toks=5)
    alone = [backend.generate_until([request])[0] for request in asked]
    mixed = backend.generate_until([asked[0], asked[2], asked[1]])
    assert mixed == [alone[0], alone[2], alone[1]]


def test_unknown_generation_settings_are_refused_by_name(tiny_model: Path) -> None:
    with pytest.raises(ConfigError) as error:
        single(tiny_model).generate_until(prompts(["a"], num_beams=4))
    assert str(error.value) == (
        "generation settings num_beams are not known to this backend; leave them out of"
        " generation_kwargs, or choose backend: hf (known: do_sample, max_completion_tokens,"
        " max_gen_bytes, max_gen_toks, max_new_tokens, max_tokens, seed, temperature, top_k, top_p,"
        " until)"
    )


def test_a_generation_without_room_for_a_prompt_is_refused(tiny_model: Path) -> None:
    with pytest.raises(HarnessError) as error:
        single(tiny_model, name="a", max_length=24).generate_until(prompts(["a"], max_gen_toks=24))
    assert str(error.value) == (
        "max_gen_toks is 24, which leaves no room for a prompt in the 24 tokens that 'a' reads;"
        " lower max_gen_toks"
    )


def test_a_continuation_longer_than_the_context_is_refused(tiny_model: Path) -> None:
    with pytest.raises(HarnessError) as error:
        single(tiny_model, name="a", max_length=8).loglikelihood(pairs([("a", "b" * 9)]))
    assert str(error.value) == (
        "item 0 of task 'task': its continuation has 9 tokens, more than the 8 that 'a' reads;"
        " raise max_length or leave the item out"
    )


@pytest.mark.parametrize("kind", ["loglikelihood", "generate_until"])
def test_logits_that_are_not_numbers_name_member_and_item(tiny_model: Path, kind: str) -> None:
    loaded = load(tiny_model)
    spoilt = LoadedModel(copy.deepcopy(loaded.model), loaded.tokenizer)
    backend = SuiteLM(open_model(spoilt, name="a"))
    with torch.no_grad():
        # Only the token of the letter Q spoils what is read behind it.
        embedding = backend.opened.member.model.get_input_embeddings().weight
        embedding[backend.tokenizer.convert_tokens_to_ids("Q")] = float("nan")
    asked = {
        "loglikelihood": pairs([("fine", "b"), ("a Q", "b")]),
        "generate_until": prompts(["fine", "a Q"]),
    }[kind]
    with pytest.raises(HarnessError) as error:
        getattr(backend, kind)(asked)
    assert str(error.value) == (
        "member 'a': log-probabilities of item 1 of task 'task' are not numbers (NaN); try"
        " dtype: float32"
    )


def test_sampling_depends_on_the_seed_and_on_nothing_else(tiny_model: Path) -> None:
    asked = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 12, "until": []}
    one = single(tiny_model, EngineOptions(batch_size=1)).generate_until(
        prompts(PROMPTS, seed=7, **asked)
    )
    many = single(tiny_model, EngineOptions(batch_size=8)).generate_until(
        prompts(PROMPTS, seed=7, **asked)
    )
    other = single(tiny_model).generate_until(prompts(PROMPTS, seed=8, **asked))
    assert one == many
    assert one != other


def test_only_what_follows_the_reasoning_is_the_answer(tiny_model: Path) -> None:
    [whole] = single(tiny_model).generate_until(prompts(["x"], until=[], max_gen_toks=12))
    end = whole[3]
    strip = single(tiny_model, EngineOptions(strip_reasoning=end))
    # A stop string inside the reasoning ends nothing.
    found = strip.generate_until(prompts(["x"], until=[whole[0]], max_gen_toks=12))
    assert found == [whole.split(end)[-1].lstrip().split(whole[0])[0]]


def test_a_token_can_end_the_reasoning_too(tiny_model: Path) -> None:
    encode = single(tiny_model).tokenizer.encode
    [end] = encode("Q", add_special_tokens=False)
    backend = single(tiny_model, EngineOptions(strip_reasoning=end))

    def answer(text: str) -> str:
        ids = tuple(encode(text, add_special_tokens=False))
        return backend._answer(Generated(text, ids, "length"), [";"])

    assert answer("first; Q then; Q  so this; not that") == "so this"
    assert answer("no end; of it") == "no end"


def test_thinking_needs_an_end_and_fits_no_likelihoods(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="enable_thinking is on without strip_reasoning"):
        EngineOptions(enable_thinking=True)
    options = EngineOptions(enable_thinking=True, strip_reasoning="</think>")
    with pytest.raises(HarnessError) as error:
        single(tiny_model, options).loglikelihood(pairs())
    assert str(error.value) == (
        "item 0 of task 'task' asks for likelihoods, which a model that reasons first does not"
        " give; set enable_thinking: false for such tasks"
    )


def test_a_model_opens_from_lm_evals_arguments(tiny_model: Path) -> None:
    wanted = single(tiny_model).loglikelihood(pairs())
    extra = {"batch_size": "auto:4", "max_batch_size": None, "device": "cpu"}
    text = SuiteLM.create_from_arg_string(f"path={tiny_model},dtype=float32", extra)
    assert text.loglikelihood(pairs()) == wanted
    given = {"pretrained": str(tiny_model), "dtype": "float32", "max_length": 100}
    plain = SuiteLM.create_from_arg_obj(given, extra | {"batch_size": 3})
    assert (plain.batch_size, plain.max_length) == (3, 100)
    loaded = load(tiny_model)
    memory = SuiteLM(pretrained=loaded.model, tokenizer=loaded.tokenizer)
    assert memory.loglikelihood(pairs()) == wanted


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"pretrained": "a", "peft": "b"},
            "model_args: unknown key 'peft'; accepted keys: adapter, attn_implementation,"
            " batch_size, device, dtype, enable_thinking, max_batch_size, max_length, name, path,"
            " pretrained, protocol, revision, strip_reasoning, token_budget, tokenizer,"
            " trust_remote_code",
        ),
        ({}, "model_args: give either path or pretrained, a folder or a hub name"),
        (
            {"path": "a", "batch_size": "many"},
            "model_args: batch_size is 'many', expected auto or a number above 0",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        SuiteLM(**arguments)
    assert str(error.value) == sentence


def test_facts_about_the_model_go_into_the_results(tiny_model: Path) -> None:
    info = SuiteLM(path=str(tiny_model), device="cpu").get_model_info()
    assert info["name"] == tiny_model.name
    assert info["dtype"] == "float32"
    assert info["model_num_parameters"] > 0
    assert len(info["weights"]) == len(info["tokenizer"]) == 64


def test_drawn_texts_do_not_depend_on_the_other_requests(tiny_model: Path) -> None:
    backend = single(tiny_model)
    asked = prompts(PROMPTS, do_sample=True, max_gen_toks=12, until=[], seed=7)
    texts_of_all = backend.generate_until([*asked, asked[0]])
    assert backend.generate_until([asked[3], asked[0], asked[0]]) == [
        texts_of_all[3],
        texts_of_all[0],
        texts_of_all[-1],
    ]
    assert texts_of_all[0] != texts_of_all[-1]


def test_a_special_token_can_be_a_stop_string(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = single(tiny_model)
    ids = iter(backend.tokenizer.encode("ab<pad>cd", add_special_tokens=False))

    def log_probs(states: torch.Tensor) -> torch.Tensor:
        row = torch.full((1, len(backend.tokenizer)), -torch.inf)
        row[0, next(ids)] = 0
        return row

    monkeypatch.setattr(backend.opened.member, "log_probs", log_probs)
    assert backend.generate_until(prompts(["x"], until=["<pad>"], max_gen_toks=5)) == ["ab"]


def test_a_token_without_probability_names_member_and_item(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = SuiteLM(open_model(load(tiny_model), name="a"))
    member = backend.opened.member
    whole = member.log_probs
    [token] = backend.tokenizer.encode("Q", add_special_tokens=False)
    place = torch.arange(len(backend.tokenizer)) == token
    monkeypatch.setattr(
        member, "log_probs", lambda states: whole(states).masked_fill(place, -torch.inf)
    )
    with pytest.raises(HarnessError) as error:
        backend.loglikelihood(pairs([("x", "y"), ("x", ""), ("x", "yQ")]))
    assert str(error.value) == (
        "member 'a': item 2 of task 'task' has a token to which it gives probability 0; leave the"
        " item out, or try dtype: float32"
    )


def test_a_tokenizer_may_have_no_end_token(tiny_model: Path) -> None:
    loaded = load(tiny_model)
    hf = copy.deepcopy(loaded.tokenizer)
    hf.eos_token = None
    assert SuiteLM(open_model(LoadedModel(loaded.model, hf), name="a")).eot_token_id is None
