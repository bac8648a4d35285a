"""Several processes give the table of one: shared items of each pair, and pairs side by side."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from suite.models.manifest import write_manifest
from suite.models.tiny import write_tiny_model
from suite.pipelines.recipe import load_recipe
from suite.pipelines.run_benchmark import RunOptions, run_benchmark

SHARED, FAILING = ("suite_arithmetic_choice", "suite_arithmetic"), "own_fails"
TASK = """
task: own_fails
dataset_path: json
dataset_kwargs: {data_files: {test: items.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{text}}"
doc_to_choice: [a, b]
doc_to_target: 0
process_results: !function own.process_results
metric_list: [{metric: acc}]
"""
FAILS_ON_SECOND_RANK = """
import os

def process_results(doc, results):
    if os.environ.get("RANK") == "1":
        raise ValueError("item without gold")
    return {"acc": 1.0}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny models and an ensemble of them, on five items of two tasks; a third fails."""
    folder = tmp_path_factory.mktemp("recipe")
    for seed, name in enumerate("ab"):
        (folder / name).mkdir()
        write_manifest(folder / name, write_tiny_model(folder / name, seed=seed))
    (folder / "own.py").write_text(FAILS_ON_SECOND_RANK, encoding="utf-8")
    (folder / "items.jsonl").write_text('{"text": "a"}\n' * 4, encoding="utf-8")
    (folder / "own_fails.yaml").write_text(TASK, encoding="utf-8")
    fit = {"fit": {"items": 3}}
    data = {
        "title": "Shared",
        "models": [
            {"name": "a", "source": {"path": "a"}},
            {"name": "b", "source": {"path": "b"}, "tasks": list(SHARED)},
            {
                "name": "both",
                "ensemble": {"members": ["a", "b"], "combine": "mean_probs", "weights": fit},
                "tasks": list(SHARED),
            },
        ],
        "tasks": [
            SHARED[0],
            FAILING,
            {"task": SHARED[1], "generation": {"max_gen_toks": 3}},
        ],
        "task_folders": ["."],
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
    """By model and task, of the tasks that can be scored."""
    with (output / "table.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] in SHARED]
    return {(row["model"], row["label"]): float(row["value"]) for row in rows}


def start(*command: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
    )


def test_two_processes_give_the_table_of_one_and_what_one_cannot_score_fails_on_both(
    recipe: Path, alone: dict[tuple[str, str], float], tmp_path: Path
) -> None:
    # As torchrun and accelerate start them.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    arguments = ("suite", "run-benchmark", str(recipe), "--output", str(tmp_path))
    ranks = ({"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"} for rank in "01")
    processes = [start(*arguments, **place, **rank) for rank in ranks]
    (shown, told), silent = (process.communicate(timeout=300) for process in processes)
    assert [process.returncode for process in processes] == [1, 0], shown + told
    assert "error: 1 of 7 pairs failed; the notes under the table say why" in told
    assert f"a · {FAILING}: failed: item without gold" in told
    assert scores(tmp_path) == pytest.approx(alone)
    assert len(list(tmp_path.glob("*/results_*.json"))) == 6
    assert "Shared" in shown
    assert silent == ("", "")


@pytest.mark.slow
def test_pairs_side_by_side_give_the_table_of_one_after_another(
    recipe: Path, alone: dict[tuple[str, str], float], tmp_path: Path
) -> None:
    process = start("suite", "run-benchmark", str(recipe), "--output", str(tmp_path), "--jobs", "2")
    shown, told = process.communicate(timeout=300)
    assert process.returncode == 0, shown + told
    assert scores(tmp_path) == alone
    assert len(list(tmp_path.glob("*/results_*.json"))) == 7
    assert not (tmp_path / ".claims").exists()
