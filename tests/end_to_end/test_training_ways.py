"""Training by the real command in other ways, with the same end: stored teachers, processes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from training_command import (
    INTERRUPTED,
    RECIPE,
    STEPS,
    finish,
    last_checkpoint,
    make_place,
    read_steps,
    start,
    steps_in_log,
    train_here,
    wait_for_step,
    write_recipe,
    write_text,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_place(tmp_path_factory.mktemp("training"))


def held_out(run: Path) -> dict[str, Any]:
    """The last held-out figures of a run."""
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry for entry in map(json.loads, lines) if entry["kind"] == "held_out"][-1]


def measured(place: Path, **changes: Any) -> dict[str, Any]:
    """A recipe with held-out text and a loss that a stored teacher serves."""
    write_text(place / "held_out.jsonl", first=500, count=20)
    return RECIPE | {
        "losses": [{"name": "alm", "binarization_temperature": 5}],
        "training": {key: v for key, v in RECIPE["training"].items() if key != "balance"},
        "evaluation": {"data": {"path": "held_out.jsonl"}, "rows": 8},
        **changes,
    }


def test_runs_with_a_live_and_a_stored_teacher_end_alike(place: Path, tmp_path: Path) -> None:
    # One epoch: a stored teacher reads all of them in the order of the first.
    write_text(place / "long.jsonl", count=160)
    text = {"data": {"path": "long.jsonl"}}
    live = write_recipe(place, measured(place, **text), "live")
    subprocess.run(
        [
            *(sys.executable, "-m", "suite", "cache-teacher", str(live)),
            *("--output", str(tmp_path / "cache")),
        ],
        check=True,
        capture_output=True,
        timeout=300,
    )
    text["teacher_cache"] = str(tmp_path / "cache")
    stored = write_recipe(place, measured(place, **text), "stored")
    found = [
        held_out(train_here(recipe, tmp_path / recipe.stem))["mean_distance"]
        for recipe in (live, stored)
    ]
    assert found[1] == pytest.approx(found[0], rel=0.01)
    steps = [
        [step["losses"]["alm"] for step in read_steps(tmp_path / name)]
        for name in ("live", "stored")
    ]
    assert steps[1] == pytest.approx(steps[0], rel=0.01)


@pytest.fixture
def start_two() -> Iterator[Callable[..., list[subprocess.Popen[str]]]]:
    """Starts two processes as torchrun does; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(recipe: Path, output: Path, *more: str) -> list[subprocess.Popen[str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        ranks = ({"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"} for rank in "01")
        own = [start(recipe, output, *more, **shared, **rank) for rank in ranks]
        started.extend(own)
        return own

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("sharding", ["ddp", "fully_shard"])
def test_two_processes_train_as_one_and_go_on_after_a_stop(
    sharding: str,
    place: Path,
    tmp_path: Path,
    start_two: Callable[..., list[subprocess.Popen[str]]],
) -> None:
    # With float32 products: bfloat16 rounds what is computed in other shapes.
    base = measured(place)
    training = base["training"] | {"autocast": "none", "sharding": sharding}
    losses = [*base["losses"], {"name": "hidden_state"}, {"name": "sft", "weight": 0.1}]
    recipe = write_recipe(place, base | {"training": training, "losses": losses}, sharding)
    run = tmp_path / "two"
    processes = start_two(recipe, run)
    wait_for_step(processes[0], run, 6)
    processes[0].send_signal(signal.SIGTERM)
    results = [finish(process) for process in processes]
    assert [code for code, _ in results] == [INTERRUPTED] * 2, results
    assert len(set(steps_in_log(run))) == len(steps_in_log(run))
    results = [finish(process) for process in start_two(recipe, run, "--resume")]
    assert [code for code, _ in results] == [0, 0], results
    assert "error" not in results[1][1]
    assert steps_in_log(run) == list(range(1, STEPS + 1))

    alone = train_here(recipe, tmp_path / "one")
    for own, other in zip(*(read_steps(folder) for folder in (run, alone)), strict=True):
        assert own["losses"] == pytest.approx(other["losses"], rel=1e-4)
    for key in ("mean_distance", "rank_correlation", "student_bits_per_byte"):
        assert held_out(run)[key] == pytest.approx(held_out(alone)[key], rel=1e-3)
    weights = [load_file(last_checkpoint(f) / "model" / "model.safetensors") for f in (run, alone)]
    assert weights[0].keys() == weights[1].keys()
    gap = sum(float((weights[0][n] - w).double().square().sum()) for n, w in weights[1].items())
    size = sum(float(w.double().square().sum()) for w in weights[1].values())
    assert (gap / size) ** 0.5 < 1e-4
