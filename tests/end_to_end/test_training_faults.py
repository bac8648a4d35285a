"""Training by the real command: kills, signals, full disks, damaged files, no numbers."""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_command import (
    INTERRUPTED,
    RECIPE,
    STEPS,
    assert_ends_alike,
    checkpoints,
    error_of,
    finish,
    last_checkpoint,
    make_place,
    start,
    steps_in_log,
    train_here,
    wait_for_step,
    write_recipe,
    write_text,
)

from suite.models.manifest import write_manifest
from suite.models.tiny import write_tiny_model

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_place(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Path:
    """The run's folder of a run that nothing happened to."""
    return train_here(place / "recipe.yaml", place / "undisturbed")


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
    while not (run / "start").exists():
        assert process.poll() is None, "it ended before it could be killed"
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
