"""A training run watched by a real process that is killed: no pair is scored twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from suite.models.manifest import write_manifest
from suite.track.series import Store

TASKS = ["suite_spell", "suite_reverse", "suite_arithmetic_choice", "suite_bits_per_byte"]


def write_checkpoint(tiny_model: Path, run: Path, step: int) -> None:
    """As training leaves it: the model in `model/`, the state, and a manifest of all files."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    shutil.copytree(tiny_model, folder / "model")
    (folder / "model" / "manifest.json").unlink()
    weights = load_file(folder / "model" / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * (1 + step / 100)
    save_file(weights, folder / "model" / "model.safetensors", metadata={"format": "pt"})
    (folder / "state.json").write_text("{}")
    write_manifest(folder, {"kind": "checkpoint"})


def start(here: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "suite", "track", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=here, env=environment, stdout=quiet, stderr=quiet)


def results(here: Path) -> dict[str, int]:
    found = here.glob("reports/track-s/step-*/*/results_*.json")
    return {str(path.relative_to(here)): path.stat().st_mtime_ns for path in found}


def pairs(here: Path) -> list[tuple[str, str]]:
    """Model and task of every evaluation that was ever finished."""
    facts = [
        json.loads((here / name).read_text(encoding="utf-8"))["suite"] for name in results(here)
    ]
    return sorted((fact["model"], fact["label"]) for fact in facts)


def wait_for(here: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while len(results(here)) < count:
        assert time.monotonic() < deadline, "no results in four minutes"
        assert process.poll() is None, "the process ended before it could be killed"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_watch_goes_on_and_scores_no_pair_twice(tiny_model: Path, tmp_path: Path) -> None:
    for step in (10, 20):
        write_checkpoint(tiny_model, tmp_path / "run", step)
    recipe = {
        "title": "Watched",
        "models": [{"name": "a", "source": {"random": "tiny"}, "device": "cpu"}],
        "tasks": TASKS,
        "limit": 60,
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    arguments = ("watch", "run", "--recipe", "mine.yaml", "--series", "s", "--once")
    for count in (1, 5):
        process = start(tmp_path, *arguments)
        wait_for(tmp_path, count, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        assert len(results(tmp_path)) < 2 * len(TASKS)
    finished = results(tmp_path)

    assert start(tmp_path, *arguments).wait(300) == 0
    assert finished.items() <= results(tmp_path).items()
    assert pairs(tmp_path) == sorted((f"run-step-{s}", task) for s in (10, 20) for task in TASKS)
    store = Store(tmp_path / "track")
    assert [entry.step for entry in store.entries("s")] == [10, 20]

    # From here on the second checkpoint is gated against the first, in a runner without the store.
    first = "reports/track-s/step-00000010"
    assert start(tmp_path, "pin", first, "--series", "s", "--export", "ref.json").wait(60) == 0
    second = "reports/track-s/step-00000020"
    gate = ("check", "s", second, "--reference", "ref.json", "--look", "1", "--json", "alone.json")
    code = start(tmp_path, *gate, "--store", "nowhere").wait(60)
    assert start(tmp_path, "check", "s", "--json", "stored.json").wait(60) == code
    told = [json.loads((tmp_path / f"{n}.json").read_text()) for n in ("alone", "stored")]
    assert told[0]["tasks"] == told[1]["tasks"]
    assert not (tmp_path / "nowhere").exists()
