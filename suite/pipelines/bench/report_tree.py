"""An invented tree of results as lm-eval 0.4.13 writes it.

Models are of different skill and items of different difficulty.

Legend: M models, n items of a task, K options.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

GROUP = "invented_group"
STAMP = "2026-01-01T00-00-00.000000"
_NUM_TEXT_TASKS = 3
_NUM_IN_GROUP = 3
_NUM_OPTIONS = 4
_SYLLABLES = ("ka", "lon", "mi", "tre", "sun", "vo", "pel", "ar")
_WORDS = tuple(first + second for first in _SYLLABLES for second in _SYLLABLES)


@dataclass(frozen=True)
class TreeSize:
    """How much there is.

    Attributes:
        models: At least 1.
        tasks: At least 1; three predict text (if there are that many), the others have options,
            and the first three of these are a group, too.
        items: Of each task, at least 1.
    """

    models: int = 20
    tasks: int = 30
    items: int = 2000

    @property
    def num_lines(self) -> int:
        """Sample lines of all models."""
        return self.models * self.tasks * self.items


@dataclass(frozen=True)
class _Task:
    """A task; `heads` and `tails` are what is the same in every model's lines, `weights` bytes."""

    name: str
    is_text: bool
    heads: list[str]
    tails: list[str]
    difficulty: Floats
    gold: NDArray[np.int64]
    weights: NDArray[np.int64]


