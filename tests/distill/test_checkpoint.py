"""Saved runs: whole or not at all, equal to the last bit, and never read damaged."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from suite.distill.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from suite.distill.settings import CheckpointConfig
from suite.distill.state import DataPlace, SavedTensors, TrainingState
from suite.errors import CheckpointError
from suite.models.manifest import write_manifest
from suite.text.corpus import Position

KEEP_ALL = CheckpointConfig(keep_last=100)


def state_at(step: int, *, best_step: int | None = None) -> TrainingState:
    return TrainingState(
        step=step,
        place=DataPlace(Position(epoch=1, index=2 * step), token=7, row=step),
        num_bytes=10**12 + step,
        num_teacher_tokens=3,
        num_student_tokens=2,
        gradient_norms={"alm": 0.1 + 0.2, "sft": 1e-300},
        weights={"alm": 1 / 3, "sft": 2 / 3},
        best_step=best_step,
        best_value=None if best_step is None else 1.25,
        random_states=({"torch": [1, 2, 3], "python": ["3", [4, 5]]}, {"torch": [4]}),
    )


def tensors_of(seed: int) -> SavedTensors:
    generator = torch.Generator().manual_seed(seed)
    moments = torch.randn(3, 4, generator=generator)
    return SavedTensors(
        optimiser={
            "exp_avg/model.embed_tokens.weight": moments,
            "exp_avg_sq/model.embed_tokens.weight": moments.square().T,
        },
        losses={
            "hidden_state/mean_square": torch.randn(5, generator=generator).bfloat16(),
            "hidden_state/num_rows": torch.tensor(64),
            "hidden_state/odd": torch.tensor([float("nan"), -0.0, float("inf")]),
        },
    )


def write_weights(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model" / "model.safetensors").write_bytes(b"weights")


def save(
    run: Path, step: int, *, best: int | None = None, keep: CheckpointConfig = KEEP_ALL
) -> Path:
    saved = save_checkpoint(
        run,
        state_at(step, best_step=best),
        tensors_of(step),
        write_weights,
        facts={"weights": "trained"},
        config=keep,
    )
    assert saved.step == step
    return saved.folder


def steps(run: Path) -> list[int]:
    return [checkpoint.step for checkpoint in list_checkpoints(run)]


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def same_bits(found: Tensor, expected: Tensor) -> bool:
    alike = (found.dtype, found.shape) == (expected.dtype, expected.shape)
    contents = [bytes(t.contiguous().reshape(-1).view(torch.uint8)) for t in (found, expected)]
    return alike and contents[0] == contents[1]


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(folder)
    return str(error.value)


def test_a_run_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    state, tensors = load_checkpoint(save(tmp_path, 7))
    assert state == state_at(7)
    assert isinstance(state.place.position, Position)
    expected = tensors_of(7)
    pairs = ((tensors.optimiser, expected.optimiser), (tensors.losses, expected.losses))
    for found, wanted in pairs:
        assert found.keys() == wanted.keys()
        assert all(same_bits(found[name], wanted[name]) for name in wanted)


def test_a_folder_holds_the_files_of_its_layout_and_their_checksums(tmp_path: Path) -> None:
    folder = save(tmp_path, 100)
    assert folder == tmp_path / "checkpoints" / "step-00000100"
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert files == [
        "losses.safetensors",
        "manifest.json",
        "model/config.json",
        "model/model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(manifest["files"]) == [name for name in files if name != "manifest.json"]
    assert manifest["facts"] == {"kind": "checkpoint", "weights": "trained"}
    assert {oct(p.stat().st_mode & 0o777) for p in folder.rglob("*")} == {"0o644", "0o755"}
    assert folder.stat().st_mode & 0o777 == 0o755


def test_losses_without_state_have_no_file(tmp_path: Path) -> None:
    tensors = SavedTensors(optimiser={}, losses={})
    saved = save_checkpoint(
        tmp_path, state_at(1), tensors, write_weights, facts={}, config=KEEP_ALL
    )
    assert not (saved.folder / "losses.safetensors").exists()
    assert load_checkpoint(saved.folder)[1].losses == {}


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert list_checkpoints(tmp_path / "absent") == ()


def test_checkpoints_are_listed_by_step_and_nothing_else_is(tmp_path: Path) -> None:
    for step in (9, 20, 100, 123456789):
        save(tmp_path, step)
    parent = tmp_path / "checkpoints"
    (parent / ".step-00000200.abc").mkdir()
    (parent / "step-00000300").mkdir()  # of another program: neither manifest nor state
    (parent / "step-best").mkdir()
    write_manifest(parent / "step-best", {})
    assert steps(tmp_path) == [9, 20, 100, 123456789]


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    keep = CheckpointConfig(keep_last=2)
    for step, best in ((1, 1), (2, 2), (3, 2), (4, 2), (5, 2)):
        save(tmp_path, step, best=best, keep=keep)
    assert steps(tmp_path) == [2, 4, 5]
    assert names(tmp_path) == ["step-00000002", "step-00000004", "step-00000005"]
    save(tmp_path, 6, best=6, keep=keep)
    assert steps(tmp_path) == [5, 6]


def test_the_best_goes_like_any_other_if_it_is_not_to_be_kept(tmp_path: Path) -> None:
    keep = CheckpointConfig(keep_last=1, keep_best=False)
    for step in (1, 2, 3):
        save(tmp_path, step, best=1, keep=keep)
    assert steps(tmp_path) == [3]


def test_an_old_one_goes_only_when_the_new_one_is_there(tmp_path: Path) -> None:
    keep = CheckpointConfig(keep_last=1)
    save(tmp_path, 1, keep=keep)

    def fail(folder: Path) -> None:
        assert steps(tmp_path) == [1]
        raise RuntimeError("a fault of the program")

    with pytest.raises(RuntimeError, match="a fault of the program"):
        save_checkpoint(tmp_path, state_at(2), tensors_of(2), fail, facts={}, config=keep)
    assert names(tmp_path) == ["step-00000001"]


def test_a_run_that_goes_back_makes_later_checkpoints_anew(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        save(tmp_path, step)
    damaged = tmp_path / "checkpoints" / "step-00000030" / "optimizer.safetensors"
    damaged.write_bytes(b"damaged")
    folder = save(tmp_path, 30)
    assert steps(tmp_path) == [10, 20, 30]
    assert load_checkpoint(folder)[0].step == 30


def test_saving_the_same_moment_twice_keeps_the_first(tmp_path: Path) -> None:
    inode = save(tmp_path, 5).stat().st_ino
    assert save(tmp_path, 5).stat().st_ino == inode
    assert names(tmp_path) == ["step-00000005"]


def test_what_a_killed_save_left_behind_is_removed_by_the_next(tmp_path: Path) -> None:
    for name in (".step-00000007.xyz", ".step-00000001.removed"):
        leftover = tmp_path / "checkpoints" / name
        leftover.mkdir(parents=True)
        (leftover / "state.json").write_text("{")
    assert steps(tmp_path) == []
    save(tmp_path, 8)
    assert names(tmp_path) == ["step-00000008"]


@pytest.mark.parametrize("file", ["optimizer.safetensors", "model/model.safetensors", "state.json"])
def test_a_changed_file_is_named_and_the_checkpoint_before_offered(
    tmp_path: Path, file: str
) -> None:
    for step in (20, 30, 40):
        folder = save(tmp_path, step)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert refusal(folder) == (
        f"{folder / file} differs from its checksum in manifest.json; go on from the checkpoint"
        f" before it with --checkpoint {tmp_path / 'checkpoints' / 'step-00000030'}"
    )
    assert load_checkpoint(folder.with_name("step-00000030"))[0].step == 30


def test_a_damaged_first_checkpoint_has_none_before_it(tmp_path: Path) -> None:
    folder = save(tmp_path, 20)
    save(tmp_path, 30)
    (folder / "losses.safetensors").unlink()
    assert refusal(folder) == (
        f"{folder / 'losses.safetensors'} is missing but listed in manifest.json; no checkpoint is"
        " before it, so start the run in another folder"
    )


def test_a_missing_manifest_is_told_and_not_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 20)
    folder = save(tmp_path, 30)
    (folder / "manifest.json").unlink()
    assert steps(tmp_path) == [20, 30]
    message = refusal(folder)
    assert message.startswith(f"{folder / 'manifest.json'}: no readable manifest (")
    assert message.endswith(
        "; go on from the checkpoint before it with --checkpoint"
        f" {tmp_path / 'checkpoints' / 'step-00000020'}"
    )


@pytest.mark.parametrize("text", ["{", "[]", '{"steps": 3}', '{"place": {}, "random_states": []}'])
def test_a_state_of_another_kind_is_told(tmp_path: Path, text: str) -> None:
    folder = save(tmp_path, 20)
    (folder / "state.json").write_text(text)
    write_manifest(folder, {"kind": "checkpoint"})
    message = refusal(folder)
    assert message.startswith(f"{folder / 'state.json'}: not the state of a run (")
    assert message.endswith("; no checkpoint is before it, so start the run in another folder")


def test_tensors_of_another_kind_are_told(tmp_path: Path) -> None:
    folder = save(tmp_path, 20)
    (folder / "optimizer.safetensors").write_bytes(b"no tensors")
    write_manifest(folder, {"kind": "checkpoint"})
    message = refusal(folder)
    assert message.startswith(f"{folder / 'optimizer.safetensors'}: cannot be read (")
    assert message.endswith("; no checkpoint is before it, so start the run in another folder")


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent") == (
        f"{tmp_path / 'absent'} does not exist; give a folder checkpoints/step-... of a run"
    )


@pytest.fixture
def small_disk() -> Iterator[int]:
    """No file can grow beyond a few thousand bytes; tensors of a test need more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield 4096
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def large(num_bytes: int) -> SavedTensors:
    return SavedTensors(optimiser={"exp_avg/x": torch.zeros(num_bytes)}, losses={})


