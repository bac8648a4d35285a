"""Tiny runs by the real command, and what they leave; shared by tests of training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from suite.models.manifest import write_manifest
from suite.models.tiny import write_tiny_model
from suite.pipelines.training import TrainingOptions, train_recipe
from suite.pipelines.training_recipe import load_training_recipe

STEPS = 24
INTERRUPTED = 75
WORDS = ("fox", "dog", "bird", "weather", "house")
RECIPE: dict[str, Any] = {
    "kind": "transfer",
    "title": "Faults",
    "model": {"name": "tiny", "source": {"path": "model"}},
    "target_tokenizer": "bytes",
    "data": {"path": "text.jsonl"},
    "pack": {"length": 64},
    "losses": [{"name": "alm", "binarization_temperature": 5}, {"name": "hidden_state"}],
    "training": {
        "steps": STEPS,
        "rows_per_step": 4,
        "rows_per_pass": 2,
        "balance": "gradmag",
        "optimiser": {"learning_rate": 1.0e-3, "warmup_steps": 5},
        "device": "cpu",
    },
    "checkpoints": {"every": 4},
}


def make_place(folder: Path) -> Path:
    """A folder with a model, text and the recipe."""
    (folder / "model").mkdir()
    made = write_tiny_model(folder / "model", merges=True, adds_begin_token=True)
    write_manifest(folder / "model", made)
    write_text(folder / "text.jsonl")
    write_recipe(folder, RECIPE)
    return folder


def write_text(
    path: Path, *, first: int = 0, count: int = 60, extra: Mapping[int, str] = {}
) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number in range(first, first + count):
            word = WORDS[number % len(WORDS)]
            text = f"In line {number} the {word} thinks of other things: it is {number**2 % 97}."
            file.write(json.dumps({"text": text + extra.get(number, "")}) + "\n")


def write_recipe(folder: Path, recipe: Mapping[str, Any], name: str = "recipe") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(dict(recipe)), encoding="utf-8")
    return path


def train_here(recipe: Path, output: Path, *, resume: bool = False) -> Path:
    """Train in this process, which has its libraries loaded already."""
    settings, name = load_training_recipe(str(recipe), None)
    options = TrainingOptions(settings, name, output, resume=resume)
    assert not train_recipe(options, console=Console(quiet=True)).was_interrupted
    return output


def own_signals() -> None:
    """A process started in the background ignores Ctrl-C otherwise."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start(
    recipe: Path,
    output: Path,
    *more: str,
    prepare: Callable[[], None] = own_signals,
    **variables: str,
) -> subprocess.Popen[str]:
    """The real command, with as many threads as this process."""
    kind = yaml.safe_load(recipe.read_text(encoding="utf-8"))["kind"]
    return subprocess.Popen(
        [sys.executable, "-m", "suite", kind, str(recipe), "--output", str(output), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())} | variables,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code, and what it said to the user."""
    _, told = process.communicate(timeout=300)
    return process.returncode, told


def error_of(told: str) -> str:
    """The only error line, and no traceback."""
    assert "Traceback" not in told, told
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    return line.removeprefix("error: ")


def steps_in_log(run: Path) -> list[int]:
    path = run / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    entries = [json.loads(line) for line in lines if line.endswith("\n")]
    return [entry["step"] for entry in entries if entry["kind"] == "step"]


def read_steps(run: Path) -> list[dict[str, Any]]:
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry for entry in map(json.loads, lines) if entry["kind"] == "step"]


def wait_for_step(process: subprocess.Popen[str], run: Path, step: int) -> None:
    deadline = time.monotonic() + 300
    while not any(done >= step for done in steps_in_log(run)):
        assert process.poll() is None, "it ended before anything could happen to it"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob("step-*"))


def last_checkpoint(run: Path) -> Path:
    return run / "checkpoints" / checkpoints(run)[-1]


def assert_ends_alike(run: Path, expected: Path) -> None:
    """The last checkpoints are the same byte for byte, and so are the figures of all steps."""
    names = ["model/model.safetensors", "optimizer.safetensors", "losses.safetensors", "state.json"]
    assert checkpoints(run)[-1] == checkpoints(expected)[-1]
    for name in names:
        own, other = last_checkpoint(run) / name, last_checkpoint(expected) / name
        assert own.is_file() == other.is_file()
        assert not own.is_file() or own.read_bytes() == other.read_bytes(), name
    logs = []
    for folder in (run, expected):
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        entries = [json.loads(line) for line in lines]
        logs.append([{k: v for k, v in one.items() if k != "seconds"} for one in entries])
    assert logs[0] == logs[1]
