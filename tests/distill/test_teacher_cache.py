"""Reading a stored teacher: the same numbers as live ones, and nothing but the right rows."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stored_rows import FINGERPRINTS, FormulaTeacher, fill, manifest_of, rows_of

from suite.align.collate import collate
from suite.distill.cache_manifest import read_manifest
from suite.distill.teacher_cache import TeacherCache
from suite.errors import CacheError

LENGTHS = [30, 12, 50, 7, 7, 61, 20, 33, 5, 48, 9, 9, 9, 26, 40] * 2
ROWS = rows_of(LENGTHS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of ROWS, computed one row at a time, in more shards than are held open."""
    folder = tmp_path_factory.mktemp("finished")
    fill(folder, ROWS, FormulaTeacher(), manifest_of(1, 60))
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(finished, tmp_path / "cache"))


def refusal(folder: Path, expected: dict[str, str] | None = None) -> str:
    with pytest.raises(CacheError) as error:
        TeacherCache.open(folder, expected)
    return str(error.value)


def test_stored_numbers_are_the_live_ones_to_the_bit(finished: Path) -> None:
    cache, live = TeacherCache.open(finished), FormulaTeacher()
    assert len(cache) == len(ROWS)
    numbers = np.random.default_rng(0).permutation(len(ROWS)).tolist()
    for start in range(0, len(ROWS), 5):
        own = numbers[start : start + 5]
        batch = collate([ROWS[number] for number in own], multiple_of=8).teacher
        stored = cache.signal(batch, own)
        assert stored.hidden is None
        for place, number in enumerate(own):
            alone = live.signal(collate([ROWS[number]]).teacher, [number]).log_probs
            for found, expected in (
                (stored.log_probs.token, alone.token),
                (stored.log_probs.boundary, alone.boundary),
            ):
                assert found.dtype == torch.float32
                assert found.shape == batch.ids.shape
                assert torch.equal(found[place, : LENGTHS[number]], expected[0])
                assert not found[place, LENGTHS[number] :].any()


def test_a_row_is_its_two_columns_in_float16(finished: Path) -> None:
    token, boundary = TeacherCache.open(finished).row(6)
    live = FormulaTeacher().signal(collate([ROWS[6]]).teacher, [6]).log_probs
    assert token.dtype == boundary.dtype == np.float16
    np.testing.assert_array_equal(token, live.token[0].numpy())
    np.testing.assert_array_equal(boundary, live.boundary[0].numpy())


def test_sizes_are_those_of_the_files(finished: Path) -> None:
    cache = TeacherCache.open(str(finished))
    size = sum(path.stat().st_size for path in finished.iterdir())
    assert cache.num_tokens == sum(LENGTHS)
    assert cache.bytes_per_token == size / sum(LENGTHS)


@pytest.mark.parametrize("number", [-1, len(ROWS)])
def test_a_row_that_is_not_stored(finished: Path, number: int) -> None:
    with pytest.raises(CacheError) as error:
        TeacherCache.open(finished).row(number)
    assert str(error.value) == (
        f"{finished}: row {number} is not stored, it holds rows 0 to 29 (one epoch of its text);"
        " train on these or make a larger cache"
    )


def test_rows_in_another_order_are_refused(finished: Path) -> None:
    cache = TeacherCache.open(finished)
    with pytest.raises(CacheError) as error:
        cache.signal(collate([ROWS[0], ROWS[4], ROWS[3]]).teacher, [0, 3, 4])
    assert str(error.value) == (
        f"{finished}: row 3 was stored for other tokens; read the text in the order and rows that"
        " the cache was made with, or make another one with suite cache-teacher"
    )


def test_rows_packed_otherwise_are_refused(finished: Path) -> None:
    side = replace(ROWS[0].teacher, position_ids=np.arange(30, dtype=np.int32) % 15)
    batch = collate([replace(ROWS[0], teacher=side)]).teacher
    with pytest.raises(CacheError, match="row 0 was stored for other tokens; "):
        TeacherCache.open(finished).signal(batch, [0])


def test_rows_cut_otherwise_are_refused(finished: Path) -> None:
    with pytest.raises(CacheError) as error:
        TeacherCache.open(finished).signal(collate([ROWS[2]]).teacher, [1])
    assert str(error.value) == (
        f"{finished}: row 1 has 12 tokens there and 50 here; read the text in the order and rows"
        " that the cache was made with, or make another one with suite cache-teacher"
    )


@pytest.mark.parametrize("place", [0, 8, 100, -1], ids=["length", "header", "facts", "number"])
def test_a_flipped_byte_is_found_and_its_file_named(folder: Path, place: int) -> None:
    path = folder / "signal-00003.safetensors"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert refusal(folder) == (
        f"{path} differs from its checksum in manifest.json; give the same suite cache-teacher"
        " command again, which makes it anew"
    )


