"""`suite bench statistics`: its rows by other ways, and what it says of them."""

from __future__ import annotations

import json
import math

import pytest
from click.testing import CliRunner

from suite.cli.main import main
from suite.pipelines.bench import statistics as bench_module
from suite.pipelines.bench.statistics import StatisticsBench, record_statistics
from suite.pipelines.bench.statistics_coverage import CoverageRow, Effort, coverage_rows
from suite.pipelines.bench.statistics_gate import (
    GateRow,
    flag_rates,
    gate_rows,
    uncorrected_rate,
)
from suite.pipelines.bench.statistics_table import render_statistics
from suite.stats.gate_simulation import SimulatedGate

LITTLE = Effort(data_sets=60, resamples=100, histories=20)


def normal_coverage(n: int, p: float) -> float:
    """By a plain sum over all outcomes."""
    covered = 0.0
    for number in range(n + 1):
        share = number / n
        distance = 1.959963984540054 * math.sqrt(share * (1 - share) / n)
        if share - distance <= p <= share + distance:
            covered += math.comb(n, number) * p**number * (1 - p) ** (n - number)
    return covered


@pytest.fixture(scope="module")
def coverage() -> list[CoverageRow]:
    return list(coverage_rows(LITTLE))


def test_every_demanded_case_has_a_row(coverage):
    cases = {(row.interval, row.n, row.truth) for row in coverage}
    assert len(cases) == len(coverage)
    for n in (50, 200, 1000):
        for share in ("0.02", "0.5", "0.98"):
            assert ("Wilson", n, f"p = {share}") in cases
    for name, sizes in (("t", (500, 1000)), ("percentile bootstrap, 100 resamples", (200, 500))):
        for n in sizes:
            for share in ("0.1", "0.3", "0.5", "0.9"):
                assert (name, n, f"p = {share}") in cases


def test_wilson_covers_what_is_demanded_and_the_textbook_interval_does_not(coverage):
    wilson = [row for row in coverage if row.interval == "Wilson"]
    assert all(row.holds and row.coverage >= 0.92 for row in wilson)
    normal = {(row.n, row.truth): row for row in coverage if row.interval.startswith("normal")}
    assert normal[50, "p = 0.02"].coverage == pytest.approx(normal_coverage(50, 0.02))
    assert normal[200, "p = 0.5"].coverage == pytest.approx(normal_coverage(200, 0.5))
    assert normal[50, "p = 0.02"].coverage < 0.7
    assert {row.holds for row in normal.values()} == {None}


def test_the_documents_true_bits_per_byte_are_those_of_many_documents(coverage):
    rows = [row for row in coverage if row.interval.startswith("document bootstrap")]
    # A wrong truth would be covered by none of the narrow intervals.
    assert all(row.coverage > 0.8 for row in rows)


def test_without_correction_nearly_every_history_has_a_false_alarm():
    gate = SimulatedGate(num_looks=8, num_items=200, num_tasks=3)
    previous = uncorrected_rate(gate, "previous", num_histories=60)
    pinned = uncorrected_rate(gate, "pinned", num_histories=60)
    assert previous.value > pinned.value > 0.3
    one_look = SimulatedGate(num_looks=1, num_items=200)
    assert uncorrected_rate(one_look, "pinned", num_histories=400).value < 0.1


def test_equally_good_checkpoints_are_rarely_flagged():
    rates = flag_rates(SimulatedGate(num_items=200), num_histories=40)
    assert set(rates) == {"slow drift", "implausible jump"}
    assert rates["slow drift"].value < 0.2
    assert rates["implausible jump"].value == 0


def test_the_gate_has_a_row_for_each_rule_and_look():
    rows = list(gate_rows(Effort(histories=2)))
    measures = [(row.measure, row.num_tasks, row.look) for row in rows]
    assert measures.count(("false alarms", 1, None)) == 6
    assert measures.count(("false alarms", 5, None)) == 6
    assert [m for m in measures if m[0] == "power"] == [
        ("power", num_tasks, look) for num_tasks in (1, 5) for look in (1, 5, 20)
    ]
    assert measures.count(("false flags", 1, None)) == 2


def test_the_files_and_the_verdict_follow_from_the_rows(tmp_path, monkeypatch):
    good = CoverageRow("t", 500, "p = 0.5", "2,000 data sets", 0.95, 0.94, 0.96, 0.93, 0.97)
    bad = GateRow("false alarms", "gate", 1, None, 2000, 0.07, 0.06, 0.08, False)
    monkeypatch.setattr(bench_module, "coverage_rows", lambda effort: iter([good]))
    said: list[str] = []
    for gate, holds in (([], True), ([bad], False)):
        monkeypatch.setattr(bench_module, "gate_rows", lambda effort, rows=gate: iter(rows))
        record = record_statistics(StatisticsBench(quick=True), tmp_path, said.append)
        assert record.holds is holds
    assert "t, n = 500, p = 0.5: 95.0%" in said
    assert json.loads(record.files[0].read_text(encoding="utf-8"))["rows"][1]["rate"] == 0.07
    text = record.files[1].read_text(encoding="utf-8")
    assert text == record.markdown
    assert "| gate | 1 | 2,000 | 7.0 | [6.0, 8.0] | **no** |" in text
    assert "* Repeat with: suite bench statistics --quick" in text


def test_a_coverage_beyond_its_bounds_is_marked():
    low = CoverageRow("t", 500, "p = 0.5", "2,000 data sets", 0.92, 0.91, 0.93, 0.93, 0.97)
    text = render_statistics([low], [], {})
    assert "| t | 500 | p = 0.5 | 2,000 data sets | 92.0 | [91.0, 93.0] | **no** |" in text


def test_the_command_fails_where_a_figure_is_not_as_demanded(tmp_path, monkeypatch):
    bad = CoverageRow("t", 500, "p = 0.5", "2,000 data sets", 0.5, 0.4, 0.6, 0.93, 0.97)
    monkeypatch.setattr(bench_module, "coverage_rows", lambda effort: iter([bad]))
    monkeypatch.setattr(bench_module, "gate_rows", lambda effort: iter([]))
    call = ["bench", "statistics", "--output", str(tmp_path)]
    result = CliRunner().invoke(main, call)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "error: a figure is not as demanded; the tables say which"
    )
    # Too little is simulated to judge by.
    assert CliRunner().invoke(main, [*call, "--quick"]).exit_code == 0
