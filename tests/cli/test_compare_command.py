"""`suite compare` from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from written_runs import write_run

from suite.cli.compare import compare
from suite.errors import NotComparableError, SuiteError

OLD, NEW = [1, 0] * 20, [1, 1] * 20


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two runs of the same tasks, and an index of their own."""
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    write_run(tmp_path / "a", "old", {"arc": OLD, "boolean": OLD})
    write_run(tmp_path / "b", "new", {"arc": NEW, "boolean": NEW})
    return tmp_path / "a", tmp_path / "b"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(compare, list(map(str, arguments)), env={"COLUMNS": "120"})


def test_a_comparison_is_printed_and_ends_well(folders: tuple[Path, Path]) -> None:
    result = invoke(*folders)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("new compared with old\n")
    assert "+50.0" in result.output
    assert "20, 0" in result.output


def test_files_are_written_where_asked(folders: tuple[Path, Path], tmp_path: Path) -> None:
    json_file, output = tmp_path / "new" / "one.json", tmp_path / "out"
    result = invoke(*folders, "--json", json_file, "--output", output, "--task", "arc")
    assert result.output.splitlines()[-3:] == [
        str(json_file),
        str(output / "compare.md"),
        str(output / "compare.json"),
    ]
    assert json_file.read_text(encoding="utf-8") == (output / "compare.json").read_text("utf-8")
    content = json.loads(json_file.read_text(encoding="utf-8"))
    assert [task["label"] for task in content["tasks"]] == ["arc"]
    assert (output / "compare.md").read_text(encoding="utf-8").startswith("# new compared with old")


def test_a_place_that_cannot_be_written_is_one_sentence(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    path = tmp_path / "file" / "x.json"
    result = invoke(*folders, "--json", path)
    assert isinstance(result.exception, SuiteError)
    assert str(result.exception) == (f"{path}: cannot be written (File exists); give another place")


def test_runs_that_are_not_comparable_have_an_exit_code_of_their_own(
    folders: tuple[Path, Path],
) -> None:
    write_run(folders[1], "new", {"arc": NEW, "boolean": NEW}, prompt="Another question")
    result = invoke(*folders, "--task", "arc")
    assert isinstance(result.exception, NotComparableError)
    assert result.exception.exit_code == 4
    assert str(result.exception).startswith(
        "arc: old and new were not measured alike (prompts of 40 of 40 shared items, the first of"
        " them item 0 of arc: hash "
    )


def test_an_index_that_cannot_be_made_costs_one_warning_and_no_result(
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "file" / "cache"))
    assert invoke(*folders).exit_code == 0
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith("set SUITE_CACHE to a folder that can be written")


def test_comparing_never_loads_torch(folders: tuple[Path, Path], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from suite.cli.compare import compare\n"
        f"compare.main({[*map(str, folders), '--output', str(tmp_path / 'out')]!r},"
        " standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'lm_eval', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
