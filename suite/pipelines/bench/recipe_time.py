"""How long a recipe takes from nothing: no converted models, no results, a process of its own."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from suite.errors import SuiteError
from suite.pipelines.bench.record import open_folder, write_record
from suite.results.importer import load_results

REPORT_FILES = (
    "table.md",
    "table.tex",
    "table.csv",
    "table.svg",
    "results.json",
    "index.html",
)


@dataclass(frozen=True)
class RecipeTime:
    """Wall seconds of the whole command, and of the scoring in it; peak memory in GB.

    What lies between the two is finding, converting and loading models, and building tasks.
    """

    recipe: str
    seconds: float
    scoring_seconds: float
    num_pairs: int
    peak_gigabytes: float


def record_recipe_time(recipe: str, output: Path) -> Path:
    """Measure, and write `timing.json` beside the recipe's report; returns its path.

    Raises:
        SuiteError: The run failed, or the folder cannot be written.
    """
    open_folder(output)
    return write_record(output / "timing.json", [measure_recipe(recipe, output)])


def measure_recipe(recipe: str, keep: Path) -> RecipeTime:
    """Run a recipe with an empty cache and output folder; its report is copied to `keep`.

    Raises:
        SuiteError: The run failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        environment = os.environ | {"SUITE_CACHE": str(Path(folder) / "cache")}
        command = [sys.executable, "-m", "suite", "run-benchmark", recipe, "--output", str(output)]
        start = time.perf_counter()
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
        seconds = time.perf_counter() - start
        if done.returncode != 0:
            raise SuiteError(f"recipe {recipe} ended with exit code {done.returncode}")
        runs = load_results(output)
        keep.mkdir(parents=True, exist_ok=True)
        for name in REPORT_FILES:
            shutil.copyfile(output / name, keep / name)
    # Kilobytes on Linux; macOS counts bytes.
    unit = 1e9 if sys.platform == "darwin" else 1e6
    return RecipeTime(
        recipe=recipe,
        seconds=seconds,
        scoring_seconds=sum(run.seconds for run in runs),
        num_pairs=len(runs),
        peak_gigabytes=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit,
    )
