"""The time of a start: the help text must come faster than torch."""

from __future__ import annotations

from suite.pipelines.bench.startup import COMMANDS, measure_startup


def test_help_comes_faster_than_an_import_of_torch() -> None:
    rows = {row.command: row for row in measure_startup(num_runs=1)}
    assert list(rows) == list(COMMANDS)
    assert len(rows) == 4
    assert {row.num_runs for row in rows.values()} == {1}
    assert rows["python -c pass"].ratio == 1
    assert rows["suite --help"].median_seconds < rows["import torch"].median_seconds
