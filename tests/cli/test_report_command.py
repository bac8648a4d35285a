from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from written_runs import write_run

from suite.cli.report import report
from suite.errors import ConfigError


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    write_run(tmp_path / "runs" / "a", "a=b", {"quiz": [1] * 30 + [0] * 10})
    write_run(tmp_path / "runs" / "c", "c", {"quiz": [1] * 10 + [0] * 30})
    return tmp_path / "runs"


def test_the_table_is_printed_and_every_file_named(runs: Path, tmp_path: Path) -> None:
    arguments = [str(runs), "--reference", "c", "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(report, [*arguments, "--rename", "a=b=model", "--title", "A title"])
    assert done.exit_code == 0, done.output
    assert "A title" in done.output
    assert "model" in done.output
    for name in ("table.md", "table.tex", "table.csv", "results.json", "index.html"):
        assert str(tmp_path / "out" / name) in done.output.replace("\n", "")


def test_verdicts_are_printed(runs: Path, tmp_path: Path) -> None:
    arguments = [str(runs), "--reference", "c", "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(report, [*arguments, "--style", "regression"])
    assert done.exit_code == 0, done.output
    assert "▲ improved" in done.output


def test_a_dry_run_prints_the_plan_and_writes_nothing(runs: Path, tmp_path: Path) -> None:
    arguments = [str(runs), "--reference", "c", "--output", str(tmp_path / "out"), "--dry-run"]
    done = CliRunner().invoke(report, arguments)
    assert done.exit_code == 0, done.output
    assert "1 comparison with c" in done.output
    assert f"would write {tmp_path / 'out' / 'table.md'}" in done.output
    assert not (tmp_path / "out").exists()


def test_an_option_without_a_value_is_one_sentence(runs: Path) -> None:
    done = CliRunner().invoke(report, [str(runs), "--group", "c"])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == "--group is 'c', expected NAME=VALUE"
