"""`suite fidelity` on the command line: its plan, its output, and wrong calls."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from suite.cli.main import main

USAGE = 2


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a text; the command changes what SIGTERM does, which is put back."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("in the other thing\n" * 9, encoding="utf-8")
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


def call(teacher: Path, *arguments: str) -> Result:
    sources = [f"path:{teacher}", f"path:{teacher}"]
    return CliRunner().invoke(main, ["fidelity", *sources, *arguments])


def test_a_dry_run_prints_the_plan_and_writes_nothing(tiny_model: Path, here: Path) -> None:
    result = call(tiny_model, "--text", "text.txt", "--task", "suite_knowledge", "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"teacher  path:{tiny_model}",
        f"student  path:{tiny_model}",
        "tasks    suite_knowledge; all items",
        f"text     {here / 'text.txt'}, 14 documents at most",
        f"output   {here / 'reports' / 'fidelity'}",
    ]
    assert [path.name for path in here.iterdir()] == ["text.txt"]


@pytest.mark.slow
def test_figures_and_files_are_printed(tiny_model: Path, here: Path) -> None:
    arguments = ["--text", "text.txt", "--task", "suite_minimal_pairs", "--limit", "2"]
    result = call(tiny_model, *arguments, "--output", "out", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "All tasks, 2 items" in result.stdout
    assert result.stdout.splitlines()[-2:] == [
        str(here / "out" / "fidelity.json"),
        str(here / "out" / "fidelity.md"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "0"], "error: --limit is 0, expected at least 1"),
        (["--text", "gone.txt"], "error: {here}/gone.txt: no such file or folder"),
        (
            ["--before", "elsewhere:x"],
            "error: --before elsewhere:x: expected one of hub:..., path:..., gguf:...,"
            " package:..., random:...",
        ),
    ],
)
def test_wrong_calls_are_one_line(
    tiny_model: Path, here: Path, arguments: list[str], message: str
) -> None:
    result = call(tiny_model, *arguments)
    assert result.exit_code == USAGE
    assert result.stderr.splitlines() == [message.format(here=here)]