def test_a_full_disk_costs_only_the_new_checkpoint(tmp_path: Path, small_disk: int) -> None:
    kept = save(tmp_path, 1)
    wanted = kept.with_name("step-00000002")

    def write_much(folder: Path) -> None:
        (folder / "model").mkdir()
        (folder / "model" / "model.safetensors").write_bytes(bytes(2 * small_disk))

    def write_with_rust(folder: Path) -> None:
        from tokenizers import Tokenizer, models

        vocab = {f"token-{number}": number for number in range(small_disk)}
        Tokenizer(models.WordLevel(vocab)).save(str(folder / "tokenizer.json"))

    attempts = ((large(small_disk), write_weights), (tensors_of(2), write_much))
    for tensors, write_model in (*attempts, (tensors_of(2), write_with_rust)):
        with pytest.raises(CheckpointError) as error:
            save_checkpoint(tmp_path, state_at(2), tensors, write_model, facts={}, config=KEEP_ALL)
        assert str(error.value) == (
            f"{wanted}: the checkpoint cannot be written (File too large); {kept} is kept: make"
            " room or mend the folder, then give the same command again with --resume"
        )
        assert names(tmp_path) == [kept.name]
    assert load_checkpoint(kept)[0].step == 1


def test_a_full_disk_before_the_first_checkpoint(tmp_path: Path, small_disk: int) -> None:
    with pytest.raises(CheckpointError) as error:
        save_checkpoint(
            tmp_path, state_at(2), large(small_disk), write_weights, facts={}, config=KEEP_ALL
        )
    assert str(error.value) == (
        f"{tmp_path / 'checkpoints' / 'step-00000002'}: the checkpoint cannot be written (File too"
        " large); make room or mend the folder, then give the same command again"
    )
    assert names(tmp_path) == []


