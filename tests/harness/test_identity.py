"""What counts as the same task: anything that decides a score changes its hash."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from suite.harness.identity import task_identity
from suite.harness.tasks import TaskCatalog, TaskConfig

CODE = "def score(items):\n    return sum(items) / len(items)\n"


def write_items(path: Path, *texts: str) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A group of one task with absolute data paths, shots, and code inside its metric list."""
    write_items(tmp_path / "test.jsonl", "a", "b")
    write_items(tmp_path / "train.jsonl", "c", "d")
    (tmp_path / "own_code.py").write_text(CODE, encoding="utf-8")
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}
    definition = {
        "task": "own_task",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "output_type": "generate_until",
        "test_split": "test",
        "fewshot_split": "train",
        "num_fewshot": 1,
        "doc_to_text": "{{text}}",
        "doc_to_target": "{{text}}",
        "generation_kwargs": {"until": ["\n"]},
    }
    metrics = (
        "metric_list:\n  - metric: exact_match\n    aggregation: !function own_code.score\n"
        "    higher_is_better: true\n"
    )
    text = yaml.safe_dump(definition) + metrics
    (tmp_path / "own_task.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "own_group.yaml").write_text("group: own_group\ntask: [own_task]\n")
    return tmp_path


def identity(folder: Path, **entry: Any) -> dict[str, Any]:
    catalog = TaskCatalog((folder,))
    return task_identity(catalog.build(catalog.plan(TaskConfig(task="own_group", **entry))))


def test_it_is_the_same_in_another_process(folder: Path) -> None:
    code = f"""
from pathlib import Path
from suite.harness.identity import task_identity
from suite.harness.tasks import TaskCatalog, TaskConfig
catalog = TaskCatalog((Path({str(folder)!r}),))
print(task_identity(catalog.build(catalog.plan(TaskConfig(task="own_group"))))["own_task"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == identity(folder)["own_task"]


def test_an_item_of_a_groups_member_changes_it(folder: Path) -> None:
    before = identity(folder)
    write_items(folder / "test.jsonl", "a", "x")
    assert identity(folder) != before


def test_a_few_shot_item_changes_it(folder: Path) -> None:
    before = identity(folder)
    write_items(folder / "train.jsonl", "c", "x")
    assert identity(folder) != before


def test_few_shot_items_are_no_part_of_a_task_without_shots(folder: Path) -> None:
    before = identity(folder, num_fewshot=0)
    write_items(folder / "train.jsonl", "c", "x")
    assert identity(folder, num_fewshot=0) == before


def test_swapped_splits_change_it(folder: Path) -> None:
    before = identity(folder)
    write_items(folder / "test.jsonl", "c", "d")
    write_items(folder / "train.jsonl", "a", "b")
    assert identity(folder) != before


def test_code_inside_the_metric_list_changes_it(folder: Path) -> None:
    code = (
        "from pathlib import Path; from suite.harness.identity import task_identity;"
        "from suite.harness.tasks import TaskCatalog, TaskConfig;"
        f"catalog = TaskCatalog((Path({str(folder)!r}),));"
        'print(task_identity(catalog.build(catalog.plan(TaskConfig(task="own_group")))))'
    )

    def in_a_fresh_process() -> str:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout

    before = in_a_fresh_process()
    (folder / "own_code.py").write_text(CODE + "# changed\n", encoding="utf-8")
    assert in_a_fresh_process() != before


@pytest.mark.parametrize(
    "entry", [{"num_fewshot": 2}, {"generation": {"max_gen_toks": 3}}], ids=str
)
def test_settings_of_the_recipe_change_it(folder: Path, entry: dict[str, Any]) -> None:
    assert identity(folder, **entry) != identity(folder)
