"""Samples of tiny random models against token by token draws in plain loops."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trained_tokenizers import opened
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from suite.config import parse_config
from suite.distill.sample_filters import last_number, same_last_number
from suite.distill.sampler import Sampler
from suite.distill.samples import SampleCounts, SamplesConfig, TeacherSamples, teacher_samples
from suite.errors import ConfigError
from suite.text.corpus import CorpusConfig, open_corpus
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer

LETTERS = "abcdefghijklmnop .\n"
PROMPTS = ("One and one is", "Der", "It was the best of times, it was", "x", "No, no:")
CHAT = opened("byte-level")


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


pytestmark = pytest.mark.usefixtures("cache_folder")


@cache
def tokenizer_of(folder: Path) -> OpenedTokenizer:
    return open_tokenizer(AutoTokenizer.from_pretrained(folder), name="tiny")


def writes_only(model: Any, tokenizer: OpenedTokenizer, allowed: str) -> Any:
    """Give next to no probability to tokens that are not among the characters, nor the end."""
    ids = {*tokenizer.encode(allowed).ids.tolist(), tokenizer.hf.eos_token_id}
    with torch.no_grad():
        # A channel that is large everywhere stands for a bias.
        model.model.embed_tokens.weight[:, 0] = 10
        model.lm_head.weight[:, 0] = -20
        model.lm_head.weight[sorted(ids), 0] = 0
    return model


@cache
def lettered(folder: Path, allowed: str = LETTERS) -> Any:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return writes_only(model, tokenizer_of(folder), allowed)


@cache
def chatting() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.3}
    config = LlamaConfig(
        vocab_size=len(CHAT.vocabulary), max_position_embeddings=512, **sizes, **heads
    )
    config.eos_token_id = CHAT.hf.eos_token_id
    return writes_only(LlamaForCausalLM(config).eval(), CHAT, LETTERS)


@cache
def twin(model: Any) -> Any:
    """The model in float64."""
    return copy.deepcopy(model).double()


def corpus(folder: Path, records: list[dict[str, Any]], **settings: Any) -> CorpusConfig:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return CorpusConfig(path=path, **{"shuffle": False} | settings)


@pytest.fixture
def plain(tmp_path: Path) -> CorpusConfig:
    return corpus(tmp_path, [{"text": text} for text in PROMPTS])


def draw(
    config: SamplesConfig, folder: Path, *, model: Any = None, **options: Any
) -> TeacherSamples:
    model = lettered(folder) if model is None else model
    settings = {"fingerprint": "weights"} | options
    return teacher_samples(config, lambda: model, tokenizer_of(folder), **settings)


def no_model() -> Any:
    raise AssertionError("no model is needed")


def records(found: TeacherSamples) -> list[dict[str, Any]]:
    assert found.corpus.path is not None
    return [json.loads(line) for line in found.corpus.path.read_text().splitlines()]


@torch.no_grad()
def by_hand(
    model: Any, tokenizer: OpenedTokenizer, prompt: list[int], number: int, config: SamplesConfig
) -> tuple[list[int], list[float]]:
    """The tokens of one sample, by whole passes in float64, and the log-probability of each."""
    random = np.random.default_rng((config.seed, number))
    special = list(tokenizer.vocabulary.special)
    ends = {tokenizer.hf.eos_token_id, *tokenizer.vocabulary.ids_with_role(5)}
    ids, log_probs = list(prompt), []
    while len(log_probs) < config.max_new_tokens:
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        own = logits.log_softmax(-1)
        warped = own / (config.temperature or 1)
        warped[[token for token in special if token not in ends]] = -torch.inf
        if config.top_k:
            warped[warped < warped.sort(descending=True).values[config.top_k - 1]] = -torch.inf
        cumulative = warped.softmax(-1).numpy().cumsum()
        token = int(np.searchsorted(cumulative / cumulative[-1], random.random(), side="right"))
        token = token if config.temperature else int(warped.argmax())
        if token in ends:
            break
        ids.append(token)
        log_probs.append(float(own[token]))
    return ids[len(prompt) :], log_probs


def text_of(tokenizer: OpenedTokenizer, ids: list[int]) -> str:
    return b"".join(tokenizer.vocabulary.token_bytes[token] for token in ids).decode()


@pytest.mark.parametrize("changes", [{}, {"temperature": 0.6, "top_k": 5}, {"temperature": 0}])
def test_a_sample_follows_from_seed_number_and_prompt(changes, tiny_model, plain):
    config = SamplesConfig(prompts=plain, num=7, max_new_tokens=12, seed=3, batch=2, **changes)
    found = draw(config, tiny_model)
    model, tokenizer = lettered(tiny_model), tokenizer_of(tiny_model)
    expected, num_cut = [], 0
    for number in range(7):
        prompt = PROMPTS[number % len(PROMPTS)]
        ids = [tokenizer.begin_id, *tokenizer.encode(prompt).ids.tolist()]
        tokens, _ = by_hand(twin(model), tokenizer, ids, number, config)
        num_cut += len(tokens) == 12
        if tokens:
            record = {"prompt": prompt, "completion": text_of(tokenizer, tokens)}
            expected.append(record)
    assert records(found) == expected
    assert len(expected) > 3
    assert found.counts == SampleCounts(
        num_drawn=7, num_kept=len(expected), num_empty=7 - len(expected), num_cut=num_cut
    )


def test_without_prompts_texts_begin_at_their_beginning(tiny_model):
    config = SamplesConfig(num=4, max_new_tokens=9, seed=1)
    found = draw(config, tiny_model)
    tokenizer = tokenizer_of(tiny_model)
    drawn = [
        by_hand(twin(lettered(tiny_model)), tokenizer, [tokenizer.begin_id], number, config)[0]
        for number in range(4)
    ]
    texts = [text_of(tokenizer, ids) for ids in drawn]
    assert records(found) == [{"text": text} for text in texts if text]
    assert len(set(texts)) > 1


def test_the_corpus_reads_what_was_written(tiny_model, plain):
    found = draw(SamplesConfig(prompts=plain, num=5, max_new_tokens=9), tiny_model)
    documents = [doc for _, doc in open_corpus(found.corpus).documents(epochs=1)]
    expected = {record["prompt"] + record["completion"] for record in records(found)}
    assert {document.text for document in documents} == expected
    assert {document.prompt_bytes for document in documents} <= {len(p) for p in PROMPTS}


def test_prompts_with_completions_are_continued_behind_their_separator(tiny_model, tmp_path):
    data = [{"q": "a b", "a": "c"}, {"q": "d", "a": "e"}]
    prompts = corpus(tmp_path, data, prompt="q", completion="a", separator="\n")
    found = draw(SamplesConfig(prompts=prompts, num=4, max_new_tokens=9, seed=2), tiny_model)
    assert {record["prompt"] for record in records(found)} == {"a b\n", "d\n"}


def test_conversations_lose_their_last_answer_and_get_the_teachers(tmp_path):
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Good day"},
        {"role": "user", "content": "How are you?"},
    ]
    answered = [*turns, {"role": "assistant", "content": "Fine"}]
    prompts = corpus(tmp_path, [{"m": turns}, {"m": answered}], messages="m")
    config = SamplesConfig(prompts=prompts, num=4, max_new_tokens=10, seed=4)
    found = teacher_samples(config, chatting, CHAT, fingerprint="weights")
    rendered = "".join(f"<|turn|>{t['role']}\n{t['content']}<|stop|>\n" for t in turns)
    ids = CHAT.encode(rendered + "<|turn|>assistant\n", parse_special=True).ids.tolist()
    expected = []
    for number in range(4):
        tokens, _ = by_hand(twin(chatting()), CHAT, [CHAT.begin_id, *ids], number, config)
        answer = {"role": "assistant", "content": text_of(CHAT, tokens)}
        expected += [{"messages": [*turns, answer]}] * bool(tokens)
    assert records(found) == expected
    documents = [doc for _, doc in open_corpus(found.corpus).documents(epochs=1)]
    assert [len(document.messages) for document in documents] == [4] * len(expected)


@pytest.mark.parametrize("batch", [1, 4])
def test_batches_change_no_sample(batch, tiny_model, plain):
    config = SamplesConfig(prompts=plain, num=9, max_new_tokens=5)
    expected = records(draw(config, tiny_model))
    assert records(draw(config.model_copy(update={"batch": batch}), tiny_model)) == expected


def test_a_larger_number_goes_on_where_a_smaller_one_ended(tiny_model, plain):
    config = SamplesConfig(prompts=plain, num=6, max_new_tokens=8)
    few = records(draw(config, tiny_model))
    assert records(draw(config.model_copy(update={"num": 9}), tiny_model))[: len(few)] == few


class KilledError(Exception):
    """Stands for a kill."""


def stopped_after(num: int) -> Callable[[int, int], None]:
    def stop(num_done: int, num_tokens: int) -> None:
        if num_done >= num:
            raise KilledError

    return stop


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_killed_run_goes_on_to_the_same_file(
    shuffle, tiny_model, plain, monkeypatch, cache_folder, tmp_path
):
    prompts = plain.model_copy(update={"shuffle": shuffle})
    config = SamplesConfig(prompts=prompts, num=10, max_new_tokens=4, batch=1, min_log_prob=-3.0)
    for num_done in (4, 8):
        with pytest.raises(KilledError):
            draw(config, tiny_model, on_progress=stopped_after(num_done))
        assert not list(cache_folder.rglob("samples.jsonl"))
    told: list[tuple[int, int]] = []
    found = draw(config, tiny_model, on_progress=lambda *now: told.append(now))
    # Eight were there.
    assert [num_done for num_done, _ in told] == [4, 8, 10]
    assert [num_tokens > 0 for _, num_tokens in told] == [False, False, True]
    assert not list(cache_folder.rglob("*.pieces"))
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "another"))
    at_once = draw(config, tiny_model)
    assert at_once.corpus.path != found.corpus.path
    assert at_once.corpus.path.read_bytes() == found.corpus.path.read_bytes()
    assert at_once.counts == found.counts


def test_what_was_written_once_is_taken_again_without_a_model(tiny_model, plain):
    config = SamplesConfig(prompts=plain, num=5, max_new_tokens=8)
    first = draw(config, tiny_model)
    tokenizer = tokenizer_of(tiny_model)
    assert teacher_samples(config, no_model, tokenizer, fingerprint="weights") == first


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"num": 4}, {"temperature": 0.5}, {"min_log_prob": -9.0}]
)
def test_other_settings_make_another_file(changes, tiny_model, plain):
    config = SamplesConfig(prompts=plain, num=5, max_new_tokens=8)
    first = draw(config, tiny_model)
    assert draw(config.model_copy(update=changes), tiny_model).corpus.path != first.corpus.path


def test_another_model_or_other_prompts_make_another_file(tiny_model, plain, tmp_path):
    config = SamplesConfig(prompts=plain, num=5, max_new_tokens=8)
    paths = {draw(config, tiny_model, fingerprint=name).corpus.path for name in ("a", "b")}
    shuffled = plain.model_copy(update={"shuffle": True})
    other = config.model_copy(update={"prompts": shuffled})
    paths.add(draw(other, tiny_model, fingerprint="a").corpus.path)
    corpus(tmp_path, [{"text": "other"}])
    paths.add(draw(config, tiny_model, fingerprint="a").corpus.path)
    assert len(paths) == 4


def test_improbable_samples_are_left_out(tiny_model, plain):
    config = SamplesConfig(prompts=plain, num=12, max_new_tokens=8, temperature=2.0)
    model, tokenizer = lettered(tiny_model), tokenizer_of(tiny_model)
    means = []
    for number in range(12):
        prompt = PROMPTS[number % len(PROMPTS)]
        ids = [tokenizer.begin_id, *tokenizer.encode(prompt).ids.tolist()]
        tokens, log_probs = by_hand(twin(model), tokenizer, ids, number, config)
        if tokens:
            text = text_of(tokenizer, tokens)
            means.append((sum(log_probs) / len(log_probs), prompt, text))
    in_order = sorted(mean for mean, _, _ in means)
    least = (in_order[len(means) // 2 - 1] + in_order[len(means) // 2]) / 2
    found = draw(config.model_copy(update={"min_log_prob": least}), tiny_model)
    kept = [{"prompt": p, "completion": text} for mean, p, text in means if mean >= least]
    assert records(found) == kept
    assert found.counts.num_improbable == len(means) - len(kept) > 0


@pytest.mark.parametrize("kind", ["completion", "messages"])
def test_the_verifier_keeps_samples_that_end_with_the_right_number(kind, tmp_path, tiny_model):
    if kind == "completion":
        tokenizer, model = tokenizer_of(tiny_model), lettered(tiny_model, "0123456789")
        data = [{"q": f"{n} and 0?", "a": f"It is 3, no, {n}."} for n in range(3)]
        prompts = corpus(tmp_path, data, prompt="q", completion="a")
    else:
        tokenizer, model = CHAT, writes_only(chatting.__wrapped__(), CHAT, "0123456789")
        data = [
            {"m": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": str(n)}]}
            for n in range(3)
        ]
        prompts = corpus(tmp_path, data, messages="m")
    config = SamplesConfig(prompts=prompts, num=60, max_new_tokens=1)
    plain = teacher_samples(config, lambda: model, tokenizer, fingerprint=kind)
    checked = config.model_copy(update={"verifier": "last_number"})
    found = teacher_samples(checked, lambda: model, tokenizer, fingerprint=kind)

    def is_right(record: dict[str, Any]) -> bool:
        if kind == "completion":
            return bool(record["completion"] == record["prompt"][0])
        return bool(record["messages"][-1]["content"] == record["messages"][0]["content"][0])

    right = [record for record in records(plain) if is_right(record)]
    assert records(found) == right
    assert 0 < len(right) < plain.counts.num_kept
    assert found.counts.num_unverified == plain.counts.num_kept - len(right)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("no number at all.", None),
        ("18", "18"),
        ("He pays $1,234.50.", "1234.5"),
        ("#### 72", "72"),
        ("so x = -3", "-3"),
        ("10-4", "4"),
        ("1, 2,3", "3"),
        ("12,3456", "3456"),
        ("a half is .5", "0.5"),
        ("2.0 apples", "2"),
        ("(7)-2", "2"),
        ("1,000,000 people", "1000000"),
    ],
)
def test_the_last_number_of_a_text(text, expected):
    assert last_number(text) == (None if expected is None else Decimal(expected))


def test_numbers_agree_however_they_are_written():
    assert same_last_number("It is 1,200.00.", "#### 1200")
    assert not same_last_number("It is 12.", "#### 1200")
    assert not same_last_number("It is 12.", "no number")
    assert not same_last_number("no number", "#### 12")
    assert not same_last_number("no number", "nor here")


def test_half_a_character_is_cut_off_at_the_limit_and_refused_before(tiny_model):
    # The first byte of a two-byte character, and a letter.
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    tokenizer = tokenizer_of(tiny_model)
    first_byte = tokenizer.vocabulary.id_of_bytes[b"\xc3"]
    model = writes_only(model, tokenizer, "a")
    with torch.no_grad():
        model.lm_head.weight[first_byte, 0] = 0
    config = SamplesConfig(num=40, max_new_tokens=2)
    found = draw(config, tiny_model, model=model)
    expected, num_empty = [], 0
    for number in range(40):
        tokens, _ = by_hand(twin(model), tokenizer, [tokenizer.begin_id], number, config)
        data = b"".join(tokenizer.vocabulary.token_bytes[token] for token in tokens)
        num_empty += not tokens
        if data in (b"a", b"aa", b"a\xc3"):
            expected.append({"text": data.decode(errors="ignore")})
    assert records(found) == expected
    assert found.counts.num_kept == len(expected) > 0
    assert found.counts.num_empty == num_empty
    assert found.counts.num_broken == 40 - len(expected) - num_empty > 0


def test_prompts_that_cannot_be_read_are_counted(tiny_model, tmp_path):
    data = [{"text": ""}, {"text": "a"}, {"text": "b" * 505}, {"text": "c"}]
    prompts = corpus(tmp_path, data)
    found = draw(SamplesConfig(prompts=prompts, num=8, max_new_tokens=8), tiny_model)
    assert found.counts.num_without_prompt == 4
    assert found.counts.num_drawn == 8
    assert {record["prompt"] for record in records(found)} == {"a", "c"}


def test_nothing_left_is_one_sentence(tiny_model, tmp_path):
    prompts = corpus(tmp_path, [{"text": ""}, {"text": "a"}, {"text": "b"}])
    config = SamplesConfig(prompts=prompts, num=6, max_new_tokens=8, min_log_prob=0.0)
    with pytest.raises(ConfigError) as error:
        draw(config, tiny_model)
    assert str(error.value) == (
        "teacher_samples: none of 6 samples is left (2 with an unusable prompt, 4 below"
        " min_log_prob; the first prompt: a prompt is empty); raise num, or loosen what they must"
        " pass"
    )


def test_a_model_that_only_ends_writes_nothing(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    model = writes_only(model, tokenizer_of(tiny_model), "")
    with pytest.raises(ConfigError) as error:
        draw(SamplesConfig(num=3), tiny_model, model=model)
    assert str(error.value) == (
        "teacher_samples: none of 3 samples is left (3 empty); raise num, or loosen what they must"
        " pass"
    )


def test_a_limit_that_leaves_no_room_is_refused(tiny_model):
    with pytest.raises(ConfigError) as error:
        draw(SamplesConfig(num=3, max_new_tokens=512), tiny_model)
    assert str(error.value) == (
        "teacher_samples: max_new_tokens is 512, which leaves no room for a prompt in the 512"
        " tokens that tiny reads; lower it"
    )


def test_conversations_need_a_template(tiny_model, tmp_path):
    prompts = corpus(tmp_path, [{"m": [{"role": "user", "content": "a"}]}], messages="m")
    tokenizer = tokenizer_of(tiny_model)
    with pytest.raises(ConfigError) as error:
        teacher_samples(SamplesConfig(prompts=prompts), no_model, tokenizer, fingerprint="weights")
    assert str(error.value) == (
        "teacher_samples: prompts has messages, but tiny has no chat template; give prompts with"
        " prompt and completion, or with text"
    )


def test_texts_from_their_beginning_need_a_begin_token(tiny_model):
    tokenizer = dataclasses.replace(tokenizer_of(tiny_model), begin_id=None)
    with pytest.raises(ConfigError) as error:
        teacher_samples(SamplesConfig(), no_model, tokenizer, fingerprint="weights")
    assert str(error.value) == (
        "teacher_samples: tiny has neither begin nor end token, which samples without a prompt"
        " begin with; give prompts"
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            {"temperature": 0},
            "it: temperature 0 without prompts writes one text num times; give prompts or a higher"
            " temperature",
        ),
        (
            {"verifier": "last_number"},
            "it: verifier last_number compares with the completions of prompts; give prompts with"
            " prompt and completion, or with messages",
        ),
        (
            {"verifier": "last_number", "prompts": {"path": "a.txt"}},
            "it: verifier last_number compares with the completions of prompts; give prompts with"
            " prompt and completion, or with messages",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(data, expected):
    with pytest.raises(ConfigError) as error:
        parse_config(SamplesConfig, data, "it")
    assert str(error.value) == expected


def test_a_model_that_writes_no_text_is_told_as_such(tiny_model, monkeypatch):
    monkeypatch.setattr(Sampler, "text_of", lambda self, sample: None)
    with pytest.raises(ConfigError) as error:
        draw(SamplesConfig(num=3, max_new_tokens=4), tiny_model)
    assert str(error.value) == (
        "teacher_samples: the model writes no text (none of 3 samples is UTF-8); give another"
        " teacher or prompts"
    )
