"""An evaluation that one process or several do: `python shared_evaluation.py MODEL`."""

from __future__ import annotations

import json
import sys
from typing import Any

# Before lm_eval is imported by anything else, as in a process of a user's.
import suite.harness.registration
from suite.harness.engine_backend import SuiteLM
from suite.harness.protocol import Seeds
from suite.harness.run import EvaluationSettings, evaluate
from suite.harness.tasks import TaskCatalog, TaskConfig
from suite.models.entry import ChatConfig

DRAWN = TaskConfig(task="suite_copy", generation={"do_sample": True, "temperature": 1.0})
TASKS = (TaskConfig(task="suite_knowledge"), DRAWN, TaskConfig(task="suite_bits_per_byte"))
NUM_ITEMS = 5


def shared_evaluation(folder: str) -> dict[str, Any] | None:
    """What the first process knows in the end; None on the others."""
    catalog = TaskCatalog()
    backend = SuiteLM(path=folder, dtype="float32", device="cpu", max_length=48)
    settings = EvaluationSettings(NUM_ITEMS, Seeds(), ChatConfig(), "lm-eval", False)
    found = {}
    for task in TASKS:
        name = task.task
        done = evaluate(backend, catalog.build(catalog.plan(task)), settings)
        assert done.is_complete == (backend.rank == 0)
        found[name] = {
            "results": done.results.get("results"),
            "hashes": done.results.get("task_hashes"),
            "samples": done.samples,
            "truncated": done.num_truncated,
        }
    backend.barrier()
    return found if backend.rank == 0 else None


if __name__ == "__main__":
    names = suite.harness.registration.lm_eval.api.registry.model_registry
    result = shared_evaluation(sys.argv[1])
    if result is not None:
        backends = {name: names[name].__name__ for name in ("hf", "suite", "suite-ensemble")}
        print(json.dumps({"found": result, "backends": backends}, default=str))
