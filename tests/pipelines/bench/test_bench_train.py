"""`suite bench train`: its ratios, what it writes, and that all ways train on the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from suite.errors import ConfigError
from suite.pipelines.bench import train
from suite.pipelines.bench.train import TrainBench, record_train
from suite.pipelines.bench.train_memory import can_measure, peak_bytes
from suite.pipelines.bench.train_problem import WAYS, TrainProblem, TrainTask, store_signals
from suite.pipelines.bench.train_table import OverheadRow, TrainRow, overheads, render_train

PROBLEM = TrainProblem("random:tiny-bpe", "random:tiny-words", 2, 48, "cpu")
SMALL = {"model": PROBLEM.model, "target": PROBLEM.target, "rows": 2, "length": 48}
PEAKS = {"sft": 1000, "stored": 1010, "live": 1620, "teacher": 600}


def rows_of(peaks: dict[str, int] | None = None) -> list[TrainRow]:
    seconds = {"sft": 2.0, "stored": 2.2, "live": 2.7, "teacher": 0.5}
    given = peaks or {}
    return [TrainRow(way, 1, value, (value,), given.get(way)) for way, value in seconds.items()]


def test_a_step_is_compared_with_sft_and_a_live_teacher_with_the_sum_of_both():
    assert [(row.value, row.limit) for row in overheads(rows_of(PEAKS))] == [
        (pytest.approx(1.1), 1.15),
        (pytest.approx(2.7 / 2.5), 1.1),
        (pytest.approx(620 / 600), 1.1),
    ]


def test_memory_that_was_not_measured_has_no_ratio():
    assert overheads(rows_of())[2].value is None
    assert "| – |" in render_train(rows_of(), overheads(rows_of()), {})


@pytest.mark.parametrize(
    ("name", "value", "least"), [("rows", 0, 1), ("length", 15, 16), ("repeats", 0, 1)]
)
def test_a_size_that_is_too_small_is_refused(name, value, least):
    with pytest.raises(ConfigError) as error:
        TrainBench(**{name: value})
    assert str(error.value) == f"--{name} is {value}, expected at least {least}"


def test_more_rows_than_the_text_has_are_refused(tmp_path):
    with pytest.raises(ConfigError) as error:
        TrainTask(replace(PROBLEM, num_rows=1000, length=4096), tmp_path)
    assert str(error.value).startswith("--rows is 1000, but the text has ")
    assert str(error.value).endswith(" rows of 4096 tokens; give less")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TrainTask:
    cache = tmp_path_factory.mktemp("bench") / "cache"
    store_signals(PROBLEM, cache)
    return TrainTask(PROBLEM, cache)


def test_the_stored_teacher_says_what_the_live_one_says(task):
    signals = [
        task.teachers(way)[0].signal(task.batch.batch.teacher, task.batch.row_numbers).log_probs
        for way in ("live", "stored")
    ]
    assert torch.allclose(signals[0].token, signals[1].token, rtol=2e-3, atol=2e-3)
    assert signals[0].token.abs().sum() > 0


def test_every_way_but_the_teacher_alone_changes_the_student(task):
    model, _ = task.student()
    for way in WAYS:
        before = [parameter.detach().clone() for parameter in model.parameters()]
        task.open(way)()
        pairs = zip(before, model.parameters(), strict=True)
        is_changed = any(not torch.equal(old, new) for old, new in pairs)
        assert is_changed == (way != "teacher")


def test_the_files_have_a_row_for_each_way_and_ratio(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "peak_bytes", lambda problem, cache, way: PEAKS[way])
    monkeypatch.setattr(train, "can_measure", lambda device: True)
    lines: list[str] = []
    bench = TrainBench(**SMALL, repeats=2, device="cpu")
    record = record_train(bench, tmp_path / "out", lines.append)
    data = json.loads(record.files[0].read_text(encoding="utf-8"))["rows"]
    found = [row for row in data if "way" in row]
    assert [(row["way"], row["num_runs"], row["peak_bytes"]) for row in found] == [
        (way, 2, PEAKS[way]) for way in WAYS
    ]
    assert all(len(row["all_seconds"]) == 2 and row["seconds"] > 0 for row in found)
    assert [OverheadRow(**row) for row in data if "limit" in row] == overheads(
        [TrainRow(**row) for row in found]
    )
    assert record.markdown == record.files[1].read_text(encoding="utf-8")
    assert "Repeat with: suite bench train --model random:tiny-bpe" in record.markdown
    assert lines[0] == "storing the teacher's signals"


@pytest.mark.slow
@pytest.mark.skipif(not can_measure("cpu"), reason="the system does not tell peaks")
def test_the_memory_of_a_step_is_measured_in_a_process_of_its_own(tmp_path: Path):
    store_signals(PROBLEM, tmp_path / "cache")
    assert peak_bytes(PROBLEM, tmp_path / "cache", "teacher") > 0
    assert peak_bytes(PROBLEM, tmp_path / "cache", "sft") > 0
