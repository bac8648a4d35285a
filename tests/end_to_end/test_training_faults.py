"""Training by the real command: kills, signals, full disks, damaged files, no numbers."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file, save_file

from suite.models.manifest import write_manifest
from suite.models.tiny import write_tiny_model
from suite.pipelines.training import TrainingOptions, train_recipe
from suite.pipelines.training_recipe import load_training_recipe

slow = pytest.mark.slow

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


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, text and the recipe."""
    folder = tmp_path_factory.mktemp("faults")
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


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Path:
    """The run's folder of a run that nothing happened to."""
    return train_here(place / "recipe.yaml", place / "undisturbed")


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


def test_a_killed_run_goes_on_and_ends_with_the_bytes_of_an_undisturbed_one(
    place: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(place / "recipe.yaml", run)
    wait_for_step(process, run, 6)
    process.send_signal(signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL
    assert checkpoints(run)[-1] != checkpoints(undisturbed)[-1]
    train_here(place / "recipe.yaml", run, resume=True)
    assert_ends_alike(run, undisturbed)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGUSR1, marks=slow),
        pytest.param(signal.SIGINT, marks=slow),
    ],
)
def test_a_run_that_is_told_to_stop_saves_its_step_and_ends_with_75(
    number: signal.Signals, place: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(place / "recipe.yaml", run)
    wait_for_step(process, run, 6)
    process.send_signal(number)
    code, told = finish(process)
    assert code == INTERRUPTED, told
    assert told.splitlines()[-1] == (
        "interrupted and saved; to go on: suite transfer"
        f" {place / 'recipe.yaml'} --output {run} --resume"
    )
    step = steps_in_log(run)[-1]
    assert 6 <= step < STEPS
    assert checkpoints(run)[-1] == f"step-{step:08}"
    train_here(place / "recipe.yaml", run, resume=True)
    assert_ends_alike(run, undisturbed)


@slow
@pytest.mark.parametrize("seed", range(2))
def test_kills_at_any_time_lose_at_most_the_steps_since_the_last_checkpoint(
    seed: int, place: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run, rng = tmp_path / "run", random.Random(seed)
    saved = 0
    for _ in range(3):
        process = start(place / "recipe.yaml", run, "--resume")
        wait_for_step(process, run, saved + 1)
        time.sleep(rng.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        finish(process)
        steps = steps_in_log(run)
        found = [int(name.removeprefix("step-")) for name in checkpoints(run)]
        assert max(found, default=0) >= steps[-1] - 4
        saved = max(found, default=0)
        if saved == STEPS:
            break
    code, told = finish(start(place / "recipe.yaml", run, "--resume"))
    assert code == 0, told
    assert_ends_alike(run, undisturbed)


@slow
def test_a_kill_while_models_are_loaded_leaves_nothing_in_the_way(
    place: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(place / "recipe.yaml", run)
    while not (run / "start").exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    finish(process)
    assert checkpoints(run) == []
    code, told = finish(start(place / "recipe.yaml", run))
    assert code == 0, told
    assert_ends_alike(run, undisturbed)


def limit_files(num_bytes: int) -> Callable[[], None]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))

    return limit


@slow
def test_a_full_disk_is_one_sentence_and_the_last_checkpoint_stays(
    place: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(place / "recipe.yaml", run)
    wait_for_step(process, run, 5)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == INTERRUPTED
    before = checkpoints(run)
    kept = last_checkpoint(run)
    following = (int(kept.name.removeprefix("step-")) // 4 + 1) * 4
    limit = limit_files(60_000)
    code, told = finish(start(place / "recipe.yaml", run, "--resume", prepare=limit))
    assert code == 1
    assert error_of(told) == (
        f"{run}/checkpoints/step-{following:08}: the checkpoint cannot be written (File too"
        f" large); {kept} is kept: make room or mend the folder, then give the same command again"
        " with --resume"
    )
    assert checkpoints(run) == before
    assert not list((run / "checkpoints").glob(".*"))
    train_here(place / "recipe.yaml", run, resume=True)
    assert_ends_alike(run, undisturbed)


@slow
@pytest.mark.parametrize(
    ("num_bytes", "is_cached"),
    [
        pytest.param(1_000, True, id="recipe.json"),
        pytest.param(6_000, True, id="log.jsonl"),
        pytest.param(60_000, False, id="start"),
    ],
)
def test_a_disk_too_full_for_the_other_files_is_one_sentence_too(
    num_bytes: int, is_cached: bool, place: Path, undisturbed: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(place, RECIPE | {"checkpoints": {}}, "one_checkpoint")
    cache = {} if is_cached else {"SUITE_CACHE": str(tmp_path / "cache")}
    process = start(recipe, tmp_path / "run", prepare=limit_files(num_bytes), **cache)
    code, told = finish(process)
    assert code == 1, told
    assert "File too large" in error_of(told)
    assert checkpoints(tmp_path / "run") == []


def with_a_hole(place: Path, folder: Path) -> tuple[Path, int]:
    """A student that has no number for one byte, which one document holds; the recipe for it."""
    (folder / "student").mkdir(parents=True)
    write_tiny_model(folder / "student", seed=5, adds_begin_token=True)
    weights = load_file(folder / "student" / "model.safetensors")
    tokenizer = json.loads((folder / "student" / "tokenizer.json").read_text(encoding="utf-8"))
    weights["model.embed_tokens.weight"][tokenizer["model"]["vocab"]["%"]] = torch.nan
    save_file(weights, folder / "student" / "model.safetensors", {"format": "pt"})
    document = 37
    write_text(folder / "text.jsonl", extra={document: " That is 5 %."})
    recipe = {
        "kind": "distill",
        "title": "A hole",
        "student": {"name": "student", "source": {"path": "student"}},
        "data": {"path": "text.jsonl", "shuffle": False},
        **{key: RECIPE[key] for key in ("pack", "training")},
        "losses": [{"name": "sft"}],
        "checkpoints": {"every": 2},
    }
    return write_recipe(folder, recipe), document


@slow
def test_a_loss_that_is_no_number_names_the_document_and_saves_nothing(
    place: Path, tmp_path: Path
) -> None:
    recipe, document = with_a_hole(place, tmp_path / "hole")
    run = tmp_path / "run"
    code, told = finish(start(recipe, run))
    assert code == 1
    step = steps_in_log(run)[-1]
    assert 2 <= step < STEPS
    found = error_of(told)
    assert "loss sft is not a finite number, in row " in found
    assert f"{document}" in found
    kept = checkpoints(run)
    assert kept[-1] == f"step-{step // 2 * 2:08}"
    for tensor in load_file(last_checkpoint(run) / "optimizer.safetensors").values():
        assert bool(tensor.isfinite().all())
    # What is saved goes on, and meets the same row again.
    code, told = finish(start(recipe, run, "--resume"))
    assert (code, error_of(told)) == (1, found)
    assert checkpoints(run) == kept


@slow
def test_a_learning_rate_that_blows_the_weights_up_is_told_too(place: Path, tmp_path: Path) -> None:
    training = RECIPE["training"] | {"optimiser": {"learning_rate": 1e30, "warmup_steps": 0}}
    recipe = write_recipe(place, RECIPE | {"training": training}, "blown")
    run = tmp_path / "run"
    code, told = finish(start(recipe, run))
    assert code == 1
    assert "is not a finite number" in error_of(told)
    assert checkpoints(run) == []


@slow
@pytest.mark.parametrize("name", ["model/model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_found_and_the_one_before_it_goes_on(
    name: str, place: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(place / "recipe.yaml", run)
    wait_for_step(process, run, 10)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == INTERRUPTED
    before, damaged = checkpoints(run)[-2:]
    path = run / "checkpoints" / damaged / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    code, told = finish(start(place / "recipe.yaml", run, "--resume"))
    assert code == 1
    found = error_of(told)
    assert str(path) in found or (damaged in found and name in found)
    assert found.endswith(
        f"; go on from the checkpoint before it with --checkpoint {run}/checkpoints/{before}"
    )
    chosen = str(run / "checkpoints" / before)
    code, told = finish(start(place / "recipe.yaml", run, "--checkpoint", chosen))
    assert code == 0, told
    assert_ends_alike(run, undisturbed)


@slow
def test_a_changed_recipe_a_held_folder_and_vanished_text_are_a_sentence_each(
    place: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    write_text(folder / "text.jsonl")
    model = {"name": "tiny", "source": {"path": str(place / "model")}}
    recipe = write_recipe(folder, RECIPE | {"model": model})
    run = tmp_path / "run"
    process = start(recipe, run)
    wait_for_step(process, run, 5)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == INTERRUPTED
    step = steps_in_log(run)[-1]

    code, told = finish(start(recipe, run))
    assert (code, error_of(told)) == (
        2,
        f"{run} holds a run that is saved up to step {step}; give --resume to go on, or another"
        " --output",
    )
    code, told = finish(start(recipe, run, "--resume", "--steps", "30"))
    assert (code, error_of(told)) == (
        2,
        f"{run}: the recipe has changed since this run began: training.steps was {STEPS} and is 30;"
        " give the recipe as it was, or another --output",
    )
    (folder / "text.jsonl").rename(folder / "elsewhere.jsonl")
    code, told = finish(start(recipe, run, "--resume"))
    assert code == 2
    assert str(folder / "text.jsonl") in error_of(told)


@slow
def test_text_that_changed_between_runs_is_refused(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    write_text(folder / "text.jsonl")
    model = {"name": "tiny", "source": {"path": str(place / "model")}}
    recipe = write_recipe(folder, RECIPE | {"model": model})
    run = train_here(recipe, tmp_path / "run")
    shutil.rmtree(last_checkpoint(run))
    write_text(folder / "text.jsonl", first=1000)
    code, told = finish(start(recipe, run, "--resume"))
    assert code == 2, told
    assert str(folder / "text.jsonl") in error_of(told)


def test_what_a_run_without_checkpoint_left_behind_is_not_used_by_another_recipe(
    place: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    shutil.rmtree(run / "checkpoints")
    (tmp_path / "other").mkdir()
    made = write_tiny_model(tmp_path / "other", seed=9, merges=True, adds_begin_token=True)
    write_manifest(tmp_path / "other", made)
    other = {"model": {"name": "other", "source": {"path": str(tmp_path / "other")}}}
    train_here(write_recipe(place, RECIPE | other, "other"), run)
    start_weights = [
        load_file(folder / "start" / "model.safetensors")["model.embed_tokens.weight"]
        for folder in (run, undisturbed)
    ]
    assert not torch.equal(*start_weights)
    assert steps_in_log(run) == list(range(1, STEPS + 1))


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


@slow
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
        [
            line["losses"]["alm"]
            for line in map(json.loads, (tmp_path / name / "log.jsonl").open())
            if line["kind"] == "step"
        ]
        for name in ("live", "stored")
    ]
    assert steps[1] == pytest.approx(steps[0], rel=0.01)


def start_two(recipe: Path, output: Path, *more: str) -> list[subprocess.Popen[str]]:
    """As torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    ranks = ({"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"} for rank in "01")
    return [start(recipe, output, *more, **shared, **rank) for rank in ranks]


@slow
@pytest.mark.parametrize("sharding", ["ddp", "fully_shard"])
def test_two_processes_train_as_one_and_go_on_after_a_stop(
    sharding: str, place: Path, tmp_path: Path
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


def read_steps(run: Path) -> list[dict[str, Any]]:
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry for entry in map(json.loads, lines) if entry["kind"] == "step"]
