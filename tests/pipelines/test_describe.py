"""The dry run and the estimate."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from suite.pipelines.describe import UNKNOWN, describe, estimate
from suite.pipelines.recipe import Recipe, load_recipe, packaged_recipes


def recipe_of(source: dict[str, object], tasks: list[object], **changes: object) -> Recipe:
    data = {"title": "Test", "models": [{"name": "a", "source": source}], "tasks": tasks}
    return Recipe.model_validate(data | changes)


def text_of(recipe: Recipe) -> str:
    console = Console(file=io.StringIO(), width=300)
    for table in describe(recipe):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


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
