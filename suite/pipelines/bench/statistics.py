"""`suite bench statistics`: what intervals cover, and how often the gate cries wolf."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from suite.files import write_atomically
from suite.pipelines.bench.record import open_folder, write_record
from suite.pipelines.bench.statistics_coverage import QUICK, Effort, coverage_rows
from suite.pipelines.bench.statistics_gate import gate_rows
from suite.pipelines.bench.statistics_table import render_statistics
from suite.pipelines.hardware import describe_hardware


@dataclass(frozen=True, kw_only=True)
class StatisticsBench:
    """What is simulated.

    Attributes:
        quick: A tenth of it, for a look; too little to judge by.
    """

    quick: bool = False

    @property
    def effort(self) -> Effort:
        """How much is simulated."""
        return QUICK if self.quick else Effort()

    @property
    def command(self) -> str:
        """The call that repeats it."""
        return "suite bench statistics" + " --quick" * self.quick


@dataclass(frozen=True)
class StatisticsRecord:
    """The tables in Markdown, the files with rows and tables, and whether all is as demanded."""

    markdown: str
    files: tuple[Path, Path]
    holds: bool


def record_statistics(
    bench: StatisticsBench, output: Path, say: Callable[[str], None]
) -> StatisticsRecord:
    """Measure, and write `statistics.json` and `statistics.md` in a folder.

    Args:
        bench: What is simulated.
        output: The folder.
        say: Called with a line now and then.

    Raises:
        ConfigError: The folder cannot be written.
    """
    folder = open_folder(output)
    coverage = []
    for row in coverage_rows(bench.effort):
        say(f"{row.interval}, n = {row.n}, {row.truth}: {row.coverage:.1%}")
        coverage.append(row)
    gate = []
    for found in gate_rows(bench.effort):
        look = "" if found.look is None else f", look {found.look}"
        say(f"{found.measure}, {found.rule}, {found.num_tasks} tasks{look}: {found.rate:.1%}")
        gate.append(found)
    rows_file = write_record(folder / "statistics.json", [*coverage, *gate])
    provenance = {"Hardware": describe_hardware("cpu"), "Repeat with": bench.command}
    markdown = render_statistics(coverage, gate, provenance)
    write_atomically(folder / "statistics.md", markdown)
    judged = [*(row.holds for row in coverage), *(row.holds for row in gate)]
    return StatisticsRecord(
        markdown, (rows_file, folder / "statistics.md"), all(one is not False for one in judged)
    )