def test_an_interrupted_save_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(folder: Path) -> None:
        write_weights(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, state_at(1), tensors_of(1), interrupt, facts={}, config=KEEP_ALL)
    assert names(tmp_path) == []


_SAVES_FOR_EVER = """
import itertools, sys, torch
from pathlib import Path
from suite.distill.checkpoint import save_checkpoint
from suite.distill.settings import CheckpointConfig
from suite.distill.state import SavedTensors, TrainingState

def write_weights(folder):
    (folder / "model").mkdir()
    for number in range(20):
        (folder / "model" / f"{number}.bin").write_bytes(bytes(20_000))

for step in itertools.count(1):
    tensors = SavedTensors({"x": torch.full((10_000,), float(step))}, {})
    config = CheckpointConfig(keep_last=1, keep_best=False)
    save_checkpoint(Path(sys.argv[1]), TrainingState(step=step), tensors, write_weights,
                    facts={}, config=config)
    print(step, flush=True)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    for attempt in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", _SAVES_FOR_EVER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        with process:
            assert process.stdout is not None
            told = int(process.stdout.readline())
            time.sleep(0.043 * attempt)
            process.send_signal(signal.SIGKILL)
            told = max([told, *map(int, process.stdout.read().split())])
        found = list_checkpoints(tmp_path)
        assert found[-1].step >= told
        for checkpoint in found:
            state, tensors = load_checkpoint(checkpoint.folder)
            assert state.step == checkpoint.step
            assert tensors.optimiser["x"].unique().tolist() == [float(checkpoint.step)]
