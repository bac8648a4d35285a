from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from suite.errors import ConfigError
from suite.records import Failure, Sample, Table
from suite.report import write
from suite.report.write import write_report

NAMES = {"table.md", "table.tex", "table.csv", "table.svg", "results.json", "index.html"}


def test_every_format_is_written_and_nothing_else(
    small_table: Table, failures: tuple[Failure, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "folder"
    paths = write_report(small_table, [], failures, [], folder)
    assert {path.name for path in paths} == NAMES
    assert {path.name for path in folder.iterdir()} == NAMES
    assert all(path.stat().st_size > 0 for path in paths)


def test_a_second_report_replaces_the_first(small_table: Table, tmp_path: Path) -> None:
    write_report(small_table, [], (), [], tmp_path)
    write_report(replace(small_table, title="A new title"), [], (), [], tmp_path)
    assert (tmp_path / "table.md").read_text(encoding="utf-8").startswith("# A new title\n")


def test_lone_surrogates_in_answers_can_be_written(small_table: Table, tmp_path: Path) -> None:
    sample = Sample("teacher", "arc_easy", "p", "t", "broken \udc80 byte", 0.0)
    write_report(small_table, [sample], (), [], tmp_path)
    assert r"broken \udc80 byte" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_place_that_is_no_folder_is_one_sentence(small_table: Table, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write to .*file \(.+\); give another --output"):
        write_report(small_table, [], (), [], tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_one_sentence(small_table: Table, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match=r"\(Permission denied\); give another --output"):
        write_report(small_table, [], (), [], tmp_path)


def test_a_format_that_cannot_be_made_leaves_the_earlier_report(
    small_table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(small_table, [], (), [], tmp_path)

    def broken(*_: object, **__: object) -> str:
        raise ValueError("a bug")

    monkeypatch.setattr(write, "render_html", broken)
    with pytest.raises(ValueError, match="a bug"):
        write_report(replace(small_table, title="A new title"), [], (), [], tmp_path)
    assert "A new title" not in (tmp_path / "table.md").read_text(encoding="utf-8")
