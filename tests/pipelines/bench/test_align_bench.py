from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from suite.cli.main import main
from suite.pipelines.bench import align as bench
from suite.pipelines.bench.two_pointer import two_pointer_chunks


@given(
    stops=st.integers(1, 30).flatmap(
        lambda size: st.tuples(
            st.sets(st.integers(1, size)).map(lambda found: sorted(found | {size})),
            st.sets(st.integers(1, size)).map(lambda found: sorted(found | {size})),
        )
    )
)
def test_two_pointers_find_what_sets_find(stops: tuple[list[int], list[int]]) -> None:
    teacher, student = stops
    shared = sorted({*teacher} & {*student})
    chunks = two_pointer_chunks(teacher, student)
    assert [teacher[chunk[1] - 1] for chunk in chunks] == shared
    assert [student[chunk[3] - 1] for chunk in chunks] == shared
    assert [chunk[0] for chunk in chunks] == [0, *(chunk[1] for chunk in chunks[:-1])]
    assert [chunk[2] for chunk in chunks] == [0, *(chunk[3] for chunk in chunks[:-1])]


def test_the_record_names_every_measurement(
    tiny_model_merges: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "NUM_RUNS", 2)
    monkeypatch.setattr(bench, "LONG_BYTES", 5_000)
    novel, documents = tmp_path / "novel.txt", tmp_path / "documents.jsonl"
    novel.write_text("in the end, the thing\n" * 40, encoding="utf-8")
    documents.write_text('{"q": "the é", "n": 1, "a": "other"}\n{"q": "in"}\n', encoding="utf-8")
    arguments = ["--teacher", f"path:{tiny_model_merges}", "--novel", str(novel)]
    arguments += ["--documents", str(documents), "--output", str(tmp_path)]
    result = CliRunner().invoke(main, ["bench", "align", *arguments])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "align.json").read_text(encoding="utf-8"))
    by_name = {(row["what"], row.get("against")): row for row in record["rows"]}
    assert len(by_name) == len(record["rows"]) == 10
    novel_row = by_name["align_chunks", "two pointers over lists"]
    assert novel_row["num_bytes"] == 40 * 22
    assert novel_row["num_runs"] == 2
    assert novel_row["ratio"] > 0
    documents_row = by_name["align_chunks, one document a call", None]
    assert documents_row["num_bytes"] == len("the é\nother".encode()) + len(b"in")
    whole = by_name["suite align, whole process", None]
    assert whole["num_bytes"] == 5_000
    # A process that has imported torch holds more than this, whatever it aligned.
    assert whole["peak_bytes"] > 50_000_000
    assert by_name["align_chunks alone", None]["bytes_per_byte"] > 0


def test_documents_that_are_no_json_lines_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "documents.jsonl"
    file.write_text('{"q": "a"}\n\n[1]\n', encoding="utf-8")
    arguments = ["--novel", str(file), "--documents", str(file), "--output", str(tmp_path)]
    result = CliRunner().invoke(main, ["bench", "align", *arguments])
    assert result.exit_code == 2
    assert result.stderr == f"error: {file}: line 3 is no JSON object\n"
