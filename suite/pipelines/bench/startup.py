"""How long `suite --help` takes, as a ratio to starting Python: it must not load torch."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from suite.pipelines.bench.record import open_folder, write_record

COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "suite --help": ("-m", "suite", "--help"),
    "suite run-benchmark --help": ("-m", "suite", "run-benchmark", "--help"),
    "import torch": ("-c", "import torch"),
}


@dataclass(frozen=True)
class StartupTime:
    """Median seconds of a command over `num_runs` runs, and its ratio to bare Python."""

    command: str
    median_seconds: float
    ratio: float
    num_runs: int


def record_startup(output: Path) -> Path:
    """Measure, and write `startup.json` in a folder; returns its path.

    Raises:
        ConfigError: The folder cannot be written.
    """
    return write_record(open_folder(output) / "startup.json", measure_startup())


def measure_startup(num_runs: int = 5) -> list[StartupTime]:
    """Time each command `num_runs` times, in turns, so that a slow moment hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(num_runs):
        for name, arguments in COMMANDS.items():
            run = partial(subprocess.run, check=True, capture_output=True)
            start = time.perf_counter()
            run([sys.executable, *arguments])
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    bare = medians["python -c pass"]
    return [StartupTime(name, median, median / bare, num_runs) for name, median in medians.items()]
