"""Two processes that share one evaluation, against one that does it alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from shared_evaluation import DRAWN, NUM_ITEMS, shared_evaluation

from suite.errors import HarnessError
from suite.harness import run as module
from suite.harness.sharding import Ranks, in_document_order


@pytest.fixture(scope="module")
def two_processes(tiny_model: Path) -> dict[str, Any]:
    """What the first of two processes prints; the other prints nothing."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    started = []
    for rank in range(2):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        script = str(Path(__file__).with_name("shared_evaluation.py"))
        started.append(
            subprocess.Popen(
                [sys.executable, script, str(tiny_model)],
                env=os.environ | own,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    outputs = [process.communicate(timeout=300) for process in started]
    for process, (_, errors) in zip(started, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    assert outputs[1][0] == ""
    printed: dict[str, Any] = json.loads(outputs[0][0])
    return printed


def test_two_processes_find_what_one_finds(tiny_model: Path, two_processes: dict[str, Any]) -> None:
    alone = shared_evaluation(str(tiny_model))
    assert alone is not None
    for name, wanted in alone.items():
        found = two_processes["found"][name]
        assert found["hashes"] == wanted["hashes"]
        assert found["truncated"] == wanted["truncated"]
        assert [item["doc_id"] for item in found["samples"][name]] == list(range(NUM_ITEMS))
        if name == DRAWN.task:
            # lm-eval repeats a request to fill up a rank; only the first draw counts.
            texts = [item["resps"][0][0] for item in wanted["samples"][name]]
            assert [item["resps"][0][0] for item in found["samples"][name]] == texts
            assert len(set(texts)) > 1
        for metric, value in wanted["results"][name].items():
            assert found["results"][name][metric] == (
                pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
            )


def test_lm_evals_own_backends_keep_their_names(two_processes: dict[str, Any]) -> None:
    assert two_processes["backends"] == {
        "hf": "HFLM",
        "suite": "SuiteLM",
        "suite-ensemble": "SuiteEnsembleLM",
    }


def test_values_of_ranks_are_joined_in_the_order_of_documents() -> None:
    ranks = [
        {"task": {("acc", "none"): [0, 2, 4]}},
        {"task": {("acc", "none"): [1, 3]}},
    ]
    assert in_document_order(ranks) == [{"task": {("acc", "none"): [0, 1, 2, 3, 4]}}]


def test_samples_of_ranks_are_joined_filter_by_filter() -> None:
    def samples(*ids: int) -> dict[str, list[dict[str, Any]]]:
        return {"task": [{"doc_id": n, "filter": f} for f in ("strict", "loose") for n in ids]}

    assert in_document_order([samples(0, 2), samples(1)]) == [samples(0, 1, 2)]


def test_one_process_needs_no_others() -> None:
    ranks = Ranks(torch.device("cpu"))
    assert (ranks.rank, ranks.world_size) == (0, 1)
    assert ranks.gather_object("x") == ["x"]
    assert ranks.all_gather(torch.tensor(3)).tolist() == 3
    ranks.barrier()


def test_more_processes_than_items_are_refused() -> None:
    class Task:
        task_name = "small"
        eval_docs = (1, 2, 3)

    with pytest.raises(HarnessError) as error:
        module._check_enough_items([Task()], 2, 3)
    assert str(error.value) == (
        "task 'small': 2 items cannot be shared by 3 processes; start at most 2"
    )
    module._check_enough_items([Task()], None, 3)
