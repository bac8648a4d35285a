"""Small result folders in lm-eval's layout, written by hand so that every score is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STAMP = "2026-01-02T03-04-05.000000"


def write_run(
    folder: Path,
    model: str,
    tasks: Mapping[str, Sequence[float]],
    *,
    stamp: str = STAMP,
    prompt: str = "Question",
    with_samples: bool = True,
    **changes: Any,
) -> Path:
    """One results file with a task for each list of 0/1 scores, and its samples files.

    Item i of a task is the same in every run; `prompt` begins every prompt. `changes` replace
    top-level keys of the results file, or facts of every task: `version`, `shots`, `filter`,
    `first_item`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    version, shots = changes.pop("version", 1), changes.pop("shots", 0)
    filter_name, first_item = changes.pop("filter", "none"), changes.pop("first_item", 0)
    configs = {name: {"task": name, "metric_list": [{"metric": "acc"}]} for name in tasks}
    data: dict[str, Any] = {
        "results": {
            name: {
                "alias": name,
                f"acc,{filter_name}": sum(scores) / len(scores),
                f"acc_stderr,{filter_name}": 0.05,
            }
            for name, scores in tasks.items()
        },
        "configs": {n: {**c, "output_type": "multiple_choice"} for n, c in configs.items()},
        "versions": dict.fromkeys(tasks, version),
        "n-shot": dict.fromkeys(tasks, shots),
        "higher_is_better": {name: {"acc": True} for name in tasks},
        "n-samples": {name: {"original": len(s), "effective": len(s)} for name, s in tasks.items()},
        "config": {"model": "hf", "model_args": {}},
        "model_name": model,
        **changes,
    }
    results = folder / f"results_{stamp}.json"
    results.write_text(json.dumps(data), encoding="utf-8")
    for name, scores in tasks.items() if with_samples else ():
        lines = [
            _line(name, first_item + i, score, prompt, filter_name)
            for i, score in enumerate(scores)
        ]
        path = folder / f"samples_{name}_{stamp}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return results


def _line(task: str, item: int, score: float, prompt: str, filter_name: str) -> dict[str, Any]:
    doc = {"question": f"{task} {item}"}
    right, wrong = ["-1.0", "True"], ["-2.0", "False"]
    return {
        "doc_id": item,
        "doc": doc,
        "target": "0",
        "arguments": {
            f"gen_args_{i}": {"arg_0": f"{prompt} {item}:", "arg_1": f" {option}"}
            for i, option in enumerate("AB")
        },
        "filtered_resps": [right, wrong] if score else [wrong, right],
        "filter": filter_name,
        "metrics": ["acc"],
        "doc_hash": hashlib.sha256(json.dumps(doc).encode()).hexdigest(),
        "acc": float(score),
    }
