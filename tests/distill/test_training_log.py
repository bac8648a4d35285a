"""The log of a run, and what trackers are told."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from suite.distill.distribute import open_accelerator
from suite.distill.training_log import LOG_NAME, TrainingLog, read_log
from suite.errors import CheckpointError, ConfigError

LINE = {"kind": "step", "step": 3, "losses": {"alm": 0.5, "sft": None}, "seconds": 0.1}


def log_in(folder: Path | None, **options: Any) -> TrainingLog:
    console = Console(file=io.StringIO())
    return TrainingLog(folder, console, 10, **{"from_step": 0, **options})


def test_lines_are_read_as_they_were_written(tmp_path):
    log_in(tmp_path).write(LINE)
    assert read_log(tmp_path) == [LINE]


def test_a_line_that_a_kill_cut_off_is_left_out_and_replaced(tmp_path):
    text = json.dumps(LINE) + "\n" + json.dumps(LINE)[:20]
    (tmp_path / LOG_NAME).write_text(text, encoding="utf-8")
    assert read_log(tmp_path) == [LINE]
    log_in(tmp_path, from_step=3).write(LINE | {"step": 4})
    assert [line["step"] for line in read_log(tmp_path)] == [3, 4]


def test_lines_behind_the_step_a_run_goes_on_from_are_taken_out(tmp_path):
    log = log_in(tmp_path)
    for step in range(1, 6):
        log.write(LINE | {"step": step})
    log_in(tmp_path, from_step=2)
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2]


def test_a_process_that_writes_nothing_has_no_log(tmp_path):
    log_in(None).write(LINE)
    assert not list(tmp_path.iterdir())


def test_a_new_run_keeps_nothing_of_one_that_was_never_saved(tmp_path):
    log_in(tmp_path).write(LINE | {"step": 0})
    log_in(tmp_path)
    assert read_log(tmp_path) == []


def test_a_disk_that_is_full_is_one_sentence(tmp_path, monkeypatch):
    log = log_in(tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(CheckpointError) as caught:
        log.write(LINE)
    assert str(caught.value) == (
        f"{tmp_path / LOG_NAME}: cannot be written (No space left on device); what is saved is"
        " kept: make room, then go on with --resume"
    )


def test_trackers_are_told_every_number_by_its_name(tmp_path):
    told = []
    log_in(tmp_path, track=lambda numbers, step: told.append((numbers, step))).write(LINE)
    assert told == [({"step/losses/alm": 0.5, "step/seconds": 0.1}, 3)]


def test_without_a_terminal_a_line_now_and_then_tells_how_far_a_run_is(tmp_path, monkeypatch):
    log = log_in(tmp_path)
    monkeypatch.setattr("suite.distill.training_log.SECONDS_BETWEEN_LINES", 0.0)
    with log:
        log.advance(2, {"alm": 0.25, "sft": None}, 100)
    shown = log.console.file.getvalue()
    assert shown.startswith("step 2 of 10: alm 0.25 · ")
    assert "tokens/s, about 1 min left" in shown


def test_a_tracker_that_is_not_installed_is_one_sentence(monkeypatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [])
    with pytest.raises(ConfigError) as caught:
        open_accelerator("cpu", ["trackio"])
    assert str(caught.value) == (
        "training.trackers: trackio is not installed; run: pip install trackio"
    )
