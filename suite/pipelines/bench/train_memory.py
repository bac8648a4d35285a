"""Peak memory of a training step, in a process of its own.

`python -m suite.pipelines.bench.train_memory '{"problem": {...}, "cache": "...", "way": "sft"}'`
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from suite.errors import SuiteError
from suite.pipelines.bench.train_problem import TrainProblem, TrainTask, Way

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"


def peak_bytes(problem: TrainProblem, cache: Path, way: Way) -> int:
    """What a way adds to a process that has opened tokenizers and made the batch.

    The peak of a second step counts: a first one makes the optimiser's moments, and libraries take
    memory of their own.

    Args:
        problem: What is trained.
        cache: The folder of stored signals.
        way: How.

    Raises:
        SuiteError: The process failed.
    """
    request = json.dumps({"problem": asdict(problem), "cache": str(cache), "way": way})
    command = [sys.executable, "-m", "suite.pipelines.bench.train_memory", request]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise SuiteError(f"measuring the memory of a step ({way}) failed ({last[0]})")
    found: int = json.loads(done.stdout.splitlines()[-1])["peak_bytes"]
    return found


def measure_here(problem: TrainProblem, cache: Path, way: Way) -> int:
    """What `peak_bytes` gives, for this process."""
    on_cuda = problem.device.startswith("cuda")
    task = TrainTask(problem, cache)
    before = torch.cuda.memory_allocated() if on_cuda else _status("VmRSS")
    step = task.open(way)
    step()
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    _CLEAR.write_text(_RESET_PEAK, encoding="utf-8")
    step()
    return _status("VmHWM") - before


def can_measure(device: str) -> bool:
    """Whether the system tells the peak of a part of a process's life."""
    return device.startswith("cuda") or _CLEAR.is_file()


def _status(key: str) -> int:
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    raise SuiteError(f"{_STATUS} has no line {key}")


def main(request: str) -> None:
    """Measure what a request in JSON says; prints JSON."""
    wanted = json.loads(request)
    found = measure_here(TrainProblem(**wanted["problem"]), Path(wanted["cache"]), wanted["way"])
    print(json.dumps({"peak_bytes": found}))


if __name__ == "__main__":
    main(sys.argv[1])
