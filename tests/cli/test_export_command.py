"""`suite export` on the command line: what it prints, and the line for each wrong call."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from trained_runs import full_run

from suite.cli.export import export
from suite.cli.main import SuiteGroup

USAGE = 2


@click.group(cls=SuiteGroup)
def main() -> None:
    """As the command itself, with one command."""


main.add_command(export)


@pytest.fixture(autouse=True)
def here(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a run; the command changes what SIGTERM does, which is put back."""
    monkeypatch.chdir(tmp_path)
    full_run(Path("run"), tiny_model, model_types=["gemma3_text"])
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["export", *arguments])


def test_what_was_written_is_printed(here: Path) -> None:
    result = call("run", "out", "--accept-licence", "--dtype", "bfloat16")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "checkpoint  run/checkpoints/step-00000020",
        "steps       20",
        "weights     float32, trained, saved in bfloat16",
        "terms       Gemma Terms of Use, https://ai.google.dev/gemma/terms",
        "out",
    ]
    assert (here / "out" / "config.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "out"],
            "run/checkpoints/step-00000020 was made from or taught by a model under the Gemma Terms"
            " of Use (https://ai.google.dev/gemma/terms), which it carries on; read them and give"
            " --accept-licence",
        ),
        (
            ["run", "out", "--private"],
            "--private has no effect without --push; leave it out",
        ),
        (
            ["run", "out", "--push", "tiny"],
            "--push tiny: expected ORG/NAME of letters, digits, '-', '_' and '.', at most 96"
            " characters",
        ),
        (
            ["run", "run"],
            "run: holds checkpoints; give a new or an empty DIR",
        ),
        (
            ["nowhere", "out"],
            "nowhere is no folder; give the folder of a run, or one of its folders"
            " checkpoints/step-...",
        ),
    ],
)
def test_a_wrong_call_is_one_line(arguments: list[str], message: str, here: Path) -> None:
    result = call(*arguments)
    assert result.exit_code == USAGE
    assert result.stderr == f"error: {message}\n"
    assert not (here / "out").exists()
