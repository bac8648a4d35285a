"""Two processes, with copies of a student or with its halves, take the steps of one."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_steps import CASES, take_steps
from torch import Tensor

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the first of two processes writes."""
    output = tmp_path_factory.mktemp("two") / "found.pt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in range(2):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        script = str(Path(__file__).with_name("distributed_steps.py"))
        started.append(
            subprocess.Popen(
                [sys.executable, script, str(output)],
                env=os.environ | own,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    outputs = [process.communicate(timeout=300) for process in started]
    for process, (_, errors) in zip(started, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    found: dict[str, Any] = torch.load(output)
    return found


@pytest.mark.parametrize("name", CASES)
def test_two_processes_take_the_steps_of_one(name: str, two_processes: dict[str, Any]) -> None:
    found = two_processes[name]
    assert not isinstance(found, str), found
    alone = take_steps(CASES[name])
    for own, expected in zip(found["figures"], alone["figures"], strict=True):
        assert own["counts"] == expected["counts"]
        for key in ("losses", "weights", "gradient_norms"):
            assert own[key] == pytest.approx(expected[key], rel=TOLERANCE), key
        assert own["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=TOLERANCE)
    for key in ("weights", "moments", "losses"):
        assert distance(found[key], alone[key]) < TOLERANCE, key


@pytest.mark.parametrize("sharding", ["ddp", "fully_shard"])
def test_all_processes_stop_where_one_has_no_number(
    sharding: str, two_processes: dict[str, Any]
) -> None:
    assert two_processes[f"no number, {sharding}"] == [
        "loss sft is not a finite number, in rows of another process",
        "loss sft is not a finite number, in row 1 of this epoch (document 1 of the data)",
    ]


def distance(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """As a share of the size of what was expected."""
    assert found.keys() == expected.keys()
    gap = size = 0.0
    for name, values in expected.items():
        assert found[name].shape == values.shape
        gap += float((found[name].double() - values.double()).square().sum())
        size += float(values.double().square().sum())
    return math.sqrt(gap / size) if size else gap
