"""Task names become lm-eval tasks with their definitions unmodified."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from suite.errors import ConfigError, HarnessError
from suite.harness.backends import HfBackend
from suite.harness.definitions import read_definition
from suite.harness.protocol import Seeds
from suite.harness.run import EvaluationSettings, evaluate
from suite.harness.tasks import TaskCatalog, TaskConfig
from suite.models.entry import ChatConfig


@pytest.fixture(scope="module")
def catalog() -> TaskCatalog:
    return TaskCatalog()


def own_task(folder: Path, **keys: object) -> Path:
    """A folder with one small task of its own, its data beside it."""
    (folder / "data.jsonl").write_text(
        "".join(json.dumps({"text": f"{i}+1=", "answer": str(i + 1)}) + "\n" for i in range(5)),
        encoding="utf-8",
    )
    definition = {
        "task": "own_task",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "data.jsonl"}},
        "output_type": "generate_until",
        "test_split": "test",
        "fewshot_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "{{text}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 2, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
        "metadata": {"version": 1.0},
    } | keys
    (folder / "own_task.yaml").write_text(json.dumps(definition), encoding="utf-8")
    return folder


def test_relative_data_paths_start_at_the_definitions_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = TaskCatalog((own_task(tmp_path),))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    [task] = catalog.build(catalog.plan(TaskConfig(task="own_task")))
    assert len(task.eval_docs) == 5


def test_shots_of_a_recipe_win_even_where_the_definition_says_zero(tmp_path: Path) -> None:
    catalog = TaskCatalog((own_task(tmp_path),))
    [task] = catalog.build(catalog.plan(TaskConfig(task="own_task", num_fewshot=2)))
    assert task.get_config("num_fewshot") == 2


def test_more_shots_than_items_are_refused(tmp_path: Path) -> None:
    catalog = TaskCatalog((own_task(tmp_path),))
    with pytest.raises(HarnessError) as error:
        catalog.build(catalog.plan(TaskConfig(task="own_task", num_fewshot=6)))
    assert str(error.value) == (
        "task 'own_task': num_fewshot is 6, but there are only 5 items to take shots from"
    )


def test_generation_settings_of_a_recipe_are_laid_over_the_definitions(tmp_path: Path) -> None:
    catalog = TaskCatalog((own_task(tmp_path),))
    entry = TaskConfig(task="own_task", generation={"max_gen_toks": 7})
    [task] = catalog.build(catalog.plan(entry))
    assert task.config.generation_kwargs == {
        "until": ["\n"],
        "max_gen_toks": 7,
        "do_sample": False,
    }


def test_changed_data_is_read_again(tmp_path: Path) -> None:
    catalog = TaskCatalog((own_task(tmp_path),))
    plan = catalog.plan(TaskConfig(task="own_task"))
    assert len(catalog.build(plan)[0].eval_docs) == 5
    with (tmp_path / "data.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"text": "9+1=", "answer": "10"}) + "\n")
    assert len(catalog.build(plan)[0].eval_docs) == 6


@pytest.mark.parametrize(
    "data_files", ["data.jsonl", ["data.jsonl"], {"test": ["data.jsonl"]}], ids=str
)
def test_every_form_of_data_files_is_found(tmp_path: Path, data_files: object) -> None:
    split = "test" if isinstance(data_files, dict) else "train"
    folder = own_task(
        tmp_path,
        dataset_kwargs={"data_files": data_files},
        test_split=split,
        fewshot_split=split,
    )
    catalog = TaskCatalog((folder,))
    assert len(catalog.build(catalog.plan(TaskConfig(task="own_task")))[0].eval_docs) == 5


def test_data_of_the_hub_is_left_to_lm_eval(tmp_path: Path) -> None:
    folder = own_task(
        tmp_path,
        dataset_path="some-org/some-data",
        dataset_kwargs={"data_files": {"test": "hf://datasets/some-org/some-data/a.jsonl"}},
    )
    plan = TaskCatalog((folder,)).plan(TaskConfig(task="own_task"))
    assert plan.local_files() == []


def refused(folder: Path, message: str, **entry: object) -> None:
    with pytest.raises(ConfigError) as error:
        TaskCatalog((folder,)).plan(TaskConfig.model_validate({"task": "own_task"} | entry))
    assert str(error.value) == message


def test_an_unknown_metric_is_refused_before_anything_runs(tmp_path: Path) -> None:
    refused(
        own_task(tmp_path),
        "task 'own_task': it has no metric 'exact_mtach'; metrics: exact_match",
        metric="exact_mtach",
    )


def test_an_unknown_filter_is_refused_before_anything_runs(tmp_path: Path) -> None:
    refused(
        own_task(tmp_path),
        "task 'own_task': it has no filter 'strict'; filters: none",
        metric="exact_match,strict",
    )


def test_generation_settings_on_a_likelihood_task_are_refused(tmp_path: Path) -> None:
    refused(
        own_task(tmp_path, output_type="loglikelihood_rolling"),
        "task 'own_task': generation has no effect on loglikelihood_rolling requests; leave it out",
        generation={"max_gen_toks": 3},
    )


def test_a_tag_is_refused_with_the_tasks_it_names(tmp_path: Path) -> None:
    refused(
        own_task(tmp_path, tag="own_tag"),
        "task 'own_tag' is a tag, not a task; list its tasks: own_task",
        task="own_tag",
    )


def test_a_group_whose_members_read_relative_data_is_refused(tmp_path: Path) -> None:
    own_task(tmp_path)
    (tmp_path / "own_group.yaml").write_text("group: own_group\ntask: [own_task]\n")
    refused(
        tmp_path,
        "task 'own_group': lm-eval looks for the data of its member 'own_task' in the current"
        " folder; list the members as tasks, or give absolute paths",
        task="own_group",
    )


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    catalog = TaskCatalog((own_task(tmp_path),))
    missing = tmp_path / "gone.jsonl"
    with pytest.raises(ConfigError) as error:
        catalog.plan(TaskConfig(task="own_task", data={"test": missing}))
    assert str(error.value) == f"task 'own_task': data file {missing} does not exist"


def test_a_split_that_the_task_does_not_read_is_named(tmp_path: Path) -> None:
    catalog = TaskCatalog((own_task(tmp_path),))
    data = {"tset": tmp_path / "data.jsonl"}
    with pytest.raises(ConfigError) as error:
        catalog.plan(TaskConfig(task="own_task", data=data))
    assert str(error.value) == "task 'own_task': data names split tset; the task reads test"


def test_broken_data_is_a_harness_error_with_the_tasks_name(tmp_path: Path) -> None:
    catalog = TaskCatalog((own_task(tmp_path),))
    (tmp_path / "data.jsonl").write_text("not json\n", encoding="utf-8")
    with pytest.raises(HarnessError, match="task 'own_task': cannot be built"):
        catalog.build(catalog.plan(TaskConfig(task="own_task")))


def test_includes_are_followed(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("output_type: multiple_choice\nnum_fewshot: 3\n")
    child = tmp_path / "child.yaml"
    child.write_text("include: base.yaml\ntask: child\nnum_fewshot: 1\n")
    definition = read_definition(child)
    assert (definition.output_type, definition.num_fewshot) == ("multiple_choice", 1)


def test_a_definition_that_includes_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text("include: loop.yaml\n")
    with pytest.raises(HarnessError) as error:
        read_definition(path)
    assert str(error.value) == f"{path}: the task includes itself"


def local_upstream_tasks(data: Path) -> list[TaskConfig]:
    """Ten upstream tasks on local files: the four kinds of data that the folder holds."""
    bbh = ("boolean_expressions", "object_counting", "web_of_lies")
    blimp = (
        "anaphor_number_agreement",
        "determiner_noun_agreement_1",
        "regular_plural_subject_verb_agreement_1",
        "wh_questions_subject_gap",
    )
    gsm8k = {split: data / "gsm8k" / f"{split}.jsonl" for split in ("train", "test")}
    return [
        TaskConfig(task="gsm8k", data=gsm8k),
        *(
            TaskConfig(
                task=f"bbh_zeroshot_{name}",
                data={"test": data / "bbh" / f"{name}.json"},
                field="examples",
            )
            for name in bbh
        ),
        *(
            TaskConfig(task=f"blimp_{name}", data={"train": data / "blimp" / f"{name}.jsonl"})
            for name in blimp
        ),
        *(
            TaskConfig(
                task=f"xcopa_{language}",
                data={
                    "validation": data / "xcopa" / f"val.{language}.jsonl",
                    "test": data / "xcopa" / f"test.{language}.jsonl",
                },
            )
            for language in ("et", "sw")
        ),
    ]


def test_upstream_tasks_run_on_local_files_with_their_own_definitions(
    catalog: TaskCatalog, test_data: Path, tiny_model: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    backend = HfBackend(model, AutoTokenizer.from_pretrained(tiny_model), batch_size=4)
    settings = EvaluationSettings(2, Seeds(), ChatConfig(), "lm-eval", confirm_unsafe_code=False)
    sizes = {}
    for entry in local_upstream_tasks(test_data):
        plan = catalog.plan(entry)
        [task] = catalog.build(plan)
        assert plan.definition is not None
        upstream = plan.definition.keys
        if plan.output_type == "generate_until":
            task.set_config("generation_kwargs", {"max_gen_toks": 4}, update=True)
        kept = ("doc_to_text", "doc_to_target", "num_fewshot", "metric_list", "output_type")
        for key in kept:
            value = upstream.get(key)
            if value is not None and not str(value).startswith("!function"):
                assert task.get_config(key) == value, (entry.task, key)
        assert upstream["metadata"]["version"] == task.VERSION
        sizes[entry.task] = len(task.eval_docs)
        evaluation = evaluate(backend, [task], settings)
        assert evaluation.results["n-samples"][entry.task]["effective"] == 2
    assert sizes["gsm8k"] == 1319
    assert all(size == 250 for name, size in sizes.items() if name.startswith("bbh"))
    assert all(size == 1000 for name, size in sizes.items() if name.startswith("blimp"))
    assert all(size == 500 for name, size in sizes.items() if name.startswith("xcopa"))
