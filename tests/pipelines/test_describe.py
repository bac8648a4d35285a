"""The dry run and the estimate."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from suite.cli.main import main
from suite.pipelines.describe import UNKNOWN, PairEstimate, describe, estimate
from suite.pipelines.recipe import Recipe, load_recipe, packaged_recipes
from suite.pipelines.work import Job


def recipe_of(source: dict[str, object], tasks: list[object], **changes: object) -> Recipe:
    data = {"title": "Test", "models": [{"name": "a", "source": source}], "tasks": tasks}
    return Recipe.model_validate(data | changes)


def text_of(recipe: Recipe) -> str:
    console = Console(file=io.StringIO(), width=300)
    for table in describe(recipe):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def with_rows(*rows: dict[str, object]) -> Recipe:
    models = [{"name": name, "source": {"random": "tiny"}} for name in "ab"]
    return Recipe.model_validate(
        {"title": "Test", "models": [*models, *rows], "tasks": ["suite_arithmetic_choice"]}
    )


def ensemble(name: str, **settings: object) -> dict[str, object]:
    return {"name": name, "ensemble": {"members": ["a", "b"], **settings}}


def test_what_is_scored_to_choose_by_is_listed() -> None:
    vote = ensemble("vote", combine="majority_vote", development={"items": 3})
    lines = [line for line in text_of(with_rows(vote)).splitlines() if "3 train items" in line]
    assert len(lines) == 1
    assert "suite_arithmetic_choice, 3 train items" in lines[0]
    assert "a, b" in lines[0]


def test_a_transplant_is_as_far_as_its_parts() -> None:
    parts = {"model": {"hub": "some-org/some-model"}, "tokenizer": "random:tiny", "method": "fvt"}
    recipe = recipe_of({"transplant": parts}, ["suite_spell"])
    assert f"made of: {UNKNOWN}, local" in text_of(recipe)


def test_of_several_processes_one_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    def printed() -> str:
        arguments = ["run-benchmark", "smoke", "--dry-run"]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert "Recipe" in printed()
    monkeypatch.setenv("RANK", "1")
    assert printed() == ""


@pytest.mark.parametrize("name", ["quickstart", "ensembles", "smoke"])
def test_a_dry_run_loads_neither_torch_nor_data(name: str) -> None:
    code = f"""
import sys, datasets
datasets.load_dataset = None  # any attempt to load data fails
from suite.cli.main import main
import suite.models.packages
suite.models.packages.check_installed = lambda package: None
main(["run-benchmark", {name!r}, "--dry-run"], standalone_mode=False)
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_dry_run_of_the_papers_ensembles_lists_every_row_and_its_tasks() -> None:
    pytest.importorskip("langdetect")
    recipe, _ = load_recipe("paper-ensembles")
    text = text_of(recipe)
    assert text.count("7 of 7") == len(recipe.models) == 11
    for name in ("Gemma2-2B-IT", "Llama3.2-3B-IT"):
        assert f"hub:benjamin/{name}-with-Qwen2-Tokenizer" in text


def test_what_cannot_be_known_offline_is_said() -> None:
    assert UNKNOWN in text_of(recipe_of({"hub": "some-org/some-model"}, ["suite_spell"]))


def test_the_plan_names_requests_shots_and_items() -> None:
    tasks = [{"task": "suite_word_problems", "num_fewshot": 2}, "suite_bits_per_byte"]
    text = text_of(recipe_of({"random": "tiny"}, tasks, limit=7))
    assert "generate_until" in text
    assert "loglikelihood_rolling" in text
    assert "at most 7" in text


def test_packaged_recipes_are_the_documented_ones() -> None:
    assert packaged_recipes() == (
        "ensembles",
        "paper-ensembles",
        "paper-eval",
        "paper-receipts",
        "quickstart",
        "smoke",
    )


def test_an_estimate_covers_every_pair_and_writes_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = recipe_of({"path": tiny_model}, ["suite_spell", "suite_bits_per_byte"])
    pairs = estimate(recipe)
    assert [(pair.task, pair.num_items) for pair in pairs] == [
        ("suite_spell", 150),
        ("suite_bits_per_byte", 150),
    ]
    assert all(pair.seconds > 0 for pair in pairs)
    assert list(tmp_path.iterdir()) == []


def test_an_estimate_reads_a_task_once_for_all_rules_of_the_same_members(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores: list[object] = []
    timed: list[tuple[str, int]] = []

    def taken(opened: object, job: Job, store: object) -> None:
        stores.append(store)

    def timing(job: Job, backend: object, settings: object, built: list[Any]) -> PairEstimate:
        timed.append((built[0].config.test_split, len(built[0].eval_docs)))
        return PairEstimate(job.entry.name, job.label, 1, 1.0)

    monkeypatch.setattr("suite.pipelines.backend._Several.backend", taken)
    monkeypatch.setattr("suite.pipelines.describe._estimate", timing)
    rules = [ensemble(rule, combine=rule) for rule in ("mean_probs", "mean_log_probs")]
    best = ensemble("best", combine="best_member", development={"items": 3})
    found = [(pair.model, pair.task) for pair in estimate(with_rows(*rules, best))]
    assert len(found) == 6
    assert stores[0] is stores[1] is not None
    # Each member on the scored items, then on those it is chosen by.
    task = "suite_arithmetic_choice"
    assert found[:2] == [("a", task), ("a", f"{task}, 3 train items")]
    assert [split for split, _ in timed[:2]] == ["test", "train"]
