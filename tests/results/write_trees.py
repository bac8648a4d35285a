"""Writes `trees/`: small result folders as lm-eval 0.4.13 leaves them.

    SUITE_TEST_DATA=... python tests/results/write_trees.py [FOLDER]

The tasks are lm-eval's own (gsm8k, BLiMP) on the first items of local files, and small ones written
here; the model draws its answers from a hash of the prompt. Afterwards machine, time and commit are
taken out of the files, nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import lm_eval
import yaml
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

TREES = Path(__file__).parent / "trees"
UPSTREAM = Path(lm_eval.__file__).parent / "tasks"
STAMP = "2026-01-01T00-00-00.000000"
PARADIGMS = {
    "anaphor_number_agreement": 4,
    "determiner_noun_agreement_1": 3,
    "wh_questions_subject_gap": 5,
}
# Of each question the model may be asked, so that it is right now and then.
ANSWERS: dict[str, str] = {}


def draw(*texts: str) -> float:
    """A number in 0-1 that only the texts decide."""
    digest = hashlib.sha256("\0".join(texts).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


@register_model("drawing")
class DrawingLM(LM):  # type: ignore[misc]
    """Answers by chance, and always in the same way; a repeated question gets other answers."""

    def __init__(self, pretrained: str, batch_size: int = 1, device: str | None = None) -> None:
        super().__init__()
        self.seed = pretrained
        self.asked: dict[str, int] = {}

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        drawn = [draw(self.seed, *request.args) for request in requests]
        return [(-5 * value, value < 0.1) for value in drawn]

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        return [-len(r.args[0].encode()) * (0.5 + draw(self.seed, r.args[0])) for r in requests]

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        return [self._generate(request.args[0]) for request in requests]

    def _generate(self, prompt: str) -> str:
        turn = self.asked[prompt] = self.asked.get(prompt, 0) + 1
        question = prompt.rpartition("Question: ")[2].removesuffix("\nAnswer:")
        drawn = draw(self.seed, prompt, str(turn))
        number = ANSWERS[question] if drawn < 0.6 else "17"
        return f" It is {number}.\n#### {number}" if drawn < 0.3 else f" It is {number} then."


def gsm8k(data: Path) -> None:
    lines = (data / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    shortest = sorted(lines, key=len)[:6]
    write("gsm8k.jsonl", "\n".join(shortest))
    items = [json.loads(line) for line in shortest]
    ANSWERS.update({item["question"]: item["answer"].rpartition("#### ")[2] for item in items})
    local: dict[str, Any] = {"dataset_path": "json", "dataset_name": None, "num_fewshot": 1}
    local["dataset_kwargs"] = {"data_files": {name: "gsm8k.jsonl" for name in ("train", "test")}}
    upstream = {"include": str(UPSTREAM / "gsm8k" / "gsm8k.yaml"), **local}
    task("gsm8k", upstream)
    filters = [
        {"name": f"first-of-{k}", "filter": [*votes, {"function": "take_first"}]}
        for k, votes in ((1, []), (4, [{"function": "majority_vote"}]))
    ]
    number = {"function": "regex", "regex_pattern": "It is ([0-9]+)"}
    for entry in filters:
        entry["filter"] = [number, *entry["filter"]]
    drawn = {"repeats": 4, "filter_list": filters}
    task("gsm8k_repeated", upstream | drawn | {"tag": None})


def blimp(data: Path) -> None:
    for name, count in PARADIGMS.items():
        lines = (data / "blimp" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        write(f"{name}.jsonl", "\n".join(lines[:count]))
        local: dict[str, Any] = {"dataset_path": "json", "dataset_name": None}
        local["dataset_kwargs"] = {"data_files": {"train": f"{name}.jsonl"}}
        template = {"include": str(UPSTREAM / "blimp" / "_template_yaml"), **local}
        task(f"blimp_{name}", template)
    group = yaml.safe_load((UPSTREAM / "blimp" / "_blimp.yaml").read_text(encoding="utf-8"))
    group["task"] = [f"blimp_{name}" for name in PARADIGMS]
    write("_blimp.yaml", yaml.safe_dump(group))


def texts(data: Path) -> None:
    plays = (data / "shakespeare" / "input.txt").read_text(encoding="utf-8").split("\n\n")
    rows = [{"page": text, "last": text.rsplit(" ", 1)[-1]} for text in plays[:5]]
    write("plays.jsonl", "\n".join(map(json.dumps, rows)))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "plays.jsonl"}},
        "test_split": "test",
        "metadata": {"version": 2.0},
    }
    ratios = {"word_perplexity": "weighted_perplexity", "byte_perplexity": "weighted_perplexity"}
    ratios["bits_per_byte"] = "bits_per_byte"
    metrics = [{"metric": name, "aggregation": by} for name, by in ratios.items()]
    rolling = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "metric_list": metrics}
    task("plays", common | rolling | {"doc_to_target": "{{page}}"})
    last_word = {
        "output_type": "loglikelihood",
        "doc_to_text": "{{page.rsplit(' ', 1)[0]}}",
        "doc_to_target": "{{' ' + last}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    }
    task("last_word", common | last_word)


def groups() -> None:
    for name, count in (("leaf_a", 3), ("leaf_b", 4), ("leaf_c", 2)):
        rows = [
            {"question": f"{name} {i}: {i} and one is", "choices": ["two", "seven", "eleven"]}
            for i in range(count)
        ]
        # An item that is there twice, word for word.
        write(f"{name}.jsonl", "\n".join(map(json.dumps, [*rows, rows[0]])))
        choice = {
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": 0,
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        }
        task(name, choice)
    mean = {"metric": "acc", "aggregation": "mean"}
    for group, members, by_size in (
        ("inner", ["leaf_a", "leaf_b"], False),
        ("outer", ["inner", "leaf_c"], True),
    ):
        found = [{**mean, "weight_by_size": by_size}]
        entry = {"group": group, "task": members, "aggregate_metric_list": found}
        write(f"{group}.yaml", yaml.safe_dump(entry | {"metadata": {"version": 1}}))


def task(name: str, config: dict[str, Any]) -> None:
    write(f"{name}.yaml", yaml.safe_dump(config | {"task": name}))


def write(name: str, text: str) -> None:
    Path(name).write_text(text + "\n", encoding="utf-8")


def evaluate(manager: TaskManager, name: str, output: Path) -> None:
    """What `lm-eval run --log_samples --output_path` does."""
    tracker = EvaluationTracker(output_path=str(output))
    results = lm_eval.simple_evaluate(
        model="drawing",
        model_args={"pretrained": "org/drawn"},
        tasks=[name],
        task_manager=manager,
        evaluation_tracker=tracker,
        bootstrap_iters=100,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for leaf, lines in samples.items():
        tracker.save_results_samples(task_name=leaf, samples=lines)


def without_machine(tree: Path) -> None:
    """Take machine, time and commit out of a tree's files."""
    for path in [path for path in tree.rglob("*") if path.is_file()]:
        text = path.read_text(encoding="utf-8")
        if path.name.startswith("samples_"):
            text = text.replace(str(Path.cwd()), ".")
        else:
            data = json.loads(text)
            data |= {"pretty_env_info": "", "git_hash": None, "date": 0.0, "start_time": 0.0}
            data |= {"end_time": 1.0, "total_evaluation_time_seconds": "1.0"}
            text = json.dumps(data, indent=2, ensure_ascii=False)
            text = text.replace(str(Path.cwd()), ".").replace(str(UPSTREAM), "lm_eval/tasks")
        name = re.sub(r"\d{4}-\d\d-\d\dT[\d.-]+?(?=\.jsonl?$)", STAMP, path.name)
        path.unlink()
        path.with_name(name).write_text(text, encoding="utf-8")


def write_trees(folder: Path) -> None:
    """Write all trees below a folder anew."""
    data = Path(os.environ["SUITE_TEST_DATA"]).resolve()
    os.environ["DISABLE_MULTIPROC"] = "1"
    outputs = {name: folder / name for name in ("gsm8k", "gsm8k_repeated", "blimp", "plays")}
    outputs |= {"outer": folder / "outer", "last_word": folder / "last_word" / "named.json"}
    with tempfile.TemporaryDirectory() as work:
        # Data files have relative paths, so that none of this machine gets into the results.
        os.chdir(work)
        gsm8k(data)
        blimp(data)
        texts(data)
        groups()
        manager = TaskManager(include_path=work, include_defaults=False)
        for name, output in outputs.items():
            shutil.rmtree(folder / name, ignore_errors=True)
            evaluate(manager, name, output)
            without_machine(folder / name)
        os.chdir(folder)


if __name__ == "__main__":
    write_trees(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else TREES)
