"""Bad input on the command line: the exact line a user reads, and the exit code."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from suite.cli.main import main
from suite.errors import ConfigError
from suite.harness.tasks import TaskCatalog, TaskConfig
from suite.pipelines import recipe as recipe_module
from suite.pipelines.recipe import packaged_recipes

FAILED, USAGE, INTERRUPTED = 1, 2, 75

TASK = """\
task: capitals
dataset_path: json
dataset_kwargs: {data_files: {test: capitals.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: [Rome, Paris]
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}]
metadata: {version: 1}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder; a run also changes what SIGTERM does, which is put back."""
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def recipe(here: Path) -> Path:
    """A recipe that can be run: the tiny random model on one task with two items."""
    (here / "tasks").mkdir()
    (here / "tasks" / "capitals.yaml").write_text(TASK)
    items = [{"question": "Capital of Italy?", "answer": 0}] * 2
    lines = "".join(json.dumps(item) + "\n" for item in items)
    (here / "tasks" / "capitals.jsonl").write_text(lines)
    file = here / "mine.yaml"
    file.write_text(
        "title: Mine\nmodels: [{name: a, source: {random: tiny}, device: cpu}]\n"
        "tasks: [capitals]\ntask_folders: [tasks]\n"
    )
    return file


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["run-benchmark", *map(str, arguments)])


def assert_refused(result: Result, line: str, *, code: int = USAGE) -> None:
    assert result.stderr == f"error: {line}\n"
    assert result.exit_code == code


def test_a_dry_run_of_a_good_recipe_succeeds(recipe: Path) -> None:
    result = call(recipe, "--dry-run")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "capitals" in result.stdout


def test_an_unknown_recipe() -> None:
    known = ", ".join(packaged_recipes())
    assert_refused(
        call("mine.yaml"),
        f"no recipe 'mine.yaml': neither a file nor a packaged recipe; known: {known}",
    )


def test_an_unknown_key_in_a_recipe(recipe: Path) -> None:
    recipe.write_text(recipe.read_text() + "seeds: {torhc: 1}\n")
    assert_refused(
        call(recipe),
        f"{recipe}: unknown key 'torhc' in seeds; accepted keys: fewshot, numpy, random, torch",
    )


@pytest.mark.parametrize("limit", ["-1", "0"])
def test_a_limit_below_one(recipe: Path, limit: str) -> None:
    assert_refused(call(recipe, "--limit", limit), f"--limit is {limit}, expected at least 1")


def test_the_limit_of_a_call_wins_over_one_of_a_task(recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("[capitals]", "[{task: capitals, limit: 77}]"))
    assert "at most 77" in call(recipe, "--dry-run").stdout
    assert "at most 2" in call(recipe, "--dry-run", "--limit", "2").stdout


def test_a_recipe_together_with_a_model(recipe: Path) -> None:
    assert_refused(
        call(recipe, "--model", "random:tiny"), "give a RECIPE or --model and --task, not both"
    )


def test_a_model_without_a_task() -> None:
    assert_refused(
        call("--model", "random:tiny"),
        "give a RECIPE, or at least one --model and one --task (--task missing)",
    )


def test_nothing_at_all() -> None:
    assert_refused(
        call(), "give a RECIPE, or at least one --model and one --task (--model missing)"
    )


def test_a_model_in_no_known_form() -> None:
    assert_refused(
        call("--model", "org/name", "--task", "t"),
        "--model org/name: expected one of hub:..., path:..., gguf:..., package:..., random:...",
    )


def test_a_model_folder_that_does_not_exist(here: Path) -> None:
    assert_refused(
        call("--model", "path:absent", "--task", "suite_arithmetic", "--dry-run"),
        f"model 'absent': {here / 'absent'} does not exist;"
        " give a folder written by save_pretrained",
    )


def test_an_output_folder_that_cannot_be_written(recipe: Path) -> None:
    folder = recipe / "below"
    assert_refused(
        call(recipe, "--output", folder),
        f"cannot write to {folder} (Not a directory); give another --output",
    )


def test_an_output_folder_that_is_a_file(recipe: Path) -> None:
    assert_refused(
        call(recipe, "--output", recipe),
        f"cannot write to {recipe} (File exists); give another --output",
    )


def test_a_missing_data_file_of_a_task_definition(recipe: Path) -> None:
    data = recipe.parent / "tasks" / "capitals.jsonl"
    data.unlink()
    assert_refused(call(recipe, "--dry-run"), f"task 'capitals': data file {data} does not exist")


def test_a_missing_data_file_of_a_recipe(recipe: Path) -> None:
    recipe.write_text(
        recipe.read_text().replace(
            "[capitals]", "[{task: capitals, name: mine, data: {test: absent.jsonl}}]"
        )
    )
    data = recipe.parent / "absent.jsonl"
    assert_refused(call(recipe, "--dry-run"), f"task 'mine': data file {data} does not exist")


def test_a_split_that_the_task_does_not_read(recipe: Path) -> None:
    recipe.write_text(
        recipe.read_text().replace(
            "[capitals]", "[{task: capitals, data: {validation: tasks/capitals.jsonl}}]"
        )
    )
    assert_refused(
        call(recipe, "--dry-run"),
        "task 'capitals': data names split validation; the task reads test",
    )


def test_a_task_that_executes_code_without_leave(recipe: Path) -> None:
    task = recipe.parent / "tasks" / "capitals.yaml"
    task.write_text(TASK + "unsafe_code: true\n")
    assert_refused(
        call(recipe, "--dry-run"),
        "task 'capitals' executes code that the model writes; run it in a sandbox and give"
        " --confirm-unsafe-code",
    )
    assert call(recipe, "--dry-run", "--confirm-unsafe-code").exit_code == 0


def test_names_of_upstream_tasks_are_checked() -> None:
    """One test, because lm-eval's own index takes seconds to build."""
    catalog = TaskCatalog()
    with pytest.raises(ConfigError) as unknown:
        catalog.plan(TaskConfig(task="gsm8kk"))
    assert str(unknown.value).startswith("unknown task 'gsm8kk'; did you mean 'gsm8k' or ")

    with pytest.raises(ConfigError) as nothing_near:
        catalog.plan(TaskConfig(task="qqqqqqqqqqqqqqqq"))
    count = len(catalog.manager_for("gsm8k").task_index)
    assert str(nothing_near.value) == (
        f"unknown task 'qqqqqqqqqqqqqqqq'; none of the {count} known names is close to it"
    )

    with pytest.raises(ConfigError) as unsafe:
        catalog.plan(TaskConfig(task="humaneval"))
    assert str(unsafe.value) == (
        "task 'humaneval' executes code that the model writes; run it in a sandbox and give"
        " --confirm-unsafe-code"
    )


