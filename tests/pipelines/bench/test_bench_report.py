"""`suite bench report`: the invented tree is one that we read, and bounds are judged."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from suite.errors import ConfigError, SuiteError
from suite.pipelines.bench import report as bench_module
from suite.pipelines.bench.report import ReportBench, record_report
from suite.pipelines.bench.report_table import ReportRow
from suite.pipelines.bench.report_tree import GROUP, TreeSize, write_tree
from suite.results.importer import load_runs, scored

SIZE = TreeSize(models=2, tasks=8, items=30)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "tree"
    write_tree(folder, SIZE, lambda line: None)
    return folder


def test_every_aggregate_of_the_tree_is_that_of_its_items(tree):
    loaded = load_runs([tree])
    assert loaded.notes == ()
    labels = {record.label for record in loaded.records}
    assert labels == {GROUP, *(f"choice_{n:02d}" for n in range(6)), "text_00", "text_01"}
    for record in loaded.records:
        found = scored(record, None)
        assert found is not None
        assert found.items is not None, found.reason
        assert len(found.items) == (90 if record.label == GROUP else 30)


def test_lines_are_as_long_as_real_ones_and_models_differ(tree):
    sizes = [
        len(line)
        for file in tree.glob("*/samples_*.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    assert len(sizes) == SIZE.num_lines
    assert 1000 < sum(sizes) / len(sizes) < 1700
    results = [
        json.loads(file.read_text(encoding="utf-8"))["results"][GROUP]["acc,none"]
        for file in sorted(tree.glob("*/results_*.json"))
    ]
    assert results[0] < results[1]


def test_bounds_that_do_not_hold_are_marked(tmp_path, monkeypatch):
    seconds = {"suite track index --rebuild": 1.0, "suite report, with index": 61.0}

    def run(name: str, command: list[str], work: Path) -> ReportRow:
        if name == "inventing the tree":
            write_tree(work / "tree", TreeSize(2, 4, 10), lambda line: None)
        return ReportRow(name, seconds.get(name, 3.0), 2.5, 10**9)

    monkeypatch.setattr(bench_module, "_run", run)
    bench = ReportBench(models=2, tasks=4, items=10)
    record = record_report(bench, tmp_path, lambda line: None)
    assert not record.holds
    rows = {row["command"]: row for row in json.loads(record.files[0].read_text())["rows"]}
    assert rows["suite track index --rebuild"]["lines_a_second"] == 80
    assert rows["suite track index --rebuild"]["holds"] is False
    assert rows["suite report, with index"]["holds"] is False
    assert rows["suite report, with index"]["num_runs"] == 3
    assert rows["suite compare"]["holds"] is None
    assert (
        "| suite report, with index | 2 | 3 | 61.0 | 2.5 | 1,000 |  | **no** |" in record.markdown
    )
    assert "Repeat with: suite bench report --models 2 --tasks 4 --items 10" in record.markdown


def test_time_and_memory_are_those_of_the_process(tmp_path):
    code = "x = b'x' * 300_000_000; import time; time.sleep(0.2)"
    row = bench_module._run("a command", [sys.executable, "-c", code], tmp_path)
    assert row.seconds >= 0.2
    assert row.cpu_seconds > 0
    # Not below this process's own, which tests with models have made large.
    assert row.peak_bytes > 300e6


def test_a_command_that_fails_is_told_with_its_last_line(tmp_path):
    code = "import sys; print('one'); sys.exit('error: no such thing')"
    with pytest.raises(SuiteError) as error:
        bench_module._run("a command", [sys.executable, "-c", code], tmp_path)
    assert str(error.value) == "a command failed with exit code 1 (error: no such thing)"


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(
        bench_module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**9)
    )
    with pytest.raises(ConfigError) as error:
        bench_module._check_room(tmp_path, TreeSize())
    assert str(error.value) == (
        f"{tmp_path.parent}: 1.0 GB are free, and the tree needs 2.0; set TMPDIR to a larger disk,"
        " or give fewer --models"
    )


def test_too_little_is_refused():
    with pytest.raises(ConfigError) as error:
        ReportBench(models=1)
    assert str(error.value) == "--models is 1, expected at least 2"


@pytest.mark.slow
def test_all_commands_run_on_a_small_tree(tmp_path):
    bench = ReportBench(models=2, tasks=5, items=40, repeats=1)
    record = record_report(bench, tmp_path, lambda line: None)
    rows = json.loads(record.files[0].read_text(encoding="utf-8"))["rows"]
    assert [row["command"] for row in rows] == [
        "suite report, without index",
        "suite track index --rebuild",
        "suite report, with index",
        "suite compare",
        "suite track pin",
        "suite track add",
        "suite track check",
    ]
    assert all(row["seconds"] > 0 and row["peak_bytes"] > 10**7 for row in rows)
