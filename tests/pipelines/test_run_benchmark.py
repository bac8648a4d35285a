"""The main job on a tiny model: files, resumption, failures that stay in their cell."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

from suite.pipelines import run_benchmark as run_module
from suite.pipelines.recipe import Recipe, load_recipe
from suite.pipelines.run_benchmark import RunOptions, run_benchmark
from suite.records import Failure
from suite.results.importer import load_results

FILES = {"table.md", "table.tex", "table.csv", "results.json", "index.html"}


def recipe_of(*models: Path, tasks: list[Any] | None = None, **changes: Any) -> Recipe:
    entries = [{"name": folder.name, "source": {"path": folder}} for folder in models]
    data = {
        "title": "Test",
        "models": entries,
        "tasks": tasks or ["suite_arithmetic_choice", "suite_bits_per_byte"],
        "limit": 3,
    }
    return Recipe.model_validate(data | changes)


def scores(folder: Path) -> list[tuple[str, ...]]:
    """Model, column, value and error of each cell, as the CSV has them."""
    with (folder / "table.csv").open(encoding="utf-8") as file:
        return [(r["model"], r["label"], r["value"], r["stderr"]) for r in csv.DictReader(file)]


def result_files(folder: Path) -> set[tuple[str, int]]:
    return {(path.name, path.stat().st_mtime_ns) for path in folder.glob("*/results_*.json")}


def test_a_run_writes_the_five_files(tiny_model: Path, tmp_path: Path) -> None:
    result = run_benchmark(recipe_of(tiny_model), RunOptions(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} >= FILES
    assert result.failures == ()
    assert result.num_scored == 2


def test_every_score_is_lm_evals_own_aggregate(tiny_model: Path, tmp_path: Path) -> None:
    run_benchmark(recipe_of(tiny_model), RunOptions(tmp_path))
    written = {}
    for path in tmp_path.glob("*/results_*.json"):
        data = json.loads(path.read_text(encoding="utf-8"))
        written |= data["results"]
    shown = {label: float(value) for _, label, value, _ in scores(tmp_path)}
    assert shown["suite_arithmetic_choice"] == written["suite_arithmetic_choice"]["acc,none"]
    assert shown["suite_bits_per_byte"] == written["suite_bits_per_byte"]["bits_per_byte,none"]


def test_samples_and_features_lie_beside_the_results(tiny_model: Path, tmp_path: Path) -> None:
    run_benchmark(recipe_of(tiny_model), RunOptions(tmp_path))
    folder = tmp_path / tiny_model.name
    for kind in ("samples", "features"):
        [path] = folder.glob(f"{kind}_suite_arithmetic_choice_*.jsonl")
        assert len(path.read_text(encoding="utf-8").splitlines()) == 3


def test_a_repeated_call_scores_nothing_again(tiny_model: Path, tmp_path: Path) -> None:
    run_benchmark(recipe_of(tiny_model), RunOptions(tmp_path))
    before, table = result_files(tmp_path), (tmp_path / "table.md").read_text(encoding="utf-8")
    again = run_benchmark(recipe_of(tiny_model), RunOptions(tmp_path))
    assert (again.num_scored, again.num_skipped) == (0, 2)
    assert result_files(tmp_path) == before
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == table


@pytest.mark.parametrize(
    "changes",
    [{"limit": 4}, {"seeds": {"fewshot": 7}}, {"protocol": "paper"}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_changed_setting_is_another_run(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    run_benchmark(recipe_of(tiny_model), RunOptions(tmp_path))
    again = run_benchmark(recipe_of(tiny_model, **changes), RunOptions(tmp_path))
    assert again.num_scored == 2


@pytest.mark.parametrize(("backend", "num_again"), [("suite", 1), ("hf", 2)])
def test_another_batch_size_is_another_run_where_it_can_change_a_score(
    tiny_model: Path, tmp_path: Path, backend: str, num_again: int
) -> None:
    tasks = [
        "suite_bits_per_byte",
        {"task": "suite_arithmetic", "generation": {"max_gen_toks": 2}},
    ]
    for batch_size, num_scored in ((2, 2), (3, num_again)):
        entry = {"name": "m", "source": {"path": tiny_model}, "batch_size": batch_size}
        recipe = recipe_of(models=[entry], tasks=tasks, backend=backend)
        assert run_benchmark(recipe, RunOptions(tmp_path)).num_scored == num_scored


def test_changed_weights_are_another_run(tiny_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "manifest.json").unlink()
    output = tmp_path / "out"
    run_benchmark(recipe_of(model), RunOptions(output))
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * 1.5
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    assert run_benchmark(recipe_of(model), RunOptions(output)).num_scored == 2


def test_a_new_task_is_scored_alone(tiny_model: Path, tmp_path: Path) -> None:
    run_benchmark(recipe_of(tiny_model, tasks=["suite_spell"]), RunOptions(tmp_path))
    both = recipe_of(tiny_model, tasks=["suite_spell", "suite_reverse"])
    result = run_benchmark(both, RunOptions(tmp_path))
    assert (result.num_scored, result.num_skipped) == (1, 1)


def test_a_renamed_model_keeps_its_scores(tiny_model: Path, tmp_path: Path) -> None:
    run_benchmark(recipe_of(tiny_model), RunOptions(tmp_path))
    before = scores(tmp_path)
    renamed = [{"name": "other", "source": {"path": tiny_model}}]
    again = run_benchmark(recipe_of(tiny_model, models=renamed), RunOptions(tmp_path))
    assert (again.num_scored, again.num_skipped) == (0, 2)
    assert [row[1:] for row in scores(tmp_path)] == [row[1:] for row in before]
    assert {row[0] for row in scores(tmp_path)} == {"other"}


def test_two_rows_with_the_same_weights_both_have_scores(tiny_model: Path, tmp_path: Path) -> None:
    models = [{"name": name, "source": {"path": tiny_model}} for name in ("a", "b")]
    table = run_benchmark(recipe_of(tiny_model, models=models), RunOptions(tmp_path)).table
    first, second = table.rows
    assert [cell.value for cell in first.cells] == [cell.value for cell in second.cells]
    assert None not in [cell.value for cell in second.cells]


def test_one_task_can_be_shown_under_two_metrics(tiny_model: Path, tmp_path: Path) -> None:
    metrics = ("bits_per_byte", "byte_perplexity")
    tasks = [{"task": "suite_bits_per_byte", "name": m, "metric": m} for m in metrics]
    result = run_benchmark(recipe_of(tiny_model, tasks=tasks), RunOptions(tmp_path))
    bits, perplexity = result.table.rows[0].cells
    assert bits.value is not None
    assert perplexity.value == pytest.approx(2**bits.value)


def test_a_fresh_run_that_fails_does_not_show_the_old_score(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_benchmark(recipe_of(tiny_model), RunOptions(tmp_path))

    def out_of_memory(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 EB")

    monkeypatch.setattr("suite.harness.backends.HfBackend._model_call", out_of_memory)
    tasks = [{"task": "suite_arithmetic_choice", "batch_size": 3}, "suite_bits_per_byte"]
    recipe = recipe_of(tiny_model, tasks=tasks, backend="hf")
    result = run_benchmark(recipe, RunOptions(tmp_path, fresh=True))
    assert [failure.reason for failure in result.failures] == [
        "out of memory at batch_size 3; lower batch_size or max_length",
        "out of memory at batch_size 16; lower batch_size or max_length",
    ]
    assert [cell.value for cell in result.table.rows[0].cells] == [None, None]


def test_a_backend_of_lm_eval_fills_a_row(tiny_model: Path, tmp_path: Path) -> None:
    args = {"pretrained": str(tiny_model), "device": "cpu", "dtype": "float32"}
    models = [
        {"name": "ours", "source": {"path": tiny_model}, "batch_size": 2},
        {"name": "upstream", "source": {"lm_eval": {"model": "hf", "args": args}}, "batch_size": 2},
    ]
    table = run_benchmark(recipe_of(tiny_model, models=models), RunOptions(tmp_path)).table
    ours, upstream = table.rows
    assert upstream.cells[0].value == ours.cells[0].value
    assert upstream.model.weights == "as served by lm-eval's hf"


def test_fresh_scores_finished_pairs_again(tiny_model: Path, tmp_path: Path) -> None:
    run_benchmark(recipe_of(tiny_model), RunOptions(tmp_path))
    assert run_benchmark(recipe_of(tiny_model), RunOptions(tmp_path, fresh=True)).num_scored == 2


def test_a_process_that_dies_leaves_failures_and_no_old_scores(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "score_in_processes", lambda work, session: [])
    recipe = recipe_of(tiny_model)
    run_benchmark(recipe, RunOptions(tmp_path))
    result = run_benchmark(recipe, RunOptions(tmp_path, fresh=True, jobs=2))
    reason = "its process ended before it was scored; run.log may say why"
    assert [failure.reason for failure in result.failures] == [reason] * 2
    assert result.num_scored == 0
    # Without --fresh the finished pairs count.
    assert run_benchmark(recipe, RunOptions(tmp_path, jobs=2)).failures == ()


def test_pairs_of_a_model_that_cannot_be_planned_after_a_process_died_are_failures(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [Failure(tiny_model.name, "suite_bits_per_byte", "told")]
    monkeypatch.setattr(run_module, "score_in_processes", lambda work, session: told)
    broken = Path(shutil.copytree(tiny_model, tmp_path / tiny_model.name))
    (broken / "model.safetensors").unlink()
    result = run_benchmark(recipe_of(broken), RunOptions(tmp_path / "out", jobs=2))
    assert [failure.reason for failure in result.failures] == [
        "told",
        f"model '{tiny_model.name}': {broken} has no .safetensors weights; pickled weights are not"
        " loaded",
    ]


def test_a_failing_model_leaves_a_dash_with_its_reason_and_the_rest_goes_on(
    tiny_model: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(tiny_model, tmp_path / "broken")
    (broken / "manifest.json").unlink()
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})

    recipe = recipe_of(broken, tiny_model, backend="hf")
    result = run_benchmark(recipe, RunOptions(tmp_path / "out"))

    assert {failure.model for failure in result.failures} == {"broken"}
    assert result.failures[0].reason == (
        "task 'suite_arithmetic_choice': log-likelihood of item 0 is nan, not a finite number; try"
        " dtype: float32"
    )
    assert result.num_scored == 2
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "log-likelihood of item 0 is nan" in table


def test_damaged_weights_fail_their_row_with_the_files_name(
    tiny_model: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(tiny_model, tmp_path / "broken")
    content = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(content[: len(content) // 2])
    result = run_benchmark(recipe_of(broken), RunOptions(tmp_path / "out"))
    assert len(result.failures) == 2
    assert f"model 'broken': {broken / 'model.safetensors'} is damaged" in result.failures[0].reason


def test_a_failed_pair_is_tried_again_by_the_next_call(tiny_model: Path, tmp_path: Path) -> None:
    data = tmp_path / "items.jsonl"
    data.write_text("broken\n", encoding="utf-8")
    definition = {
        "task": "own_copy",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "items.jsonl"}},
        "output_type": "loglikelihood_rolling",
        "test_split": "test",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    }
    (tmp_path / "own_copy.yaml").write_text(yaml.safe_dump(definition), encoding="utf-8")
    recipe = recipe_of(tiny_model, tasks=["own_copy"], task_folders=[tmp_path])
    first = run_benchmark(recipe, RunOptions(tmp_path / "out"))
    assert "task 'own_copy': cannot be built" in first.failures[0].reason
    data.write_text('{"text": "mended"}\n', encoding="utf-8")
    second = run_benchmark(recipe, RunOptions(tmp_path / "out"))
    assert (second.failures, second.num_scored) == ((), 1)


def test_html_in_items_and_answers_is_escaped_in_the_page(tiny_model: Path, tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    item = {"question": attack, "choices": [attack, "no"], "gold": 0}
    (tmp_path / "items.jsonl").write_text(json.dumps(item) + "\n", encoding="utf-8")
    definition = {
        "task": "own_choice",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "items.jsonl"}},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{gold}}",
        "metric_list": [{"metric": "acc"}],
    }
    (tmp_path / "own_choice.yaml").write_text(yaml.safe_dump(definition), encoding="utf-8")
    recipe = recipe_of(tiny_model, tasks=["own_choice"], task_folders=[tmp_path])
    run_benchmark(recipe, RunOptions(tmp_path / "out"))
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert attack not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_second_run_into_the_same_folder_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    from suite.errors import SuiteError

    with FileLock(tmp_path / ".lock"), pytest.raises(SuiteError) as error:
        run_benchmark(recipe_of(tiny_model), RunOptions(tmp_path))
    assert str(error.value) == (
        f"another run is writing to {tmp_path}; wait for it or give another --output"
    )


def test_cut_prompts_are_counted_in_the_table(tiny_model: Path, tmp_path: Path) -> None:
    models = [{"name": "short", "source": {"path": tiny_model}, "max_length": 8}]
    recipe = recipe_of(tiny_model, models=models, tasks=["suite_arithmetic_choice"])
    run_benchmark(recipe, RunOptions(tmp_path))
    assert "cut to the context length" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_deltas_to_the_reference_row_are_shown(
    tiny_model: Path, tiny_model_bos: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(tiny_model, tiny_model_bos, reference=tiny_model.name)
    table = run_benchmark(recipe, RunOptions(tmp_path)).table
    reference, other = table.rows
    for base, cell in zip(reference.cells, other.cells, strict=True):
        assert base.value is not None
        assert cell.value is not None
        assert cell.delta == cell.value - base.value


def run_command(recipe: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "suite", "run-benchmark", str(recipe)]
    return subprocess.Popen(
        [*command, "--output", str(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for_results(output: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Until `count` pairs are finished; the process must still be running then."""
    deadline = time.monotonic() + 120
    while len(result_files(output)) < count:
        assert time.monotonic() < deadline, "no results in two minutes"
        assert process.poll() is None, "the run ended before it could be interrupted"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def long_recipe(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = {
        "title": "Interrupted",
        "models": [{"name": "tiny", "source": {"path": str(tiny_model)}}],
        "tasks": ["suite_spell", "suite_reverse", "suite_arithmetic_choice", "suite_bits_per_byte"],
        "limit": 60,
    }
    path = tmp_path_factory.mktemp("long") / "recipe.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(long_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipe gives without an interrupt."""
    output = tmp_path_factory.mktemp("whole")
    run_benchmark(load_recipe(str(long_recipe))[0], RunOptions(output))
    return output


@pytest.mark.parametrize(
    ("sent", "expected_code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 75)]
)
def test_an_interrupted_run_goes_on_and_gives_the_same_table(
    long_recipe: Path, whole: Path, tmp_path: Path, sent: signal.Signals, expected_code: int
) -> None:
    recipe, _ = load_recipe(str(long_recipe))
    process = run_command(long_recipe, tmp_path)
    wait_for_results(tmp_path, 1, process)
    process.send_signal(sent)
    assert process.wait(60) == expected_code
    finished = result_files(tmp_path)
    assert 1 <= len(finished) < len(recipe.tasks)

    assert run_benchmark(recipe, RunOptions(tmp_path)).num_skipped == len(finished)
    assert finished < result_files(tmp_path)
    assert len(load_results(tmp_path)) == len(recipe.tasks)
    assert scores(tmp_path) == scores(whole)
