"""The tables of `suite bench statistics`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from suite.pipelines.bench.statistics_coverage import ENUMERATED, CoverageRow
from suite.pipelines.bench.statistics_gate import GateRow

_ANSWERS = {None: "", True: "yes", False: "**no**"}


def render_statistics(
    coverage: Sequence[CoverageRow], gate: Sequence[GateRow], provenance: Mapping[str, str]
) -> str:
    """Both tables in Markdown, and how they were made."""
    alarms = [row for row in gate if row.measure == "false alarms"]
    flags = [row for row in gate if row.measure == "false flags"]
    power = [row for row in gate if row.measure == "power"]
    parts = [
        "# Statistics: what intervals cover and how often the gate is wrong",
        "## Coverage of intervals of nominal 95 %",
        "Demanded are at least 92 % of Wilson's interval, and 93 to 97 % of the t interval from 500"
        " items and of the bootstrap from 200 items on; of the exact interval for paired items at"
        " least 93 %, as it never claims more than the exact test.",
        _table(
            ("interval", "n", "truth", "by", "coverage %", "95 % limits", "as demanded"),
            map(_coverage_cells, coverage),
        ),
        "## False alarms in histories of 20 equally good checkpoints",
        "1,000 items a task; a history counts if any task of any look is reported as regressed."
        " Demanded of the gate is an upper 95 % limit of at most 6 %.",
        _table(
            ("rule", "tasks", "histories", "false alarms %", "95 % limits", "as demanded"),
            (_gate_cells(row) for row in alarms),
        ),
        "## Power at the minimum detectable effect that the gate prints",
        "A true drop of the size that the look before it printed. Demanded is that the 95 % limits"
        " reach 80 %.",
        _table(
            ("look", "tasks", "histories", "found %", "95 % limits", "as demanded"),
            (_power_cells(row) for row in power),
        ),
    ]
    if flags:
        parts += [
            "## Flags in histories of 20 equally good checkpoints",
            "Flags are no verdicts and are not corrected for looking often.",
            _table(
                ("flag", "tasks", "histories", "histories with it %", "95 % limits", "as demanded"),
                (_gate_cells(row) for row in flags),
            ),
        ]
    parts.append("\n".join(f"* {name}: {text}" for name, text in provenance.items()))
    return "\n\n".join(parts) + "\n"


def _coverage_cells(row: CoverageRow) -> tuple[str, ...]:
    limits = "" if row.found_by == ENUMERATED else _limits(row.low, row.high)
    answer = _ANSWERS[row.holds]
    return (
        row.interval,
        f"{row.n:,}",
        row.truth,
        row.found_by,
        f"{100 * row.coverage:.1f}",
        limits,
        answer,
    )


def _gate_cells(row: GateRow) -> tuple[str, ...]:
    return (row.rule, str(row.num_tasks), *_rate_cells(row))


def _power_cells(row: GateRow) -> tuple[str, ...]:
    return (str(row.look), str(row.num_tasks), *_rate_cells(row))


def _rate_cells(row: GateRow) -> tuple[str, ...]:
    rate = f"{100 * row.rate:.1f}"
    return (f"{row.num_histories:,}", rate, _limits(row.low, row.high), _ANSWERS[row.holds])


def _limits(low: float, high: float) -> str:
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in columns[1:])]
    rows = (columns, rule, *lines)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
