"""The index: read once, damaged or not, and nothing is lost with it."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_tables import SCORES, equal_tables
from written_runs import write_run

from suite.errors import RecordError
from suite.records import RunRecord
from suite.results import index as index_module
from suite.results.importer import load_runs
from suite.results.index import SCHEMA_VERSION, ResultsIndex
from suite.results.item_columns import DamagedColumnsError, pack_table, unpack_table
from suite.results.item_table import ItemTable
from suite.results.samples_file import read_item_tables


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    write_run(tmp_path / "run", "model", SCORES)
    return load_runs([tmp_path / "run"]).records[0]


@pytest.fixture
def forbid_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make reading a samples file an error."""

    def parse(*_: object, **__: object) -> None:
        raise AssertionError("a samples file is parsed")

    monkeypatch.setattr(index_module, "read_item_tables", parse)


def test_a_second_look_at_unchanged_files_parses_nothing(
    tmp_path: Path, record: RunRecord, request: pytest.FixtureRequest
) -> None:
    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        first = index.tables(record)
    request.getfixturevalue("forbid_parsing")
    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        assert equal_tables(index.tables(record), first)
    assert equal_tables(first, read_item_tables(record))


def test_a_group_of_one_file_shares_the_tables_of_its_single_tasks(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    block = {"acc,none": 0.5, "acc_stderr,none": 0.1}
    write_run(
        tmp_path / "run",
        "model",
        SCORES,
        results=dict.fromkeys(("both", *SCORES), block),
        group_subtasks={"both": list(SCORES)},
    )
    records = {record.label: record for record in load_runs([tmp_path / "run"]).records}
    expected = read_item_tables(records["both"])
    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        rebuilt = index.rebuild([tmp_path / "run"], lambda _: None)
        request.getfixturevalue("forbid_parsing")
        assert equal_tables(index.tables(records["both"]), expected)
        assert equal_tables(index.tables(records["two"]), expected[1:])
    assert (rebuilt.num_runs, rebuilt.num_lines) == (2, 7)


def test_tables_by_another_cluster_field_are_kept_apart(tmp_path: Path, record: RunRecord) -> None:
    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        plain = index.tables(record)
        asked = index.tables(record, cluster_field="question")
        assert equal_tables(asked, read_item_tables(record, cluster_field="question"))
        assert equal_tables(index.tables(record), plain)


def test_a_damaged_samples_file_is_an_error_and_is_not_kept(
    tmp_path: Path, record: RunRecord
) -> None:
    samples = next((tmp_path / "run").glob("samples_one*"))
    samples.write_text(samples.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        for _ in range(2):
            with pytest.raises(RecordError, match="is cut off"):
                index.tables(record)


def test_the_index_lies_in_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    with ResultsIndex.open() as index:
        assert index.path == tmp_path / "cache" / "results-index.sqlite"


@pytest.mark.parametrize("damage", ["no database", "torn page", "other columns"])
def test_a_damaged_index_is_made_anew(
    tmp_path: Path, record: RunRecord, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = tmp_path / "index.sqlite"
    with ResultsIndex.open(path) as index:
        expected = index.tables(record)
    if damage == "no database":
        path.write_bytes(b"This is no database." * 100)
    elif damage == "torn page":
        content = bytearray(path.read_bytes())
        content[4096:] = b"\xff" * (len(content) - 4096)
        path.write_bytes(content)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE item_table SET columns = x'00'")
        connection.close()
    with ResultsIndex.open(path) as index:
        assert equal_tables(index.tables(record), expected)
        assert equal_tables(index.tables(record), expected)
    assert caplog.messages == [f"{path} is damaged and is made again"]
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM run").fetchone() == (1,)
    connection.close()


def test_an_index_of_another_version_is_made_anew(
    tmp_path: Path, record: RunRecord, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "index.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE run (something TEXT)")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with ResultsIndex.open(path) as index:
        assert len(index.tables(record)) == 1
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM item_table").fetchone() == (1,)
    connection.close()
    assert caplog.messages == []


def test_without_a_place_for_the_index_files_are_read_and_one_warning_says_so(
    tmp_path: Path, record: RunRecord, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    path = tmp_path / "file" / "index.sqlite"
    with ResultsIndex.open(path) as index:
        assert equal_tables(index.tables(record), read_item_tables(record))
        index.mirror_entries([{"series": "s"}])
        assert index.entries() == ()
    assert caplog.messages == [
        f"{path}: cannot be used (File exists), so samples files are read each time;"
        " set SUITE_CACHE to a folder that can be written"
    ]


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        pytest.param("query_only = ON", "attempt to write a readonly database", id="read-only"),
        pytest.param("max_page_count = 1", "database or disk is full", id="full"),
    ],
)
def test_an_index_that_cannot_be_written_is_still_read(
    tmp_path: Path,
    record: RunRecord,
    caplog: pytest.LogCaptureFixture,
    limit: str,
    reason: str,
) -> None:
    path = tmp_path / "index.sqlite"
    with ResultsIndex.open(path) as index:
        kept = index.tables(record)
    (_, other) = load_runs([tmp_path / "run"]).records
    with ResultsIndex.open(path) as index:
        assert index._connection is not None
        index._connection.execute(f"PRAGMA {limit}")
        big: dict[str, Any] = {"scores": list(range(5_000))}
        index.mirror_entries([big])
        assert len(index.tables(other)) == 1
        assert equal_tables(index.tables(record), kept)
    assert caplog.messages == [
        f"{path}: cannot be used ({reason}), so samples files are read each time;"
        " set SUITE_CACHE to a folder that can be written"
    ]


def test_a_rebuild_of_a_deleted_index_gives_the_same_tables(tmp_path: Path) -> None:
    for name, values in (("a", [1, 0, 1]), ("b", [0, 1, 1])):
        write_run(tmp_path / "runs" / name, name, {"one": values, "two": values})
    records = load_runs([tmp_path / "runs"]).records
    path = tmp_path / "index.sqlite"
    with ResultsIndex.open(path) as index:
        before = [index.tables(record) for record in records]
    for file in tmp_path.glob("index.sqlite*"):
        file.unlink()
    counted: list[int] = []
    with ResultsIndex.open(path) as index:
        rebuilt = index.rebuild([tmp_path / "runs"], counted.append)
    assert (rebuilt.num_runs, rebuilt.num_lines, rebuilt.notes) == (4, 12, ())
    assert rebuilt.seconds > 0
    assert counted == [3, 3, 3, 3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "read_item_tables", None)
        with ResultsIndex.open(path) as index:
            after = [index.tables(record) for record in records]
    assert all(map(equal_tables, before, after))


def test_a_rebuild_notes_damaged_runs_and_keeps_entries(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "model", SCORES)
    samples = next((tmp_path / "runs").glob("samples_two*"))
    samples.write_text("{", encoding="utf-8")
    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        index.mirror_entries([{"series": "s", "step": 1}])
        rebuilt = index.rebuild([tmp_path / "runs"], lambda _: None)
        assert index.entries() == ({"series": "s", "step": 1},)
    assert (rebuilt.num_runs, rebuilt.num_lines) == (1, 4)
    assert rebuilt.notes == (f"{samples}: line 1, the last, is cut off; evaluate the task again",)


def test_a_rebuild_of_folders_without_results_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        assert index.rebuild([], lambda _: None).notes == ()
        rebuilt = index.rebuild([tmp_path / "empty"], lambda _: None)
    assert (rebuilt.num_runs, rebuilt.num_lines) == (0, 0)
    assert rebuilt.notes == (
        f"{tmp_path / 'empty'}: holds no results file (results_*.json); name a folder that lm-eval"
        " wrote",
    )


def test_entries_are_mirrored_whole_and_found_by_series(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = [
        {"series": "s", "step": 2},
        {"series": "t", "name": "ü"},
        {"series": "s", "step": 1},
    ]
    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        index.mirror_entries([{"series": "old"}])
        index.mirror_entries(entries)
    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        assert index.entries() == tuple(entries)
        assert index.entries("s") == (entries[0], entries[2])
        assert index.entries("old") == ()


WRITER = """
import sys
from pathlib import Path
from suite.results.importer import load_runs
from suite.results.index import ResultsIndex
with ResultsIndex.open(Path(sys.argv[1])) as index:
    for record in load_runs([Path(sys.argv[2])]).records:
        index.tables(record)
"""


def test_two_processes_fill_one_index_at_once(tmp_path: Path, forbid_parsing: None) -> None:
    path = tmp_path / "index.sqlite"
    folders = [tmp_path / "runs" / name for name in "ab"]
    for folder in folders:
        write_run(folder, folder.name, {f"task{i}": [1, 0, 1] for i in range(20)})
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(folder)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for folder in folders
    ]
    assert [writer.communicate(timeout=60)[1] for writer in writers] == ["", ""]
    with ResultsIndex.open(path) as index:
        for record in load_runs(folders).records:
            assert len(index.tables(record)) == 1


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
floats = st.floats(allow_nan=True, width=64)


@settings(max_examples=30)
@given(st.data(), st.integers(0, 5), st.booleans())
def test_a_packed_table_is_unpacked_as_it_was(
    data: st.DataObject, n: int, has_clusters: bool
) -> None:
    def numbers() -> Any:
        return np.array(data.draw(st.lists(floats, min_size=n, max_size=n)), dtype=np.float64)

    def hashes(width: int) -> Any:
        values = st.binary(min_size=0, max_size=width)
        return np.array(data.draw(st.lists(values, min_size=n, max_size=n)), dtype=f"S{width}")

    table = ItemTable(
        task=data.draw(names),
        filter=data.draw(names),
        keys=hashes(36),
        doc_ids=np.arange(n, dtype=np.int64),
        prompts=hashes(32),
        metrics={name: numbers() for name in data.draw(st.lists(names, max_size=3, unique=True))},
        weights={name: numbers() for name in data.draw(st.lists(names, max_size=2, unique=True))},
        answers=hashes(32),
        confidence=numbers(),
        clusters=hashes(32) if has_clusters else None,
        answers_by_length={"acc_norm": hashes(32)},
    )
    found = unpack_table(table.task, table.filter, pack_table(table))
    assert equal_tables((found,), (table,))
    assert found.keys.flags.writeable


@pytest.mark.parametrize("packed", [b"", b"no zlib", b"x" * 1_000])
def test_bytes_that_are_no_table_are_told_apart(packed: bytes) -> None:
    with pytest.raises(DamagedColumnsError):
        unpack_table("task", "none", packed)


def test_a_torn_table_is_told_apart(tmp_path: Path, record: RunRecord) -> None:
    packed = pack_table(read_item_tables(record)[0])
    with pytest.raises(DamagedColumnsError):
        unpack_table("task", "none", packed[:-4])


@pytest.mark.slow
def test_a_rebuild_reads_twenty_thousand_lines_a_second(tmp_path: Path) -> None:
    scores = [i % 3 == 0 for i in range(2_000)]
    write_run(tmp_path / "runs", "model", {f"task{i}": scores for i in range(20)})
    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        rebuilt = index.rebuild([tmp_path / "runs"], lambda _: None)
    assert rebuilt.num_lines == 40_000
    print(json.dumps({"lines a second": rebuilt.num_lines / rebuilt.seconds}))
    assert rebuilt.num_lines / rebuilt.seconds > 20_000


def test_reading_logs_nothing(
    tmp_path: Path, record: RunRecord, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with ResultsIndex.open(tmp_path / "index.sqlite") as index:
        index.tables(record)
    assert caplog.messages == []