def test_a_broken_model_fails_its_row_and_the_exit_code(recipe: Path, tiny_model: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, recipe.parent / "broken"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    recipe.write_text(
        recipe.read_text().replace(
            "models: [", "models: [{name: broken, source: {path: broken}, device: cpu}, "
        )
    )
    result = call(recipe, "--output", "out")

    last = "error: 1 of 2 pairs failed; the notes under the table say why"
    assert result.stderr.splitlines()[-1] == last
    assert result.exit_code == FAILED
    cells = json.loads((recipe.parent / "out" / "results.json").read_text())["table"]["rows"]
    values = {row["model"]["name"]: row["cells"][0]["value"] for row in cells}
    assert values["broken"] is None
    assert 0 <= values["a"] <= 1


def test_a_run_without_failures_ends_with_zero(recipe: Path) -> None:
    result = call(recipe, "--output", "out")
    assert result.exit_code == 0
    assert (recipe.parent / "out" / "table.md").is_file()


@pytest.mark.parametrize(
    "arguments", [["--device", "tpu"], ["--limit", "many"], ["--lmit", "3"]], ids=" ".join
)
def test_a_wrong_option_ends_with_the_code_for_usage(recipe: Path, arguments: list[str]) -> None:
    result = call(recipe, *arguments)
    assert result.exit_code == USAGE
    assert arguments[0] in result.stderr


@pytest.mark.parametrize(("kind", "key"), [("benchmark", "tasks"), ("ensemble", "combine")])
def test_the_schemas_of_both_kinds_of_file_are_printed(kind: str, key: str) -> None:
    printed = json.loads(CliRunner().invoke(main, ["schema", kind]).stdout)
    assert key in printed["properties"]


def test_an_interrupt_has_a_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe_module, "load_recipe", interrupt)
    result = call("smoke")
    assert result.stderr == "interrupted; the same command goes on where it stopped\n"
    assert result.exit_code == INTERRUPTED
