"""`suite lm-eval` runs lm-eval's own command with our backends, on a machine like this one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from suite.harness.command import run_lm_eval
from suite.harness.opening import own_device


# lm-eval's command reads all of its own tasks first.
@pytest.mark.slow
def test_the_command_scores_a_packaged_task_without_further_options(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--model", "suite", "--model_args", f"path={tiny_model},dtype=float32"]
    arguments += ["--tasks", "suite_knowledge", "--limit", "2"]
    run_lm_eval([*arguments, "--output_path", str(tmp_path / "results.json")])
    assert "suite_knowledge" in capsys.readouterr().out
    [file] = tmp_path.glob("results_*.json")
    results = json.loads(file.read_text(encoding="utf-8"))
    assert "acc,none" in results["results"]["suite_knowledge"]


def test_the_device_that_lm_eval_gives_unasked_is_no_wish_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device("cuda:0") == "auto"
    assert own_device("cuda:1") == "cuda:1"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert own_device("cuda:0") == "cuda:0"
