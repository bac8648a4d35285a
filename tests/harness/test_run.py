"""One evaluation: chat templates, protocols, numbers that are none, and the files written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.loggers import EvaluationTracker
from transformers import AutoModelForCausalLM, AutoTokenizer

from suite.errors import ConfigError, HarnessError
from suite.harness.backends import HfBackend
from suite.harness.protocol import Seeds
from suite.harness.run import (
    Evaluation,
    EvaluationSettings,
    evaluate,
    write_evaluation,
)
from suite.harness.tasks import TaskCatalog, TaskConfig
from suite.harness.upstream import open_upstream_backend
from suite.models.entry import ChatConfig

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PLAIN = EvaluationSettings(
    limit=2, seeds=Seeds(), chat=ChatConfig(), protocol="lm-eval", confirm_unsafe_code=False
)
CHAT = ChatConfig(template=True, system_prompt="Be brief.")


@pytest.fixture(scope="module")
def catalog() -> TaskCatalog:
    return TaskCatalog()


def backend_of(folder: Path, **options: Any) -> HfBackend:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    return HfBackend(model, tokenizer, **({"batch_size": 4} | options))


def run(
    backend: HfBackend, catalog: TaskCatalog, task: str, settings: EvaluationSettings
) -> Evaluation:
    generation = {"max_gen_toks": 2} if task in ("suite_arithmetic", "suite_copy") else {}
    entry = TaskConfig(task=task, num_fewshot=1, generation=generation)
    return evaluate(backend, catalog.build(catalog.plan(entry)), settings)


def prompts(evaluation: Evaluation) -> list[str]:
    return [s["arguments"][0][0] for items in evaluation.samples.values() for s in items]


def test_without_a_template_prompts_are_plain_text(tiny_model: Path, catalog: TaskCatalog) -> None:
    evaluation = run(backend_of(tiny_model), catalog, "suite_arithmetic", PLAIN)
    assert all("<user>" not in prompt for prompt in prompts(evaluation))
    assert evaluation.results["chat_template"] is None


@pytest.mark.parametrize("task", ["suite_arithmetic", "suite_knowledge"])
def test_a_template_wraps_system_prompt_and_question_in_one_turn(
    tiny_model: Path, catalog: TaskCatalog, task: str
) -> None:
    evaluation = run(backend_of(tiny_model), catalog, task, replace(PLAIN, chat=CHAT))
    for prompt in prompts(evaluation):
        assert prompt.startswith("<system>Be brief.<user>")
        assert prompt.endswith("<assistant>")
        assert prompt.count("<user>") == 1
    assert evaluation.results["chat_template"] == TEMPLATE


def test_shots_become_turns_on_request(tiny_model: Path, catalog: TaskCatalog) -> None:
    chat = CHAT.model_copy(update={"fewshot_as_multiturn": True})
    evaluation = run(backend_of(tiny_model), catalog, "suite_arithmetic", replace(PLAIN, chat=chat))
    assert all(prompt.count("<user>") == 2 for prompt in prompts(evaluation))


def test_the_papers_protocol_wraps_generation_only(tiny_model: Path, catalog: TaskCatalog) -> None:
    settings = replace(PLAIN, chat=CHAT, protocol="paper")
    backend = backend_of(tiny_model, protocol="paper")
    generated = prompts(run(backend, catalog, "suite_arithmetic", settings))
    assert all(prompt.startswith("<system>Be brief.<user>") for prompt in generated)
    scored = prompts(run(backend, catalog, "suite_knowledge", settings))
    assert all("<" not in prompt and "Be brief." not in prompt for prompt in scored)


def test_reasoning_settings_reach_lm_eval(tiny_model: Path) -> None:
    backend = backend_of(tiny_model, enable_thinking=True, strip_reasoning="</think>")
    assert backend.think_end_token == "</think>"
    assert backend.chat_template_args == {"enable_thinking": True}


def test_logits_that_are_not_numbers_end_a_generation(
    tiny_model: Path, catalog: TaskCatalog
) -> None:
    backend = backend_of(tiny_model)
    with torch.no_grad():
        backend.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(HarnessError) as error:
        run(backend, catalog, "suite_copy", PLAIN)
    assert str(error.value) == ("logits are not numbers (NaN) while generating; try dtype: float32")


def test_the_same_seed_gives_the_same_shots_and_another_seed_others(
    tiny_model: Path, catalog: TaskCatalog
) -> None:
    backend = backend_of(tiny_model)
    settings = [PLAIN, PLAIN, replace(PLAIN, seeds=Seeds(fewshot=7))]
    first, again, other = (
        prompts(run(backend, catalog, "suite_knowledge", each)) for each in settings
    )
    assert first == again
    assert first != other


def test_files_are_in_the_form_that_lm_eval_writes(
    tiny_model: Path, catalog: TaskCatalog, tmp_path: Path
) -> None:
    evaluation = run(backend_of(tiny_model), catalog, "suite_knowledge", PLAIN)
    path = write_evaluation(evaluation, tmp_path / "ours", {"num_truncated": 0})
    [ours] = (tmp_path / "ours").glob("samples_*.jsonl")

    tracker = EvaluationTracker(output_path=str(tmp_path / "theirs"))
    tracker.general_config_tracker.log_experiment_args("hf", "pretrained=tiny", "", "", False)
    samples = evaluation.samples["suite_knowledge"]
    tracker.save_results_aggregated(results=dict(evaluation.results), samples=evaluation.samples)
    tracker.save_results_samples("suite_knowledge", samples)
    [theirs] = (tmp_path / "theirs").rglob("samples_*.jsonl")
    [their_results] = (tmp_path / "theirs").rglob("results_*.json")

    assert ours.read_text(encoding="utf-8") == theirs.read_text(encoding="utf-8")
    written = json.loads(path.read_text(encoding="utf-8"))
    expected = json.loads(their_results.read_text(encoding="utf-8"))
    assert written["task_hashes"] == expected["task_hashes"]
    assert written["results"] == expected["results"]


def test_nothing_counts_as_finished_before_the_results_file(
    tiny_model: Path, catalog: TaskCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from suite.harness import run as module

    evaluation = run(backend_of(tiny_model), catalog, "suite_knowledge", PLAIN)
    write = module.write_atomically

    def full_disk(path: Path, text: str) -> None:
        if path.name.startswith("results_"):
            raise OSError(28, "No space left on device")
        write(path, text)

    monkeypatch.setattr(module, "write_atomically", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_evaluation(evaluation, tmp_path, {"num_truncated": 0})
    assert not list(tmp_path.glob("results_*.json"))


def test_no_response_or_request_cache_is_written(
    tiny_model: Path, catalog: TaskCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # lm-eval's own caches answer for another model or another seed.
    monkeypatch.setenv("LM_HARNESS_CACHE_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    evaluation = run(backend_of(tiny_model), catalog, "suite_knowledge", PLAIN)
    assert evaluation.results["config"]["use_cache"] is None
    assert list(tmp_path.iterdir()) == []


def test_arguments_of_a_backend_of_lm_eval_may_hold_commas_and_digits(
    tiny_model: Path, tmp_path: Path, catalog: TaskCatalog
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "a, b = 0012")
    backend = open_upstream_backend("hf", {"pretrained": str(folder), "device": "cpu"}, 2)
    plan = catalog.plan(TaskConfig(task="suite_knowledge"))
    evaluation = evaluate(backend, catalog.build(plan), PLAIN)
    assert evaluation.num_truncated is None
    assert len(evaluation.samples["suite_knowledge"]) == 2


def test_an_unknown_backend_of_lm_eval_is_named_with_near_names() -> None:
    with pytest.raises(ConfigError, match="lm_eval has no backend 'vlm'; did you mean 'vllm"):
        open_upstream_backend("vlm", {}, 1)
