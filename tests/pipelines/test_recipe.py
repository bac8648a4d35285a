"""Recipes: what is accepted, and the exact sentence for what isn't."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from suite.cli.main import run_benchmark
from suite.errors import ConfigError
from suite.models.sources import Source
from suite.pipelines.recipe import Recipe, load_recipe, packaged_recipes, quick_recipe

MODEL = "{name: a, source: {random: tiny}}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


def write(file: Path, *, models: str = f"[{MODEL}]", tasks: str = "[t]", more: str = "") -> None:
    file.write_text(f"title: Mine\nmodels: {models}\ntasks: {tasks}\n{more}\n")


def problem(file: Path) -> str:
    """What is wrong with a recipe file, without the file's name that begins the sentence."""
    with pytest.raises(ConfigError) as error:
        load_recipe(str(file))
    start = f"{file}: "
    assert str(error.value).startswith(start)
    return str(error.value).removeprefix(start)


def test_a_recipe_file_is_called_after_its_file(file: Path) -> None:
    write(file)
    recipe, name = load_recipe(str(file))
    assert (name, recipe.title, recipe.tasks[0].label) == ("mine", "Mine", "t")


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_packaged_recipe_can_be_read(name: str) -> None:
    recipe, found = load_recipe(name)
    assert found == name
    assert isinstance(recipe, Recipe)


def test_an_unknown_recipe_suggests_a_near_name() -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe("smke")
    assert str(error.value) == (
        "no recipe 'smke': neither a file nor a packaged recipe; did you mean 'smoke'?"
    )


def test_the_help_names_every_packaged_recipe() -> None:
    assert all(re.search(rf"\b{name}[,.]", run_benchmark.help) for name in packaged_recipes())


def test_a_packaged_recipe_of_another_command_says_which() -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe("bytes-tiny")
    assert str(error.value) == (
        "bytes-tiny is a recipe of suite transfer; give it to suite transfer"
    )


def test_an_unknown_recipe_without_a_near_name_lists_all() -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe("absent.yaml")
    assert str(error.value) == (
        "no recipe 'absent.yaml': neither a file nor a packaged recipe; known: "
        + ", ".join(packaged_recipes())
    )


def test_an_unknown_key_is_named_with_the_accepted_ones(file: Path) -> None:
    write(file, more="limits: 3")
    assert problem(file) == "unknown key 'limits'; accepted keys: " + ", ".join(
        sorted(Recipe.model_fields)
    )


def test_an_unknown_key_of_a_model_is_named_with_its_place(file: Path) -> None:
    write(file, models="[{name: a, source: {random: tiny}, chat: {templat: true}}]")
    assert problem(file) == (
        "unknown key 'templat' in models[0].chat; accepted keys: enable_thinking,"
        " fewshot_as_multiturn, strip_reasoning, system_prompt, template"
    )


def test_an_unknown_kind_of_source_is_named_with_the_accepted_ones(file: Path) -> None:
    write(file, models="[{name: a, source: {huggingface: org/name}}]")
    assert problem(file) == (
        "unknown key 'huggingface' in models[0].source; accepted keys: gguf, hub, lm_eval,"
        " package, path, random, transplant"
    )


def test_an_unknown_key_of_a_task_is_named_with_its_place(file: Path) -> None:
    write(file, tasks="[t, {task: u, shots: 5}]")
    assert problem(file).startswith("unknown key 'shots' in tasks[1]; accepted keys: ")


@pytest.mark.parametrize("limit", [-1, 0])
def test_a_limit_below_one_is_refused(file: Path, limit: int) -> None:
    write(file, more=f"limit: {limit}")
    assert problem(file) == f"limit is {limit}, should be greater than or equal to 1"


def test_a_limit_of_a_task_below_one_is_refused(file: Path) -> None:
    write(file, tasks="[{task: t, limit: -1}]")
    assert problem(file) == "tasks[0].limit is -1, should be greater than or equal to 1"


@pytest.mark.parametrize("key", ["models", "tasks"])
def test_an_empty_list_is_refused(file: Path, key: str) -> None:
    write(file, **{key: "[]"})
    assert problem(file) == f"{key} is [], should have at least 1 entry"


def test_two_models_of_one_name_are_refused(file: Path) -> None:
    write(file, models=f"[{MODEL}, {MODEL}]")
    assert problem(file) == (
        "models: model name 'a' is used twice; give one of them another (key name)"
    )