def write_tree(folder: Path, size: TreeSize, say: Callable[[str], None], seed: int = 0) -> int:
    """Write a results file and samples files for every model; returns the bytes of all files.

    Args:
        folder: Where to.
        size: How much.
        say: Called with a line now and then.
        seed: Of everything that is drawn.
    """
    rng = np.random.default_rng(seed)
    num_text = min(_NUM_TEXT_TASKS, size.tasks // 4)
    names = [f"choice_{n:02d}" for n in range(size.tasks - num_text)]
    names += [f"text_{n:02d}" for n in range(num_text)]
    folders = [folder / f"org__model-{number:02d}" for number in range(size.models)]
    for own in folders:
        own.mkdir(parents=True)
    skills = np.linspace(-0.6, 0.9, size.models)
    results: list[dict[str, dict[str, Any]]] = [{} for _ in folders]
    for number, name in enumerate(names):
        if number % 10 == 0:
            say(f"inventing task {number + 1} of {len(names)}")
        task = _task(name, name.startswith("text"), size.items, rng)
        for model, own in enumerate(folders):
            lines, found = _lines(task, float(skills[model]), rng)
            results[model][name] = {"alias": name, "sample_len": size.items, **found}
            path = own / f"samples_{name}_{STAMP}.jsonl"
            path.write_text("".join(lines), encoding="utf-8")
    for own, found in zip(folders, results, strict=True):
        data = _results(own.name.replace("__", "/"), found, size.items)
        path = own / f"results_{STAMP}.json"
        path.write_text(json.dumps(data, indent=2), encoding="utf-8")
    return sum(file.stat().st_size for own in folders for file in own.iterdir())


def _task(name: str, is_text: bool, n: int, rng: np.random.Generator) -> _Task:
    words = np.array(_WORDS, dtype=object)
    heads, tails = [], []
    gold = rng.integers(0, _NUM_OPTIONS, n)
    weights = np.zeros(n, dtype=np.int64)
    length = 95 if is_text else 8
    drawn = rng.integers(0, len(words), (n, length))
    for item in range(n):
        text = f"{name} {item}: " + " ".join(words[drawn[item]])
        weights[item] = len(text)
        if is_text:
            doc: dict[str, Any] = {"text": text}
            arguments = {"gen_args_0": {"arg_0": "", "arg_1": text}}
            target, prompt = text, ""
        else:
            options = [f"{words[drawn[item, k]]} {words[drawn[item, -k - 1]]}" for k in range(4)]
            doc = {"question": text, "choices": options, "gold": int(gold[item])}
            prompt = f"Question: {text}\nAnswer:"
            arguments = {
                f"gen_args_{k}": {"arg_0": prompt, "arg_1": f" {option}"}
                for k, option in enumerate(options)
            }
            target = str(gold[item])
        head = {"doc_id": item, "doc": doc, "target": target, "arguments": arguments}
        heads.append(json.dumps(head)[:-1] + ', "resps": ')
        metrics = ["bits_per_byte"] if is_text else ["acc"]
        hashes = {
            "filter": "none",
            "metrics": metrics,
            "doc_hash": _hash(json.dumps(doc)),
            "prompt_hash": _hash(prompt),
            "target_hash": _hash(target),
        }
        tails.append(", " + json.dumps(hashes)[1:-1])
    difficulty = rng.normal(0.0, 1.2, n)
    return _Task(name, is_text, heads, tails, difficulty, gold, weights)


def _lines(task: _Task, skill: float, rng: np.random.Generator) -> tuple[list[str], dict[str, Any]]:
    """The sample lines of one model, and its aggregates."""
    return (_text_lines if task.is_text else _choice_lines)(task, skill, rng)


def _choice_lines(
    task: _Task, skill: float, rng: np.random.Generator
) -> tuple[list[str], dict[str, Any]]:
    n = len(task.heads)
    scores = rng.gumbel(size=(n, _NUM_OPTIONS)) - 12.0
    scores[np.arange(n), task.gold] += skill - task.difficulty
    right = scores.argmax(axis=1) == task.gold
    lines = []
    for head, tail, (a, b, c, d), is_right in zip(
        task.heads, task.tails, scores.tolist(), right.tolist(), strict=True
    ):
        filtered = f'["{a!r}", "False"], ["{b!r}", "False"], ["{c!r}", "False"], ["{d!r}", "False"]'
        nested = (
            f'[["{a!r}", "False"]], [["{b!r}", "False"]], [["{c!r}", "False"]],'
            f' [["{d!r}", "False"]]'
        )
        score = "1.0" if is_right else "0.0"
        lines.append(f'{head}[{nested}], "filtered_resps": [{filtered}]{tail}, "acc": {score}}}\n')
    mean = float(right.mean())
    stderr = math.sqrt(mean * (1 - mean) / max(1, n - 1))
    return lines, {"acc,none": mean, "acc_stderr,none": stderr}


def _text_lines(
    task: _Task, skill: float, rng: np.random.Generator
) -> tuple[list[str], dict[str, Any]]:
    bits = 1.3 - 0.2 * skill + 0.1 * task.difficulty + rng.normal(0.0, 0.05, len(task.heads))
    nats = -np.maximum(bits, 0.1) * task.weights * math.log(2)
    lines = [
        f'{head}[["{value!r}"]], "filtered_resps": ["{value!r}"]{tail},'
        f' "bits_per_byte": [{value!r}, {weight}]}}\n'
        for head, tail, value, weight in zip(
            task.heads, task.tails, nats.tolist(), task.weights.tolist(), strict=True
        )
    ]
    total = -sum(nats.tolist()) / sum(task.weights.tolist()) / math.log(2)
    return lines, {"bits_per_byte,none": total, "bits_per_byte_stderr,none": "N/A"}


def _results(model: str, found: dict[str, dict[str, Any]], items: int) -> dict[str, Any]:
    """The results file of one model, with the group."""
    tasks = list(found)
    members = [name for name in tasks if name.startswith("choice")][:_NUM_IN_GROUP]
    values = [found[name]["acc,none"] for name in members]
    group = {
        "alias": GROUP,
        "sample_len": items * len(members),
        "acc,none": sum(values) / len(values),
        "acc_stderr,none": "N/A",
    }
    better = {name: {"acc": True} for name in (*members, GROUP)}
    better |= {
        name: {"acc": True} if name.startswith("choice") else {"bits_per_byte": False}
        for name in tasks
    }
    return {
        "results": {GROUP: group, **found},
        "groups": {GROUP: group},
        "group_subtasks": {GROUP: members},
        "configs": {name: _config(name) for name in tasks},
        "versions": {name: 1.0 for name in (*tasks, GROUP)},
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": better,
        "n-samples": {name: {"original": items, "effective": items} for name in tasks},
        "config": {"model": "hf", "model_args": {"pretrained": model}, "limit": None},
        "git_hash": None,
        "date": 1767225600.0,
        "lm_eval_version": "0.4.13",
        "model_source": "hf",
        "model_name": model,
        "model_name_sanitized": model.replace("/", "__"),
        "system_instruction": None,
        "fewshot_as_multiturn": False,
        "chat_template": None,
    }


def _config(name: str) -> dict[str, Any]:
    is_text = name.startswith("text")
    metric = (
        {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}
        if is_text
        else {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
    )
    return {
        "task": name,
        "output_type": "loglikelihood_rolling" if is_text else "multiple_choice",
        "doc_to_text": "" if is_text else "Question: {{question}}\nAnswer:",
        "doc_to_target": "{{text}}" if is_text else "gold",
        "num_fewshot": 0,
        "metric_list": [metric],
        "repeats": 1,
        "metadata": {"version": 1.0},
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    write_tree(Path(sys.argv[1]), TreeSize(*map(int, sys.argv[2:5])), print)
