"""Memory that token log-probabilities add beyond what they are given and return.

On a CPU the peak of a process counts, so each measurement has one of its own:
`python -m suite.pipelines.bench.loss_memory '{"name": "plain", "has_boundary": true, ...}'`.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from suite.errors import SuiteError, is_out_of_memory
from suite.pipelines.bench.loss_contenders import Contender, Results
from suite.pipelines.bench.loss_problem import Case, Inputs

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"
# Libraries take their own memory at the first call.
_WARM_UP = 32


def added_bytes(contender: Contender, case: Case) -> int | None:
    """Peak of forward and backward on the CPU, in a process of its own; None if out of memory.

    Raises:
        SuiteError: The process failed.
    """
    request = json.dumps({"contender": asdict(contender), "case": asdict(case)})
    command = [sys.executable, "-m", "suite.pipelines.bench.loss_memory", request]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == -signal.SIGKILL:
        return None
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise SuiteError(f"measuring the memory of {contender.name} failed ({last[0]})")
    found: int | None = json.loads(done.stdout)["added_bytes"]
    return found


def cuda_added_bytes(contender: Contender, inputs: Inputs) -> int:
    """The same on a CUDA device, in this process; the contender must have run before."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    returned = _num_bytes(Results.of(contender, inputs))
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before - returned


def measure_here(contender: Contender, case: Case) -> int | None:
    """What `added_bytes` gives, for this process; None if out of memory."""
    small = replace(case, num_tokens=_WARM_UP, hidden_size=_WARM_UP, vocab_size=_WARM_UP)
    Results.of(contender, Inputs.of(small))
    try:
        inputs = Inputs.of(case)
        before = _start_peak()
        returned = _num_bytes(Results.of(contender, inputs))
    except RuntimeError as error:
        if is_out_of_memory(error):
            return None
        raise
    return _peak() - before - returned


def _start_peak() -> int:
    """Begin a new peak where the system can; returns the bytes it is counted from."""
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="utf-8")
    except OSError:
        return _peak()
    return _status("VmRSS")


def _peak() -> int:
    if _STATUS.is_file():
        return _status("VmHWM")
    # Linux counts in kibibytes, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(key: str) -> int:
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    raise SuiteError(f"{_STATUS} has no line {key}")


def _num_bytes(results: Results) -> int:
    return sum(gradient.nbytes for gradient in results.gradients)


def main(request: str) -> None:
    """Measure what a request in JSON says; prints JSON."""
    wanted: dict[str, Any] = json.loads(request)
    found = measure_here(Contender(**wanted["contender"]), Case(**wanted["case"]))
    print(json.dumps({"added_bytes": found}))


if __name__ == "__main__":
    main(sys.argv[1])
