"""Fitted weights follow from development items alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from suite.harness.tasks import packaged_tasks
from suite.models.manifest import write_manifest
from suite.models.tiny import write_tiny_model
from suite.pipelines.recipe import Recipe
from suite.pipelines.run_benchmark import RunOptions, run_benchmark

TASK = "suite_arithmetic_choice"
RULES = ("mean_probs", "mean_log_probs")


def test_other_labels_of_test_items_change_no_fitted_weights(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for seed, folder in enumerate(folders):
        write_manifest(folder, write_tiny_model(folder, seed=seed))
    data = packaged_tasks() / "data" / TASK
    items = [json.loads(line) for line in (data / "test.jsonl").read_text("utf-8").splitlines()[:2]]
    found: list[dict[str, Any]] = []
    labels = []
    for turn in range(2):
        # Every item gets another of its choices as the right one.
        changed = [item | {"gold": (item["gold"] + turn) % 4} for item in items]
        labels.append([item["gold"] for item in changed])
        test = tmp_path / f"test{turn}.jsonl"
        test.write_text("".join(json.dumps(item) + "\n" for item in changed), "utf-8")
        output = tmp_path / f"out{turn}"
        run = run_benchmark(recipe(folders, data / "train.jsonl", test), RunOptions(output))
        assert run.failures == ()
        found.append({rule: fitted_weights(output / rule) for rule in RULES})
    assert labels[0] != labels[1]
    for rule in RULES:
        assert found[0][rule] == pytest.approx(found[1][rule], abs=1e-12)
        assert found[0][rule] != [0.5, 0.5]


def recipe(folders: list[Path], train: Path, test: Path) -> Recipe:
    members = [{"name": f.name, "source": {"path": f}, "dtype": "float32"} for f in folders]
    weights = {"fit": {"items": 4}}
    ensembles = [
        {"name": rule, "ensemble": {"members": members, "combine": rule, "weights": weights}}
        for rule in RULES
    ]
    task = {"task": TASK, "data": {"train": train, "test": test}}
    return Recipe.model_validate({"title": "T", "models": ensembles, "tasks": [task]})


def fitted_weights(folder: Path) -> list[float]:
    [path] = folder.glob("results_*.json")
    weights: list[float] = json.loads(path.read_text("utf-8"))["suite"]["ensemble_weights"]
    return weights
