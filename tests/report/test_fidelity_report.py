"""The fidelity record: its file, its tables, and what a damaged file says."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from suite.errors import RecordError
from suite.records import Estimate
from suite.report.fidelity import fidelity_console, render_fidelity, undefined_notes
from suite.report.fidelity_record import (
    FidelityModel,
    FidelityRecord,
    OwnFigures,
    TaskFidelity,
    TeacherFigures,
    TextFidelity,
    TextVersus,
    fidelity_json,
    read_fidelity,
)


def made(value: float | None, reason: str | None = None) -> Estimate:
    if value is None:
        return Estimate(None, None, None, 0.95, 40, "by hand", reason)
    return Estimate(value, value - 0.1, value + 0.1, 0.95, 40, "by hand")


def own(accuracy: float) -> OwnFigures:
    return OwnFigures(made(accuracy), made(0.2), made(0.7))


def versus(agreement: float, recovered: Estimate | None = None) -> TeacherFigures:
    return TeacherFigures(made(agreement), made(0.5), made(0.4), made(0.8), recovered)


def task(label: str, recovered: Estimate) -> TaskFidelity:
    return TaskFidelity(
        label,
        40,
        {"teacher": own(0.6), "before": own(0.3), "student": own(0.5)},
        {"before": versus(0.4), "student": versus(0.75, recovered)},
    )


@pytest.fixture
def record() -> FidelityRecord:
    reason = "the gap to the teacher cannot be told from 0"
    return FidelityRecord(
        models=(
            FidelityModel("teacher", "package:a", "bfloat16"),
            FidelityModel("before", "path:b", "float32"),
            FidelityModel("student", "path:c", "float32"),
        ),
        overall=task("all tasks", made(0.667)),
        tasks=(task("knowledge", made(None, reason)), task("lexical", made(None, reason))),
        text=TextFidelity(
            place="novel.txt",
            num_documents=1,
            num_bytes=2048,
            divergence="kl, binarization temperature 100",
            bits_per_byte={"teacher": 1.0, "before": 2.5, "student": 1.25},
            versus_teacher={
                "before": TextVersus(300, 0.0123, 3.5, 0.1),
                "student": TextVersus(300, 2e-5, 0.5, None),
            },
        ),
        notes=("generation is left out: its items have no options to compare.",),
        provenance={"Hardware": "a machine"},
    )


def test_a_file_that_was_written_is_read_back_as_it_was(record, tmp_path):
    path = tmp_path / "fidelity.json"
    path.write_text(fidelity_json(record), encoding="utf-8")
    assert read_fidelity(path) == record


def test_damaged_files_say_what_is_wrong(record, tmp_path):
    path = tmp_path / "fidelity.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(RecordError) as error:
        read_fidelity(path)
    assert str(error.value) == (
        f"{path}: not a readable file of suite fidelity (Expecting property name enclosed in double"
        " quotes: line 1 column 2 (char 1)); run the command again"
    )
    data = json.loads(fidelity_json(record))
    path.write_text(json.dumps(data | {"schema_version": 9}), encoding="utf-8")
    with pytest.raises(RecordError) as error:
        read_fidelity(path)
    assert str(error.value) == (
        f"{path}: has schema version 9, expected 1; run suite fidelity again"
    )
    data["text"]["num_bytes"] = "many"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(RecordError) as error:
        read_fidelity(path)
    assert str(error.value) == (
        f"{path}: text.num_bytes is damaged (Input should be a valid integer, unable to parse"
        " string as an integer); run suite fidelity again"
    )


def test_the_tables_hold_every_figure_with_its_interval(record):
    text = render_fidelity(record)
    assert "| accuracy % | 60.0 [50.0, 70.0] | 30.0 [20.0, 40.0] | 50.0 [40.0, 60.0] |" in text
    assert "| agreement % |  | 40.0 [30.0, 50.0] | 75.0 [65.0, 85.0] |" in text
    assert "| gap recovered % |  | – | 66.7 [56.7, 76.7] |" in text
    assert "| bits per byte | 1.0000 | 2.5000 | 1.2500 |" in text
    assert "| ALM divergence |  | 0.0123 | 2.00e-05 |" in text
    assert "| groups, correlation |  | 0.1000 | – |" in text
    assert "| knowledge | 40 | teacher | 60.0 [50.0, 70.0] |  |  |  |" in text
    assert "* student: `path:c`, float32" in text
    assert "generation is left out: its items have no options to compare." in text
    assert "* Hardware: a machine" in text


def test_what_is_undefined_is_explained_once(record):
    assert undefined_notes(record) == (
        "Without a value: gap recovered, student, on knowledge, lexical (the gap to the teacher"
        " cannot be told from 0).",
    )


def test_without_a_model_before_training_nothing_is_said_of_a_gap(record):
    def alone(one: TaskFidelity) -> TaskFidelity:
        figures = replace(one.versus_teacher["student"], recovered=None)
        roles = {role: one.own[role] for role in ("teacher", "student")}
        return replace(one, own=roles, versus_teacher={"student": figures})

    text = render_fidelity(
        replace(
            record,
            models=(record.models[0], record.models[2]),
            overall=alone(record.overall),
            tasks=tuple(map(alone, record.tasks)),
        )
    )
    assert "gap recovered %" not in text
    assert "before" not in text.split("Intervals have")[0]


def test_the_terminal_shows_the_same_in_eighty_characters(record):
    out = io.StringIO()
    Console(file=out, width=80).print(fidelity_console(record))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in out.getvalue()
    assert any(line.split() == ["knowledge", "40", "teacher", "60.0"] for line in lines)
