"""The index follows the files it was read from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from index_tables import SCORES, equal_tables
from result_trees import TREES
from written_runs import write_run

import suite.results.index as index_module
from suite.records import RunRecord
from suite.results.importer import load_runs
from suite.results.index import ResultsIndex
from suite.results.item_table import ItemTable
from suite.results.samples_file import read_item_tables


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    write_run(tmp_path / "run", "model", SCORES)
    return load_runs([tmp_path / "run"]).records[0]


def test_a_changed_samples_file_is_read_again(tmp_path: Path, record: RunRecord) -> None:
    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        (before,) = index.tables(record)
        write_run(tmp_path / "run", "model", {**SCORES, "one": [0, 0, 0, 1]})
        (after,) = index.tables(record)
    assert before.metrics["acc"].sum() == 3
    assert after.metrics["acc"].sum() == 1


def test_a_changed_file_that_kept_its_time_and_size_is_read_again(
    tmp_path: Path, record: RunRecord
) -> None:
    samples = next((tmp_path / "run").glob("samples_one*"))
    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        (before,) = index.tables(record)
        seen = samples.stat()
        text = samples.read_text(encoding="utf-8")
        samples.write_text(text.replace('"acc": 1.0', '"acc": 0.0'), encoding="utf-8")
        os.utime(samples, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        assert samples.stat().st_size == seen.st_size
        (after,) = index.tables(record)
    assert before.metrics["acc"].sum() == 3
    assert after.metrics["acc"].sum() == 0


def test_answers_by_length_are_kept(tmp_path: Path) -> None:
    [record] = [run for run in load_runs([TREES / "outer"]).records if run.label == "leaf_a"]
    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        expected = index.tables(record)
        assert set(expected[0].answers_by_length) == {"acc_norm"}
        assert equal_tables(index.tables(record), expected)


def test_samples_that_come_after_the_results_are_found(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "model", SCORES, with_samples=False)
    (record, _) = load_runs([tmp_path / "run"]).records
    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        assert index.tables(record) == ()
        write_run(tmp_path / "run", "model", SCORES)
        assert len(index.tables(record)) == 1


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    tmp_path: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(run: RunRecord, **options: Any) -> tuple[ItemTable, ...]:
        tables = read_item_tables(run, **options)
        write_run(tmp_path / "run", "model", {**SCORES, "one": [0, 0]})
        return tables

    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        monkeypatch.setattr(index_module, "read_item_tables", read)
        index.tables(record)
        monkeypatch.undo()
        assert len(index.tables(record)[0].keys) == 2
