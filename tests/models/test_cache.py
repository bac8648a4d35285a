"""The cache under everything that can happen to it: damage, races, kills, a full stop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from suite.errors import ModelError
from suite.models.cache import cache_root, cached_folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Builder:
    """Builds a one-file folder and counts how often it was asked to."""

    def __init__(self) -> None:
        self.num_builds = 0

    def __call__(self, folder: Path) -> dict[str, Any]:
        self.num_builds += 1
        (folder / "weights").write_bytes(b"weights")
        return {"made": "here"}


def test_the_cache_is_where_the_variable_says(cache: Path) -> None:
    assert cache_root() == cache


def test_without_the_variable_the_platform_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUITE_CACHE")
    assert "alm-suite" in cache_root().parts


def test_a_folder_is_built_at_the_first_call_only(cache: Path) -> None:
    build = Builder()
    folders = {cached_folder("kind", "key", build) for _ in range(2)}
    assert folders == {cache / "kind" / "key"}
    assert build.num_builds == 1


def test_two_keys_are_two_folders(cache: Path) -> None:
    build = Builder()
    assert cached_folder("kind", "a", build) != cached_folder("kind", "b", build)
    assert build.num_builds == 2


@pytest.mark.parametrize("damage", ["changed", "truncated", "deleted", "no manifest"])
def test_a_damaged_folder_is_built_again(
    cache: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    build = Builder()
    folder = cached_folder("kind", "key", build)
    if damage == "changed":
        (folder / "weights").write_bytes(b"weightz")
    elif damage == "truncated":
        (folder / "weights").write_bytes(b"wei")
    elif damage == "deleted":
        (folder / "weights").unlink()
    else:
        (folder / "manifest.json").unlink()

    assert (cached_folder("kind", "key", build) / "weights").read_bytes() == b"weights"
    assert build.num_builds == 2
    assert caplog.messages == [f"{folder} is damaged and is made again"]


def test_a_build_that_fails_leaves_nothing(cache: Path) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        (folder / "weights").write_bytes(b"wei")
        raise ModelError("the file is broken")

    with pytest.raises(ModelError, match="the file is broken"):
        cached_folder("kind", "key", fail)
    assert [path.name for path in (cache / "kind").iterdir()] == ["key.lock"]


def test_a_cache_that_cannot_be_written_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError) as error:
        cached_folder("kind", "key", Builder())
    assert str(error.value) == (
        f"{tmp_path / 'file/cache/kind/key'}: cannot be written (Not a directory);"
        " set SUITE_CACHE to a folder that can be written"
    )


def test_others_may_read_a_finished_folder(cache: Path) -> None:
    folder = cached_folder("kind", "key", Builder())
    assert folder.stat().st_mode & 0o777 == 0o755


BUILD_SLOWLY = """
import sys, time
from pathlib import Path
from suite.models.cache import cached_folder

log = Path(sys.argv[1])

def build(folder):
    (folder / "weights").write_bytes(b"wei")
    with log.open("a") as file:
        file.write("build\\n")
    print("half done", flush=True)
    time.sleep(float(sys.argv[2]))
    (folder / "weights").write_bytes(b"weights")
    return {}

print(cached_folder("kind", "key", build))
"""


def start_build(log: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD_SLOWLY, str(log), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ.copy(),
    )


def test_of_two_processes_that_race_one_builds_and_both_get_the_folder(
    cache: Path, tmp_path: Path
) -> None:
    log = tmp_path / "builds"
    racers = [start_build(log, 0.5) for _ in range(2)]
    answers = [racer.communicate(timeout=60)[0].splitlines()[-1] for racer in racers]

    assert answers == [str(cache / "kind" / "key")] * 2
    assert log.read_text() == "build\n"
    assert (cache / "kind" / "key" / "weights").read_bytes() == b"weights"


def test_a_killed_build_counts_for_nothing_and_the_next_call_succeeds(
    cache: Path, tmp_path: Path
) -> None:
    with start_build(tmp_path / "builds", 600) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "half done\n"
        victim.kill()
    assert not (cache / "kind" / "key").exists()

    build = Builder()
    assert (cached_folder("kind", "key", build) / "weights").read_bytes() == b"weights"
    assert build.num_builds == 1
    assert sorted(path.name for path in (cache / "kind").iterdir()) == ["key", "key.lock"]
