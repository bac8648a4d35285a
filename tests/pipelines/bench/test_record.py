"""Measurement files: rows with the machine and versions they were taken with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from suite.errors import ConfigError
from suite.pipelines.bench.record import open_folder, write_record
from suite.pipelines.hardware import describe_hardware
from suite.pipelines.plan import versions


@dataclass(frozen=True)
class Row:
    name: str
    seconds: float


def test_a_record_holds_rows_hardware_and_versions(tmp_path: Path) -> None:
    path = write_record(tmp_path / "new" / "rows.json", [Row("grün", 1.5), Row("b", 2.0)])
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {
        "hardware": describe_hardware("cpu"),
        "versions": versions(),
        "rows": [{"name": "grün", "seconds": 1.5}, {"name": "b", "seconds": 2.0}],
    }
    assert "grün" in text
    assert text.endswith("}\n")
    assert [file.name for file in path.parent.iterdir()] == ["rows.json"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError) as error:
        open_folder(file / "below")
    assert str(error.value) == (
        f"cannot write to {file / 'below'} (Not a directory); give another --output"
    )


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.json").mkdir()
    with pytest.raises(ConfigError) as error:
        write_record(tmp_path / "rows.json", [])
    assert str(error.value) == f"cannot write to {tmp_path} (Is a directory); give another --output"
