"""Result folders as lm-eval writes them, small enough to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

STAMP = "2026-01-02T03-04-05.000001"


def write_run(
    folder: Path,
    model: str,
    right: Sequence[int],
    *,
    task: str = "quiz",
    shots: int = 0,
    with_samples: bool = True,
    stamp: str = STAMP,
) -> Path:
    """One model on one task of as many items as `right` has numbers (0 or 1)."""
    folder.mkdir(parents=True, exist_ok=True)
    n, mean = len(right), sum(right) / len(right)
    results = {
        "results": {
            task: {
                "alias": task,
                "acc,none": mean,
                "acc_stderr,none": (mean * (1 - mean) / max(1, n - 1)) ** 0.5,
            }
        },
        "group_subtasks": {task: []},
        "configs": {
            task: {
                "task": task,
                "output_type": "multiple_choice",
                "doc_to_text": "{{question}}",
                "metric_list": [{"metric": "acc", "higher_is_better": True}],
                "num_fewshot": shots,
            }
        },
        "versions": {task: 1.0},
        "n-shot": {task: shots},
        "higher_is_better": {task: {"acc": True}},
        "n-samples": {task: {"original": n, "effective": n}},
        "config": {"model": "hf", "model_args": {"pretrained": model}, "model_dtype": "bfloat16"},
        "lm_eval_version": "0.4.13",
        "model_name": model,
    }
    path = folder / f"results_{stamp}.json"
    path.write_text(json.dumps(results), encoding="utf-8")
    if with_samples:
        lines = [json.dumps(sample(i, value)) for i, value in enumerate(right)]
        name = f"samples_{task}_{stamp}.jsonl"
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def sample(number: int, right: int) -> dict[str, object]:
    likelihoods = ["-1.0", "-2.0"] if right else ["-2.0", "-1.0"]
    return {
        "doc_id": number,
        "doc": {"question": f"Question {number}?", "choices": ["yes", "no"], "answer": 0},
        "target": "0",
        "arguments": {
            f"gen_args_{i}": {"arg_0": f"Question {number}?", "arg_1": f" {word}"}
            for i, word in enumerate(("yes", "no"))
        },
        "resps": [[[value, "False"]] for value in likelihoods],
        "filtered_resps": [[value, "False"] for value in likelihoods],
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": f"{number:064x}",
        "prompt_hash": f"{number:064x}",
        "target_hash": f"{0:064x}",
        "acc": float(right),
    }
