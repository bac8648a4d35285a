"""Our `hf` backend against `lm-eval run --model hf`, on the same tasks, items and weights.

The reference is lm-eval's own command in its own process. Every answer is compared: the
log-likelihood and greedy flag of each choice, the text of each generation, the total of each
rolling document.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from suite.errors import HarnessError
from suite.harness.run import EvaluationSettings, evaluate
from suite.harness.tasks import TaskCatalog, TaskPlan
from suite.pipelines.plan import ModelPlan, check_recipe, plan_model
from suite.pipelines.recipe import Recipe
from suite.pipelines.run_benchmark import open_backend


@dataclass(frozen=True)
class Parity:
    """How far apart two runs of one pair are.

    `upstream_options` are lm-eval's arguments beside weights and dtype. `max_difference` is the
    largest absolute difference of a log-likelihood in nats, None for generation;
    `num_different` counts answers that are not identical to the last digit.
    """

    model: str
    weights: str
    dtype: str
    task: str
    output_type: str
    num_items: int
    num_answers: int
    num_different: int
    max_difference: float | None
    upstream_options: str
    upstream_scores: dict[str, float]
    our_scores: dict[str, float]

    @property
    def identical(self) -> bool:
        """Whether every answer and every aggregated score is the same to the last digit."""
        return self.num_different == 0 and self.upstream_scores == self.our_scores


def measure_parity(recipe: Recipe) -> list[Parity]:
    """Compare every pair of a recipe; rolling tasks twice, also with hf's default begin tokens.

    Raises:
        SuiteError: The recipe is wrong, or one of the two sides cannot score a pair.
    """
    catalog = TaskCatalog(recipe.task_folders)
    tasks = check_recipe(recipe, catalog, confirm_unsafe_code=False)
    rows = []
    for entry in recipe.models:
        model = plan_model(entry)
        backend = open_backend(model, recipe)
        for task in tasks:
            limit = task.entry.limit or recipe.limit
            settings = EvaluationSettings(limit, recipe.seeds, entry.chat, "lm-eval", False)
            ours = evaluate(backend, catalog.build(task), settings)
            rolling = task.output_type == "loglikelihood_rolling"
            for options in ("add_bos_token=False", "") if rolling else ("",):
                theirs = _run_upstream(model, task, limit, options)
                rows.append(_compare(model, task, options, ours.results, ours.samples, theirs))
    return rows


def _run_upstream(
    model: ModelPlan, task: TaskPlan, limit: int | None, options: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """lm-eval's own command on one pair: its results and samples."""
    assert model.resolved is not None
    assert model.placement is not None
    arguments = [
        f"pretrained={model.resolved.folder}",
        f"dtype={model.placement.dtype}",
        "softmax_dtype=float32",
        *([options] if options else []),
        *([f"max_length={model.entry.max_length}"] if model.entry.max_length else []),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "tasks").mkdir()
        (path / "tasks" / "task.yaml").write_text(_standalone_definition(task), encoding="utf-8")
        command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf"]
        command += ["--model_args", ",".join(arguments), "--device", model.placement.device]
        command += ["--tasks", task.entry.task, "--include_path", str(path / "tasks")]
        command += ["--batch_size", str(model.entry.batch_size), "--log_samples"]
        command += ["--output_path", str(path / "out")]
        command += ["--limit", str(limit)] if limit else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        results = sorted((path / "out").rglob("results_*.json"))
        if done.returncode != 0 or not results:
            last = done.stderr.strip().splitlines()[-1:] or ["no output"]
            raise HarnessError(f"lm-eval run failed on task '{task.entry.task}' ({last[0]})")
        samples = next(iter(results[0].parent.glob("samples_*.jsonl")))
        lines = samples.read_text(encoding="utf-8").splitlines()
        return json.loads(results[0].read_text("utf-8")), [json.loads(line) for line in lines]


def _standalone_definition(task: TaskPlan) -> str:
    """A task YAML for lm-eval's command: the definition included, local data by absolute path."""
    assert task.definition is not None
    keys: dict[str, Any] = {"include": str(task.definition.path), "task": task.entry.task}
    keys |= task.overrides
    if task.entry.num_fewshot is not None:
        keys["num_fewshot"] = task.entry.num_fewshot
    if task.entry.generation:
        declared = dict(task.definition.keys.get("generation_kwargs") or {})
        keys["generation_kwargs"] = declared | task.entry.generation
    return yaml.safe_dump(keys)


def _compare(
    model: ModelPlan,
    task: TaskPlan,
    options: str,
    results: dict[str, Any],
    samples: dict[str, list[dict[str, Any]]],
    upstream: tuple[dict[str, Any], list[dict[str, Any]]],
) -> Parity:
    assert model.placement is not None
    name = task.entry.task
    our_answers = _answers(samples[name])
    their_answers = _answers(upstream[1])
    if our_answers.keys() != their_answers.keys():
        raise HarnessError(f"task '{name}': lm-eval scored other items than we did")
    pairs = [(our_answers[key], their_answers[key]) for key in our_answers]
    numbers = [(float(a[0]), float(b[0])) for a, b in pairs if len(a) == 2 or _is_number(a[0])]
    is_text = task.output_type == "generate_until"
    return Parity(
        model=model.entry.name,
        weights=model.weights,
        dtype=model.placement.dtype,
        task=task.entry.label,
        output_type=task.output_type,
        num_items=len({key[0] for key in our_answers}),
        num_answers=len(pairs),
        num_different=sum(a != b for a, b in pairs),
        max_difference=None if is_text else max(abs(a - b) for a, b in numbers),
        upstream_options=options,
        upstream_scores=_scores(upstream[0]["results"][name]),
        our_scores=_scores(results["results"][name]),
    )


def _answers(samples: list[dict[str, Any]]) -> dict[tuple[int, str, int], tuple[str, ...]]:
    """Every answer by (item, filter, request), as text: a float's shortest form is exact."""
    answers = {}
    for sample in samples:
        for index, answer in enumerate(sample["resps"]):
            value = answer[0]
            parts = value if isinstance(value, (list, tuple)) else (value,)
            key = (sample["doc_id"], sample["filter"], index)
            answers[key] = tuple(str(part) for part in parts)
    return answers


def _scores(block: dict[str, Any]) -> dict[str, float]:
    """Aggregated scores and standard errors that are numbers."""
    return {k: v for k, v in block.items() if "," in k and isinstance(v, (int, float))}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
