"""Development items: another split of a task, as the task itself writes prompts and answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from suite.ensemble.config import Development
from suite.errors import HarnessError
from suite.harness.tasks import TaskCatalog, TaskConfig, TaskPlan
from suite.pipelines.development import (
    NoDevelopmentItemsError,
    check_apart,
    development_docs,
    development_view,
    fit_pairs,
)

PLAIN: dict[str, Any] = {
    "apply_chat_template": False,
    "system_instruction": None,
    "fewshot_as_multiturn": False,
}
TRAIN, THREE = Development(), Development(items=3)
SEED = 5

CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "gold",
    "metric_list": [{"metric": "acc"}],
}


def items_of(name: str, count: int) -> list[dict[str, Any]]:
    return [
        {"question": f"{name} {i}?", "choices": ["yes", "no"], "gold": i % 2} for i in range(count)
    ]


def plan_of(folder: Path, splits: dict[str, list[dict[str, Any]]], **keys: Any) -> TaskPlan:
    files = {}
    for split, items in splits.items():
        files[split] = f"{split}.jsonl"
        lines = "".join(json.dumps(item) + "\n" for item in items)
        (folder / files[split]).write_text(lines, encoding="utf-8")
    names = {"train": "training_split", "validation": "validation_split", "test": "test_split"}
    definition = {
        "task": "own",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        **{names[split]: split for split in splits},
        **CHOICE,
        **keys,
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(definition), encoding="utf-8")
    return TaskCatalog((folder,)).plan(TaskConfig(task="own"))


def view_of(folder: Path, plan: TaskPlan, development: Development) -> list[Any]:
    return development_view(TaskCatalog((folder,)).build(plan), plan, development)


def test_the_pairs_are_the_right_options_after_the_tasks_prompts(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"train": items_of("train", 5), "test": items_of("test", 2)})
    view = view_of(tmp_path, plan, THREE)
    assert fit_pairs(view, 3, SEED, PLAIN, None) == [
        ("train 0?", " yes"),
        ("train 1?", " no"),
        ("train 2?", " yes"),
    ]


def test_shots_leave_the_asked_item_out(tmp_path: Path) -> None:
    shots = {
        "num_fewshot": 2,
        "fewshot_split": "train",
        "fewshot_config": {"sampler": "first_n"},
    }
    plan = plan_of(tmp_path, {"train": items_of("train", 5), "test": items_of("test", 2)}, **shots)
    pairs = fit_pairs(view_of(tmp_path, plan, THREE), 3, SEED, PLAIN, None)
    for number, (prompt, _) in enumerate(pairs):
        assert prompt.count(f"train {number}?") == 1
        assert prompt.count("train ") == 3


def test_shots_are_drawn_with_the_seed(tmp_path: Path) -> None:
    shots = {"num_fewshot": 3, "fewshot_split": "train"}
    plan = plan_of(tmp_path, {"train": items_of("t", 30), "test": items_of("u", 2)}, **shots)
    view = view_of(tmp_path, plan, THREE)
    # A view that was asked before gives the same, and so does a new one.
    drawn = [fit_pairs(view, 3, SEED, PLAIN, None) for view in (view, view)]
    drawn.append(fit_pairs(view_of(tmp_path, plan, THREE), 3, SEED, PLAIN, None))
    assert drawn[0] == drawn[1] == drawn[2]
    assert fit_pairs(view, 3, SEED + 1, PLAIN, None) != drawn[0]


def test_answers_that_are_generated_are_fitted_as_lm_eval_writes_examples(tmp_path: Path) -> None:
    keys = {
        "output_type": "generate_until",
        "doc_to_choice": None,
        "doc_to_target": "{{choices[gold]}}",
        "metric_list": [{"metric": "exact_match"}],
    }
    plan = plan_of(tmp_path, {"train": items_of("a", 2), "test": items_of("b", 2)}, **keys)
    assert fit_pairs(view_of(tmp_path, plan, TRAIN), 100, SEED, PLAIN, None) == [
        ("a 0?", " yes"),
        ("a 1?", " no"),
    ]


def test_whole_texts_stand_behind_an_empty_prompt(tmp_path: Path) -> None:
    keys = {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_choice": None,
        "doc_to_target": "{{question}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    }
    plan = plan_of(tmp_path, {"train": items_of("a", 2), "test": items_of("b", 2)}, **keys)
    assert fit_pairs(view_of(tmp_path, plan, TRAIN), 1, SEED, PLAIN, None) == [("", "a 0?")]


def test_prompts_are_rendered_as_chats_where_the_evaluation_does_so(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"train": items_of("a", 1), "test": items_of("b", 1)})
    chat = PLAIN | {"apply_chat_template": True, "system_instruction": "S"}

    def render(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return "|".join(message["content"] for message in messages) + "|"

    assert fit_pairs(view_of(tmp_path, plan, TRAIN), 1, SEED, chat, render) == [("S|a 0?|", "yes")]


def test_a_task_without_the_split_is_named(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"test": items_of("test", 2)})
    with pytest.raises(NoDevelopmentItemsError) as error:
        view_of(tmp_path, plan, TRAIN)
    assert str(error.value) == (
        "task 'own' has no train split to take development items from; give another split, or"
        " another task, that has"
    )


def test_the_scored_split_is_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"validation": items_of("v", 2)})
    with pytest.raises(HarnessError) as error:
        view_of(tmp_path, plan, Development(split="validation"))
    assert str(error.value) == (
        "task 'own': its validation split is the one that is scored, so it cannot be the"
        " development split; give another split or task"
    )


def test_development_items_that_are_also_scored_are_counted_and_refused(tmp_path: Path) -> None:
    test = items_of("test", 3)
    plan = plan_of(tmp_path, {"train": [*items_of("train", 2), *test[1:]], "test": test})
    view, scored = view_of(tmp_path, plan, TRAIN), TaskCatalog((tmp_path,)).build(plan)
    with pytest.raises(HarnessError) as error:
        check_apart(view, scored, "own", TRAIN)
    assert str(error.value) == (
        "task 'own': 2 of the 4 development items (split train) are also scored; give another"
        " split or task"
    )
    check_apart(view, scored, "own", Development(items=2))


def test_the_first_items_are_taken(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"train": items_of("train", 5), "test": items_of("test", 2)})
    docs = development_docs(view_of(tmp_path, plan, THREE), 3)
    assert [doc["question"] for doc in docs] == ["train 0?", "train 1?", "train 2?"]
