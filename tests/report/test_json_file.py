from __future__ import annotations

import json
from dataclasses import asdict

from suite.records import Failure, Table
from suite.report.json_file import render_json


def test_reading_the_file_gives_the_table_unrounded(
    small_table: Table, failures: tuple[Failure, ...]
) -> None:
    content = json.loads(render_json(small_table, failures, ["runs/a.json"]))
    # Tuples become lists, so the table takes the same way.
    assert content["table"] == json.loads(json.dumps(asdict(small_table)))
    assert content["table"]["rows"][0]["cells"][0]["value"] == 1 / 3
    assert content["table"]["provenance"] == {"Seed": "0", "lm-eval": "0.4.13"}
    assert content["failures"] == [asdict(failures[0])]
    assert content["run_files"] == ["runs/a.json"]
    assert content["schema_version"] == 1