def test_two_tasks_of_one_name_are_refused(file: Path) -> None:
    write(file, tasks="[t, {task: t, num_fewshot: 5}]")
    assert problem(file) == (
        "tasks: task name 't' is used twice; give one of them another (key name)"
    )


def test_one_task_may_stand_twice_under_two_names(file: Path) -> None:
    write(file, tasks="[t, {task: t, name: t with shots, num_fewshot: 5}]")
    assert [task.label for task in load_recipe(str(file))[0].tasks] == ["t", "t with shots"]


def test_a_reference_must_be_one_of_the_models(file: Path) -> None:
    write(file, more="reference: b")
    assert problem(file) == "reference: no model 'b'; models: a"


def test_a_source_of_two_kinds_is_refused(file: Path) -> None:
    write(file, models="[{name: a, source: {hub: org/name, path: here}}]")
    assert problem(file) == (
        "models[0].source: expected exactly one of hub, path, gguf, package, random, lm_eval,"
        " transplant, found hub and path"
    )


def test_a_source_may_be_written_as_on_the_command_line(file: Path) -> None:
    write(file, models="[{name: a, source: 'hub:org/name'}]")
    assert load_recipe(str(file))[0].models[0].source == Source(hub="org/name")


def test_a_data_file_of_unknown_format_is_refused(file: Path) -> None:
    write(file, tasks="[{task: t, data: {test: items.xlsx}}]")
    assert problem(file) == (
        "tasks[0].data: items.xlsx has no known format;"
        " accepted endings: .csv, .json, .jsonl, .parquet, .txt"
    )


def test_an_unset_variable_in_a_data_path_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_DATA", raising=False)
    write(file, tasks="[{task: t, data: {test: '${MY_DATA}/items.jsonl'}}]")
    assert problem(file) == (
        "${MY_DATA}/items.jsonl: the environment variable MY_DATA is not set; set it first"
    )


def test_relative_paths_start_at_the_recipe_file(file: Path) -> None:
    write(
        file,
        models="[{name: a, source: {path: models/a}}, {name: b, source: {gguf: b.gguf}}]",
        tasks="[{task: t, data: {test: items.jsonl}}]",
        more="task_folders: [tasks]",
    )
    recipe, _ = load_recipe(str(file))
    assert recipe.models[0].source.path == file.parent / "models" / "a"
    assert recipe.models[1].source.gguf == file.parent / "b.gguf"
    assert recipe.tasks[0].data == {"test": file.parent / "items.jsonl"}
    assert recipe.task_folders == (file.parent / "tasks",)


def test_a_tokenizer_is_a_folder_where_there_is_one_and_else_a_hub_name(file: Path) -> None:
    (file.parent / "tokenizer").mkdir()
    write(
        file,
        models="[{name: a, source: {hub: o/n}, tokenizer: tokenizer},"
        " {name: b, source: {hub: o/n}, tokenizer: org/tokenizer}]",
    )
    first, second = load_recipe(str(file))[0].models
    assert first.tokenizer == file.parent / "tokenizer"
    assert second.tokenizer == "org/tokenizer"


def test_a_quick_question_names_models_after_the_end_of_their_source() -> None:
    recipe = quick_recipe(["hub:org/name", "random:tiny"], ["t"])
    assert [model.name for model in recipe.models] == ["name", "tiny"]


def test_models_whose_sources_end_alike_get_the_whole_source_as_name() -> None:
    recipe = quick_recipe(["hub:org/name", "hub:other/name"], ["t"])
    assert [model.name for model in recipe.models] == ["hub:org/name", "hub:other/name"]


@pytest.mark.parametrize(
    ("models", "tasks", "missing"),
    [([], ["t"], "--model"), (["random:tiny"], [], "--task"), ([], [], "--model")],
)
def test_a_quick_question_needs_a_model_and_a_task(
    models: list[str], tasks: list[str], missing: str
) -> None:
    with pytest.raises(ConfigError) as error:
        quick_recipe(models, tasks)
    assert str(error.value) == (
        f"give a RECIPE, or at least one --model and one --task ({missing} missing)"
    )


def test_a_relative_path_of_a_quick_question_starts_where_one_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert quick_recipe(["path:model"], ["t"]).models[0].source.path == tmp_path / "model"
