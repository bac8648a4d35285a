"""`suite bench report`: reports, comparisons and checks over many runs, and what they need."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from suite.errors import ConfigError, SuiteError
from suite.files import write_atomically
from suite.pipelines.bench.record import open_folder, write_record
from suite.pipelines.bench.report_table import ReportRow, render_report
from suite.pipelines.bench.report_tree import TreeSize
from suite.pipelines.hardware import describe_hardware

LEAST_LINES_A_SECOND = 20_000
MOST_SECONDS = 60.0
MOST_BYTES = 2 * 10**9
# Of a sample line, for the check that the disk has room for the tree and the index.
_BYTES_A_LINE = 1_700
_INDEX, _REPORT = "suite track index --rebuild", "suite report, with index"


@dataclass(frozen=True, kw_only=True)
class ReportBench:
    """What is measured.

    Attributes:
        models: Invented, at least 2.
        tasks: Of each model.
        items: Of each task.
        repeats: Reports from the index; the median counts.
    """

    models: int = 20
    tasks: int = 30
    items: int = 2000
    repeats: int = 3

    def __post_init__(self) -> None:
        for name, least in {"models": 2, "tasks": 1, "items": 10, "repeats": 1}.items():
            if getattr(self, name) < least:
                raise ConfigError(f"--{name} is {getattr(self, name)}, expected at least {least}")

    @property
    def size(self) -> TreeSize:
        """Of the tree."""
        return TreeSize(self.models, self.tasks, self.items)

    @property
    def command(self) -> str:
        """The call that repeats it."""
        given = {
            name: value for name, value in vars(self).items() if value != getattr(type(self), name)
        }
        return " ".join(
            ["suite bench report", *(f"--{name} {value}" for name, value in given.items())]
        )


@dataclass(frozen=True)
class ReportRecord:
    """The table in Markdown, the files with rows and table, and whether all bounds hold."""

    markdown: str
    files: tuple[Path, Path]
    holds: bool


def record_report(bench: ReportBench, output: Path, say: Callable[[str], None]) -> ReportRecord:
    """Invent a tree of results, measure, and write `report.json` and `report.md` in a folder.

    The tree and the index are removed at the end.

    Args:
        bench: What is measured.
        output: The folder.
        say: Called with a line at each step.

    Raises:
        SuiteError: A command failed.
        ConfigError: The folder cannot be written, or the disk for temporary files has no room.
    """
    folder = open_folder(output)
    with tempfile.TemporaryDirectory(prefix="suite-bench-report-") as name:
        work = Path(name)
        _check_room(work, bench.size)
        rows = _measure(bench, work, say)
    rows_file = write_record(folder / "report.json", rows)
    size = bench.size
    provenance = {
        "Tree": f"{size.models} models x {size.tasks} tasks x {size.items:,} items,"
        f" {size.num_lines:,} sample lines, invented",
        "Hardware": describe_hardware("cpu"),
        "Repeat with": bench.command,
    }
    markdown = render_report(rows, provenance)
    write_atomically(folder / "report.md", markdown)
    holds = all(row.holds is not False for row in rows)
    return ReportRecord(markdown, (rows_file, folder / "report.md"), holds)


def _check_room(work: Path, size: TreeSize) -> None:
    needed = size.num_lines * _BYTES_A_LINE
    free = shutil.disk_usage(work).free
    if free < needed:
        raise ConfigError(
            f"{work.parent}: {free / 1e9:.1f} GB are free, and the tree needs {needed / 1e9:.1f};"
            " set TMPDIR to a larger disk, or give fewer --models"
        )


def _measure(bench: ReportBench, work: Path, say: Callable[[str], None]) -> list[ReportRow]:
    size, tree = bench.size, work / "tree"
    sizes = [str(number) for number in (size.models, size.tasks, size.items)]
    module = "suite.pipelines.bench.report_tree"
    say(f"inventing {size.num_lines:,} sample lines")
    _run("inventing the tree", [sys.executable, "-m", module, str(tree), *sizes], work)
    models = sorted(tree.iterdir())
    suite = [sys.executable, "-m", "suite"]
    report = ["report", str(tree), "--output"]
    say("suite report, without index")
    first = _run("suite report, without index", [*suite, *report, str(work / "first")], work)
    shutil.rmtree(work / "cache", ignore_errors=True)
    rows = [replace(first, num_models=size.models)]
    say(_INDEX)
    index = _run(_INDEX, [*suite, "track", "index", "--rebuild", str(tree)], work)
    rate = size.num_lines / index.seconds
    rows.append(
        replace(
            index,
            num_models=size.models,
            lines_a_second=rate,
            holds=rate >= LEAST_LINES_A_SECOND,
        )
    )
    say(_REPORT)
    found = [
        _run(_REPORT, [*suite, *report, str(work / f"report-{number}")], work)
        for number in range(bench.repeats)
    ]
    rows.append(_bounded(_median(found), size.models))
    for name, arguments in _pairs(models, work):
        say(name)
        rows.append(replace(_run(name, [*suite, *arguments], work), num_models=2))
    return rows


def _pairs(models: Sequence[Path], work: Path) -> Iterable[tuple[str, list[str]]]:
    """Commands over two of the models; those of a series, one after the other."""
    best, worse = str(models[-1]), str(models[0])
    store = ["--store", str(work / "store")]
    yield "suite compare", ["compare", worse, best]
    yield "suite track pin", ["track", "pin", worse, "--series", "s", *store]
    yield "suite track add", ["track", "add", best, "--series", "s", "--step", "1", *store]
    yield "suite track check", ["track", "check", "s", *store]


def _median(rows: Sequence[ReportRow]) -> ReportRow:
    return replace(
        rows[0],
        seconds=statistics.median(row.seconds for row in rows),
        cpu_seconds=statistics.median(row.cpu_seconds for row in rows),
        peak_bytes=max(row.peak_bytes for row in rows),
        num_runs=len(rows),
    )


def _bounded(row: ReportRow, num_models: int) -> ReportRow:
    holds = row.seconds < MOST_SECONDS and row.peak_bytes < MOST_BYTES
    return replace(row, num_models=num_models, holds=holds)


def _run(name: str, command: Sequence[str], work: Path) -> ReportRow:
    """Run a command with a cache of its own; its time and the peak of its memory.

    Raises:
        SuiteError: It failed.
    """
    environment: Mapping[str, str] = os.environ | {"SUITE_CACHE": str(work / "cache")}
    with (work / "output.txt").open("w+", encoding="utf-8") as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=work
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            last = log.read().strip().splitlines()[-1:] or ["no output"]
            raise SuiteError(f"{name} failed with exit code {process.returncode} ({last[0]})")
    # A child's peak is never below what this process holds, so nothing large is imported here.
    # Linux counts in kibibytes, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return ReportRow(name, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)