def test_a_shard_that_is_missing_is_named(folder: Path) -> None:
    path = folder / "signal-00003.safetensors"
    path.unlink()
    assert refusal(folder) == (
        f"{path} is missing; give the same suite cache-teacher command again, which makes it anew"
    )


def test_a_shard_that_vanishes_during_training_is_named(folder: Path) -> None:
    cache = TeacherCache.open(folder)
    first = cache.row(0)
    for path in folder.glob("signal-*"):
        path.unlink()
    # What is mapped stays readable.
    np.testing.assert_array_equal(cache.row(0), first)
    with pytest.raises(CacheError) as error:
        cache.row(29)
    last = read_manifest(folder).shards[-1].file
    assert str(error.value) == f"{folder / last} is gone; put the files of the cache back"


def test_an_unfinished_cache_says_how_far_it_is(tmp_path: Path) -> None:
    stopped = FormulaTeacher(stop_at=8, stop_with=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, ROWS, stopped, manifest_of(1, 60))
    assert refusal(tmp_path) == (
        f"{tmp_path}: unfinished, 6 rows with 167 tokens so far; give the same suite cache-teacher"
        " command again, it goes on there"
    )


def test_a_folder_without_a_cache(tmp_path: Path) -> None:
    sentence = "no teacher cache there; make one with suite cache-teacher"
    assert refusal(tmp_path) == f"{tmp_path}: {sentence}"
    assert refusal(tmp_path / "none") == f"{tmp_path / 'none'}: {sentence}"


def leave_out_a_shard(data: dict) -> None:
    del data["shards"][2]


def leave_out_the_last(data: dict) -> None:
    del data["shards"][-1]


def leave_out_all(data: dict) -> None:
    data["shards"] = []


def miscount(data: dict) -> None:
    data["shards"][2]["rows"] += 1


@pytest.mark.parametrize("harm", [leave_out_a_shard, leave_out_the_last, leave_out_all, miscount])
def test_a_manifest_that_is_not_that_of_its_shards(folder: Path, harm: Callable) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    harm(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    assert refusal(folder) == f"{path} does not fit its shards; make the cache anew"


def test_worker_processes_get_a_cache_of_their_own(finished: Path) -> None:
    cache = TeacherCache.open(finished)
    cache.row(3)
    copy = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(copy.row(3), cache.row(3))
    assert copy.bytes_per_token == cache.bytes_per_token


def test_another_manifest_a_damaged_one_and_one_of_the_future(folder: Path) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text('{"facts": {}, "files": {}}', encoding="utf-8")
    assert refusal(folder) == (f"{path}: not the manifest of a teacher cache; give another folder")
    path.write_text(json.dumps(data)[:-1], encoding="utf-8")
    assert refusal(folder).startswith(f"{path}: damaged (Expecting ")
    assert refusal(folder).endswith("); make the cache anew")
    path.write_text(json.dumps(data | {"version": 2}), encoding="utf-8")
    assert refusal(folder) == f"{path}: version is 2, should be 1; make the cache anew"
    del data["shards"][2]["sha256"]
    path.write_text(json.dumps(data), encoding="utf-8")
    assert refusal(folder) == f"{path}: shards[2].sha256 is missing; make the cache anew"
    data["shards"][2] |= {"file": "../signal-00000.safetensors", "sha256": "0"}
    path.write_text(json.dumps(data), encoding="utf-8")
    assert refusal(folder).startswith(f"{path}: shards[2].file is '../signal-00000.safetensors'")


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("text", "b" * 64, "another text ('aaaaaaaaaaaa', here 'bbbbbbbbbbbb')"),
        (
            "order",
            "shuffled with seed 1, one epoch",
            "another order of reading ('not shuffled, one epoch', here"
            " 'shuffled with seed 1, one epoch')",
        ),
        ("dtype", "bfloat16", "another dtype ('float32', here 'bfloat16')"),
        ("weights", "c" * 64, "another teacher ('unknown', here 'cccccccccccc')"),
    ],
)
def test_what_differs_is_named_with_both_values(
    finished: Path, key: str, value: str, sentence: str
) -> None:
    assert refusal(finished, FINGERPRINTS | {key: value}) == (
        f"{finished}: the cache was made for {sentence}; give what it was made with, or make"
        " another one"
    )


def test_only_expected_fingerprints_are_compared(finished: Path) -> None:
    for expected in (FINGERPRINTS, {"dtype": "float32"}, {}, None):
        assert len(TeacherCache.open(finished, expected)) == len(ROWS)
    assert "dtype" in refusal(finished, {"dtype": "float16"})


def test_a_cache_needs_no_hidden_states_and_no_model_to_be_read(finished: Path) -> None:
    batch = collate([ROWS[0]]).teacher
    signal = TeacherCache.open(finished).signal(batch, [0])
    assert not signal.log_probs.token.requires_grad
    assert signal.log_probs.token[0, 0] == 0
