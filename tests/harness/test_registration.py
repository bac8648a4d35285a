"""Our backends under lm-eval's own names and entry points."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager
from lm_requests import single

from suite.harness.command import located_tasks, with_packaged_tasks
from suite.harness.protocol import Seeds
from suite.harness.registration import BACKENDS
from suite.harness.run import EvaluationSettings, evaluate
from suite.harness.tasks import TaskCatalog, TaskConfig
from suite.models.entry import ChatConfig


def test_our_names_lead_to_our_backends() -> None:
    for name, backend in BACKENDS.items():
        assert get_model(name) is backend


def test_simple_evaluate_takes_our_backends_by_name(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    entry = {"name": "a", "source": {"path": str(tiny_model)}, "dtype": "float32"}
    file.write_text(yaml.safe_dump({"members": [entry], "combine": "mean_probs"}))
    manager = TaskManager(include_path=str(located_tasks()), include_defaults=False)
    results = [
        simple_evaluate(
            model=name,
            model_args=arguments,
            tasks=["suite_knowledge"],
            limit=3,
            device="cpu",
            batch_size=2,
            task_manager=manager,
            bootstrap_iters=0,
        )
        for name, arguments in {
            "suite": {"path": str(tiny_model), "dtype": "float32"},
            "suite-ensemble": {"path": str(file)},
        }.items()
    ]
    plan = TaskCatalog().plan(TaskConfig(task="suite_knowledge"))
    settings = EvaluationSettings(3, Seeds(), ChatConfig(), "lm-eval", False)
    ours = evaluate(single(tiny_model), TaskCatalog().build(plan), settings)
    wanted = ours.results["results"]["suite_knowledge"]["acc,none"]
    assert [found["results"]["suite_knowledge"]["acc,none"] for found in results] == [wanted] * 2
    assert results[0]["config"]["name"] == tiny_model.name
    assert results[1]["config"]["ensemble"]["combine"] == "mean_probs"
    assert ours.results["model_source"] == "suite"
    assert ours.features["suite_knowledge"]


@pytest.mark.parametrize(
    ("given", "is_added"),
    [
        (["run", "--tasks", "suite_copy"], True),
        (["--model", "suite", "--tasks", "suite_copy"], True),
        (["ls", "tasks"], True),
        (["run", "--include_path", "mine"], False),
        (["run", "--include_path=mine"], False),
        (["--help"], False),
        ([], False),
    ],
)
def test_packaged_tasks_are_known_unless_a_folder_is_named(
    given: list[str], is_added: bool
) -> None:
    extra = ["--include_path", str(located_tasks())] if is_added else []
    assert with_packaged_tasks(given) == given + extra


def test_packaged_tasks_are_found_from_any_folder() -> None:
    for path in located_tasks().glob("*.yaml"):
        for file in yaml.safe_load(path.read_text())["dataset_kwargs"]["data_files"].values():
            assert Path(file).is_file()
