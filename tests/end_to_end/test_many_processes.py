"""Several processes give the table of one: shared items of each pair, and pairs side by side."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from suite.models.manifest import write_manifest
from suite.models.tiny import write_tiny_model
from suite.pipelines.recipe import load_recipe
from suite.pipelines.run_benchmark import RunOptions, run_benchmark


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny models and an ensemble of them, on five items of two tasks."""
    folder = tmp_path_factory.mktemp("recipe")
    for seed, name in enumerate("ab"):
        (folder / name).mkdir()
        write_manifest(folder / name, write_tiny_model(folder / name, seed=seed))
    fit = {"fit": {"items": 3}}
    data = {
        "title": "Shared",
        "models": [
            *({"name": name, "source": {"path": name}} for name in "ab"),
            {
                "name": "both",
                "ensemble": {"members": ["a", "b"], "combine": "mean_probs", "weights": fit},
            },
        ],
        "tasks": [
            "suite_arithmetic_choice",
            {"task": "suite_arithmetic", "generation": {"max_gen_toks": 3}},
        ],
        "limit": 5,
    }
    file = folder / "shared.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def alone(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], float]:
    output = tmp_path_factory.mktemp("alone")
    assert run_benchmark(load_recipe(str(recipe))[0], RunOptions(output)).failures == ()
    return scores(output)


def scores(output: Path) -> dict[tuple[str, str], float]:
    with (output / "table.csv").open(encoding="utf-8") as file:
        return {(r["model"], r["label"]): float(r["value"]) for r in csv.DictReader(file)}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_two_processes_that_share_the_items_give_the_table_of_one(
    recipe: Path, alone: dict[tuple[str, str], float], tmp_path: Path
) -> None:
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    done = run(*launcher, "suite", "run-benchmark", str(recipe), "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert scores(tmp_path) == pytest.approx(alone)
    assert len(list(tmp_path.glob("*/results_*.json"))) == 6
    # One process speaks.
    assert done.stdout.count("Shared") == 1


def test_pairs_side_by_side_give_the_table_of_one_after_another(
    recipe: Path, alone: dict[tuple[str, str], float], tmp_path: Path
) -> None:
    done = run("suite", "run-benchmark", str(recipe), "--output", str(tmp_path), "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert scores(tmp_path) == alone
    assert len(list(tmp_path.glob("*/results_*.json"))) == 6
    assert not (tmp_path / ".claims").exists()
