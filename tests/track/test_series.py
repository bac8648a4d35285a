"""The store: what is added, what is refused, and two processes at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from written_runs import write_run

from suite.errors import ConfigError, RecordError
from suite.track.entries import Entry, check_files, check_series_name
from suite.track.runs import find_run
from suite.track.series import Store

TASKS = {"a": [1.0, 0.0, 1.0], "b": [0.0, 1.0, 1.0]}


def entry_at(folder: Path, step: int | None = 100, model: str = "m", **changes: object) -> Entry:
    if not folder.exists():
        write_run(folder, model, TASKS, **changes)
    return find_run(folder, "s", step, None)[0]


def test_an_entry_names_its_files_and_what_is_in_them(tmp_path: Path) -> None:
    entry = entry_at(tmp_path / "runs" / "x")
    store = Store(tmp_path / "track")
    assert store.add(entry)
    path = tmp_path / "track" / "s" / "step-00000100.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    assert (data["schema_version"], data["run"], data["model"]) == (1, "runs/x", "m")
    assert len(data["results"]) == 1
    assert len(data["files"]) == 3
    assert all(len(sha) == 64 for sha in data["files"].values())
    assert store.entries("s") == (entry,)
    assert store.newest("s") == entry
    assert store.series() == ("s",)


def test_store_and_runs_can_be_moved_together(tmp_path: Path) -> None:
    Store(tmp_path / "here" / "track").add(entry_at(tmp_path / "here" / "x"))
    shutil.move(tmp_path / "here", tmp_path / "there")
    [entry] = Store(tmp_path / "there" / "track").entries("s")
    assert entry.run == tmp_path / "there" / "x"
    check_files(entry)


def test_adding_the_same_again_changes_nothing(tmp_path: Path) -> None:
    store, entry = Store(tmp_path / "track"), entry_at(tmp_path / "x")
    assert store.add(entry)
    path = tmp_path / "track" / "s" / "step-00000100.json"
    before = path.stat().st_mtime_ns
    assert not store.add(entry)
    assert path.stat().st_mtime_ns == before


def test_another_run_at_the_same_step_is_refused_unless_it_replaces(tmp_path: Path) -> None:
    store, entry = Store(tmp_path / "track"), entry_at(tmp_path / "x")
    other = entry_at(tmp_path / "y", model="n")
    store.add(entry)
    with pytest.raises(ConfigError) as error:
        store.add(other)
    assert str(error.value) == (
        f"series s has another run at step 100 (m in {tmp_path / 'x'}); give another --step, or"
        " --replace"
    )
    assert store.add(other, replace=True)
    assert store.newest("s") == other


def test_steps_rise_by_number(tmp_path: Path) -> None:
    store = Store(tmp_path / "track")
    for step in (100_000_000, 5, 99_999_999):
        store.add(entry_at(tmp_path / "x", step))
    assert [entry.step for entry in store.entries("s")] == [5, 99_999_999, 100_000_000]


def test_a_fingerprint_is_of_scores_not_of_files(tmp_path: Path) -> None:
    first = entry_at(tmp_path / "x").fingerprint
    later = {"stamp": "2026-02-03T04-05-06.000000", "date": 9.0, "total_evaluation_time_seconds": 7}
    assert entry_at(tmp_path / "y", **later).fingerprint == first
    assert entry_at(tmp_path / "z", model="n").fingerprint == first
    one_item = TASKS | {"b": [0.0, 1.0, 0.0]}
    others = [TASKS | {"c": [1.0]}, {"a": TASKS["a"]}, {"a": TASKS["b"], "b": TASKS["a"]}, one_item]
    for number, scores in enumerate(others):
        write_run(tmp_path / str(number), "m", scores)
        assert entry_at(tmp_path / str(number)).fingerprint != first
    assert entry_at(tmp_path / "filter", filter="strict").fingerprint != first


def test_without_items_a_fingerprint_is_of_the_aggregates(tmp_path: Path) -> None:
    facts = {"with_samples": False}
    first = entry_at(tmp_path / "x", **facts).fingerprint
    assert entry_at(tmp_path / "y", date=9.0, **facts).fingerprint == first
    write_run(tmp_path / "z", "m", TASKS | {"b": [0.0, 0.0, 1.0]}, with_samples=False)
    assert entry_at(tmp_path / "z").fingerprint != first


def test_the_same_scores_from_another_place_take_the_entrys_place(tmp_path: Path) -> None:
    store, entry = Store(tmp_path / "track"), entry_at(tmp_path / "x")
    store.add(entry)
    shutil.move(tmp_path / "x", tmp_path / "y")
    moved = entry_at(tmp_path / "y")
    assert store.add(moved)
    assert store.entries("s") == (moved,)
    assert moved.run == tmp_path / "y"
    again = entry_at(tmp_path / "z", date=9.0)
    assert store.add(again)
    assert store.entries("s") == (again,)
    assert not store.add(entry_at(tmp_path / "track" / ".." / "z"))


def test_locks_stay_out_of_version_control(tmp_path: Path) -> None:
    Store(tmp_path / "track").add(entry_at(tmp_path / "x"))
    assert (tmp_path / "track" / ".gitignore").read_text(encoding="utf-8") == ".lock\n"
    (tmp_path / "track" / ".gitignore").write_text("mine\n", encoding="utf-8")
    Store(tmp_path / "track").add(entry_at(tmp_path / "x", 200))
    assert (tmp_path / "track" / ".gitignore").read_text(encoding="utf-8") == "mine\n"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "a b", "x" * 101])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_series_name(name)
    assert str(error.value) == (
        f"--series {name!r}: a series is named by up to 100 letters, digits, dots, hyphens and"
        " underscores, the first a letter or digit; give another name"
    )


def test_a_changed_file_and_a_missing_one_are_one_sentence_each(tmp_path: Path) -> None:
    entry = entry_at(tmp_path / "x")
    name = next(name for name in entry.files if name.startswith("samples_a"))
    (tmp_path / "x" / name).write_text("{}")
    with pytest.raises(RecordError) as error:
        check_files(entry)
    assert str(error.value) == (
        f"{tmp_path / 'x' / name}: changed since series s was told of it; put the file back, or add"
        " the run again with --replace"
    )
    (tmp_path / "x" / name).unlink()
    with pytest.raises(RecordError) as error:
        check_files(entry)
    assert str(error.value) == (
        f"{tmp_path / 'x' / name}: cannot be read (No such file or directory); put the file back,"
        " or add the run again with --replace"
    )
    with pytest.raises(RecordError) as error:
        check_files(replace(entry, step=None))
    assert str(error.value).endswith("put the file back, or pin the run again")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not readable JSON (Expecting property name enclosed in double quotes: line 1"),
        ("[]", "expected keys and values"),
        ("{}", "schema_version is None, this version of the suite reads 1"),
        ('{"schema_version": 1}', "not an entry of a series (KeyError: 'files')"),
    ],
)
def test_a_damaged_entry_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "step-00000001.json").write_text(text)
    with pytest.raises(RecordError) as error:
        Store(tmp_path).entries("s")
    assert str(error.value).startswith(f"{tmp_path}/s/step-00000001.json: {said}")
    assert str(error.value).endswith("add or pin the run again with --replace")


def test_an_empty_store_says_how_to_begin(tmp_path: Path) -> None:
    store = Store(tmp_path / "track")
    assert store.series() == ()
    with pytest.raises(ConfigError) as error:
        store.newest("s")
    assert str(error.value) == (
        f"series s in {tmp_path / 'track'} has no run; give it one with suite track add"
    )


def test_a_misspelt_series_is_told_the_nearest(tmp_path: Path) -> None:
    store = Store(tmp_path / "track")
    store.add(entry_at(tmp_path / "x"))
    with pytest.raises(ConfigError) as error:
        store.newest("S")
    assert str(error.value) == (
        f"series S in {tmp_path / 'track'} has no run (known: s); give it one with suite track add"
    )


def test_a_store_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    entry = entry_at(tmp_path / "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as error:
        Store(tmp_path / "file").add(entry)
    assert str(error.value) == (
        f"cannot write to {tmp_path / 'file'} (Not a directory); give another --store"
    )


ADD = """
import sys
from dataclasses import replace
from pathlib import Path
from suite.errors import ConfigError
from suite.track.runs import find_run
from suite.track.series import Store
base = Path(sys.argv[1])
entry = find_run(base / sys.argv[2], "s", 0, None)[0]
entries = [replace(entry, step=int(step)) for step in sys.argv[3:]]
print("ready", flush=True)
sys.stdin.readline()
num = 0
for entry in entries:
    try:
        num += Store(base / "track").add(entry)
    except ConfigError:
        pass
print(num)
"""


def test_two_processes_may_add_at_once(tmp_path: Path) -> None:
    for name in ("x", "y"):
        entry_at(tmp_path / name, model=name)
    steps = {"x": range(0, 30), "y": range(20, 50)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, str(tmp_path), name, *map(str, steps[name])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in steps
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    written = [int(process.communicate("go\n", timeout=60)[0]) for process in running]
    entries = Store(tmp_path / "track").entries("s")
    # Of two runs at one step exactly one stands there, and nothing is half written.
    assert [entry.step for entry in entries] == list(range(50))
    assert sum(written) == 50
    assert not list((tmp_path / "track" / "s").glob(".step*"))
