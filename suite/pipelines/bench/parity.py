"""Our backends against `lm-eval run --model hf`, on the same tasks, items and weights.

The reference is lm-eval's own command in its own process. Every answer is compared: the
log-likelihood and greedy flag of each choice, the text of each generation, the total of each
rolling document.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from suite.ensemble.config import EnsembleConfig
from suite.errors import ConfigError, HarnessError
from suite.harness.run import EvaluationSettings, evaluate
from suite.harness.tasks import TaskCatalog, TaskPlan
from suite.models.entry import ChatConfig, ModelConfig
from suite.pipelines.backend import open_backend
from suite.pipelines.bench.record import open_folder, write_record
from suite.pipelines.plan import ModelPlan, check_recipe, plan_model
from suite.pipelines.recipe import Recipe, load_recipe
from suite.pipelines.run_log import noise_to

ROLLING = "loglikelihood_rolling"
LIKELIHOODS = ("loglikelihood", "multiple_choice", ROLLING)
# Our begin tokens: none that the tokenizer does not add itself.
OUR_BEGIN_TOKENS = "add_bos_token=False"

# What is compared with lm-eval's own: its backend as we call it, the engine, an ensemble of one.
OurBackend = Literal["hf", "suite", "suite-ensemble"]

# The engine adds numbers in another order: nats for each log-likelihood in float32, and for long
# texts a share of the total.
TOLERANCE, ROLLING_TOLERANCE = 1e-4, 1e-6

Answers = dict[tuple[int, int, int], tuple[str, ...]]
Samples = list[dict[str, Any]]


@dataclass(frozen=True)
class Parity:
    """How far apart two runs of one pair are.

    `upstream_options` are lm-eval's arguments beside weights and dtype. `max_difference` is the
    largest absolute difference of a log-likelihood in nats, None for generation;
    `num_different` counts answers that are not identical to the last digit, `num_apart` those with
    another greedy flag or text, or a log-likelihood beyond rounding.
    """

    backend: OurBackend
    model: str
    weights: str
    dtype: str
    device: str
    task: str
    output_type: str
    num_items: int
    num_answers: int
    num_different: int
    num_apart: int
    max_difference: float | None
    upstream_options: str
    upstream_scores: dict[str, float]
    our_scores: dict[str, float]

    @property
    def identical(self) -> bool:
        """Whether every answer and every aggregated score is the same to the last digit."""
        return self.num_different == 0 and self.upstream_scores == self.our_scores

    @property
    def agrees(self) -> bool:
        """Whether it is as near as its backend should be: `hf` to the last digit."""
        return self.identical if self.backend == "hf" else self.num_apart == 0

    @property
    def must_agree(self) -> bool:
        """False for rolling text under hf's default begin tokens: that distance is only shown."""
        return self.output_type != ROLLING or self.upstream_options == OUR_BEGIN_TOKENS


@dataclass(frozen=True)
class ParityRecord:
    """Where a comparison was written, and the pairs that differ and must not."""

    path: Path
    unequal: tuple[str, ...]


def record_parity(
    name: str, output: Path, backends: Sequence[OurBackend] = ("hf",)
) -> ParityRecord:
    """Compare a recipe's pairs and write `parity.json` in a folder, what libraries say beside it.

    Raises:
        SuiteError: The recipe is wrong, one of the two sides cannot score a pair, or the folder
            cannot be written.
    """
    recipe, _ = load_recipe(name)
    with noise_to(open_folder(output) / "parity.log"):
        rows = measure_parity(recipe, backends)
    device = "cuda" if any(row.device == "cuda" for row in rows) else "cpu"
    path = write_record(output / "parity.json", rows, device=device)
    unequal = [row for row in rows if row.must_agree and not row.agrees]
    return ParityRecord(
        path, tuple(f"{row.model} on {row.task} ({row.backend})" for row in unequal)
    )


def measure_parity(recipe: Recipe, backends: Sequence[OurBackend] = ("hf",)) -> list[Parity]:
    """Compare every pair of a recipe; rolling tasks twice, also with hf's default begin tokens.

    Args:
        recipe: Models and tasks; the backend it names is of no concern.
        backends: Ours, each compared with lm-eval's own command.

    Raises:
        SuiteError: The recipe is wrong, or one of the two sides cannot score a pair.
    """
    catalog = TaskCatalog(recipe.task_folders)
    tasks = _check(recipe, catalog)
    rows = []
    for entry in recipe.single_models:
        model = plan_model(entry)
        for task in tasks:
            name = task.entry.task
            upstream = {
                options: _run_upstream(model, task, recipe, options)
                for options in ((OUR_BEGIN_TOKENS, "") if task.output_type == ROLLING else ("",))
            }
            limit = task.entry.limit or recipe.limit
            settings = EvaluationSettings(limit, recipe.seeds, entry.chat, "lm-eval", False)
            for kind in backends:
                ours = evaluate(_open_ours(kind, model, recipe), catalog.build(task), settings)
                our_side = (ours.results["results"][name], ours.samples[name])
                for options, their_side in upstream.items():
                    row = _compare(model, task, our_side, their_side)
                    rows.append(replace(row, backend=kind, upstream_options=options))
    return rows


def _open_ours(kind: OurBackend, model: ModelPlan, recipe: Recipe) -> Any:
    """One of our backends over a model."""
    if kind != "suite-ensemble":
        return open_backend(model, recipe.model_copy(update={"backend": kind}))
    from suite.harness.ensemble_backend import SuiteEnsembleLM
    from suite.harness.ensemble_opening import configured

    alone = open_backend(model, recipe.model_copy(update={"backend": "suite"}))
    config = EnsembleConfig(members=(model.entry.name,), combine="mean_probs")
    return SuiteEnsembleLM(configured("alone", [alone.opened], config, ""), alone.options, None)


def _check(recipe: Recipe, catalog: TaskCatalog) -> list[TaskPlan]:
    """Refuse what one call of lm-eval's command cannot repeat; returns the tasks found."""
    if recipe.ensembles:
        raise ConfigError(
            f"model '{recipe.ensembles[0].name}' is an ensemble; parity is for single models"
        )
    for entry in recipe.single_models:
        key = _beyond_plain(entry)
        if key is not None:
            raise ConfigError(f"model '{entry.name}' uses {key}; parity is for models without it")
    if recipe.protocol != "lm-eval":
        raise ConfigError(f"protocol is {recipe.protocol}; parity is for protocol lm-eval")
    tasks = check_recipe(recipe, catalog, confirm_unsafe_code=False)
    for task in tasks:
        label = task.entry.label
        if task.kind != "task":
            raise ConfigError(
                f"task '{label}' is a {task.kind} of tasks; parity is for single tasks, name its"
                " members one by one"
            )
        if task.definition is None:
            raise ConfigError(
                f"task '{label}' has no YAML definition; parity is for tasks with one"
            )
    return tasks


def _beyond_plain(entry: ModelConfig) -> str | None:
    """The first key of an entry that makes it more than a model of the hf backend, if any."""
    if entry.source.lm_eval is not None:
        return "source.lm_eval"
    for key in ("adapter", "quantization", "device_map"):
        if getattr(entry, key) is not None:
            return key
    plain = ChatConfig()
    changed = (
        key for key in ChatConfig.model_fields if getattr(entry.chat, key) != getattr(plain, key)
    )
    return next((f"chat.{key}" for key in changed), None)


def _run_upstream(
    model: ModelPlan, task: TaskPlan, recipe: Recipe, options: str
) -> tuple[dict[str, Any], Samples]:
    """lm-eval's own command on one pair: its scores and samples."""
    name = task.entry.task
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "tasks").mkdir()
        (path / "tasks" / "task.yaml").write_text(_standalone_definition(task), encoding="utf-8")
        command = _upstream_command(model, task, recipe, options)
        # A file as output: for a folder, lm-eval makes the model's whole path one folder name.
        command += ["--include_path", str(path / "tasks")]
        command += ["--output_path", str(path / "out" / "results.json")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        results = sorted((path / "out").glob("results_*.json"))
        samples = sorted((path / "out").glob("samples_*.jsonl"))
        if done.returncode != 0 or not results or not samples:
            last = done.stderr.strip().splitlines()[-1:] or ["no output"]
            raise HarnessError(f"lm-eval run failed on task '{name}' ({last[0]})")
        # Not splitlines: texts of models hold separators that it would take for ends of lines.
        lines = samples[0].read_text(encoding="utf-8").rstrip("\n").split("\n")
        scores = json.loads(results[0].read_text(encoding="utf-8"))["results"][name]
        return scores, [json.loads(line) for line in lines]


def _upstream_command(model: ModelPlan, task: TaskPlan, recipe: Recipe, options: str) -> list[str]:
    """The command without its files. Model arguments go in as JSON: paths may hold commas."""
    assert model.resolved is not None
    assert model.placement is not None
    entry, seeds = model.entry, recipe.seeds
    arguments: dict[str, Any] = {
        "pretrained": str(model.resolved.folder),
        "dtype": model.placement.dtype,
        "softmax_dtype": "float32",
    }
    if options == OUR_BEGIN_TOKENS:
        arguments["add_bos_token"] = False
    if entry.tokenizer is not None:
        arguments["tokenizer"] = str(model.resolved.tokenizer_folder)
    for key in ("max_length", "attn_implementation", "trust_remote_code"):
        if getattr(entry, key):
            arguments[key] = getattr(entry, key)
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--log_samples"]
    command += ["--model_args", json.dumps(arguments), "--device", model.placement.device]
    command += ["--tasks", task.entry.task, "--batch_size", str(entry.batch_size)]
    command += ["--seed", f"{seeds.random},{seeds.numpy},{seeds.torch},{seeds.fewshot}"]
    limit = task.entry.limit or recipe.limit
    return command + (["--limit", str(limit)] if limit else [])


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
    ours: tuple[dict[str, Any], Samples],
    theirs: tuple[dict[str, Any], Samples],
) -> Parity:
    """Put the scores and samples of the two sides against each other."""
    assert model.placement is not None
    our_answers, their_answers = _answers(ours[1]), _answers(theirs[1])
    if our_answers.keys() != their_answers.keys():
        raise HarnessError(f"task '{task.entry.task}': lm-eval scored other items than we did")
    pairs = [(our_answers[key], their_answers[key]) for key in our_answers]
    difference = None
    apart = sum(a != b for a, b in pairs)
    if task.output_type in LIKELIHOODS:
        difference = max(abs(float(a[0]) - float(b[0])) for a, b in pairs)
        share = ROLLING_TOLERANCE if task.output_type == ROLLING else 0.0
        apart = sum(
            a[1:] != b[1:]
            or not math.isclose(float(a[0]), float(b[0]), rel_tol=share, abs_tol=TOLERANCE)
            for a, b in pairs
        )
        if any(not math.isfinite(float(b[0])) for _, b in pairs):
            raise HarnessError(f"task '{task.entry.task}': lm-eval's answers are not all finite")
    return Parity(
        backend="hf",
        model=model.entry.name,
        weights=model.weights,
        dtype=model.placement.dtype,
        device=model.placement.device,
        task=task.entry.label,
        output_type=task.output_type,
        num_items=len({key[0] for key in our_answers}),
        num_answers=len(pairs),
        num_different=sum(a != b for a, b in pairs),
        num_apart=apart,
        max_difference=difference,
        upstream_options="",
        upstream_scores=_scores(theirs[0]),
        our_scores=_scores(ours[0]),
    )


def _answers(samples: Samples) -> Answers:
    """Every answer by (item, request, repeat), as text: a float's shortest form is exact.

    A sample is logged once for each filter, with the same answers; they count once.
    """
    answers: Answers = {}
    for sample in samples:
        for request, repeats in enumerate(sample["resps"]):
            for repeat, value in enumerate(repeats):
                parts = value if isinstance(value, (list, tuple)) else (value,)
                answers[sample["doc_id"], request, repeat] = tuple(str(part) for part in parts)
    return answers


def _scores(block: dict[str, Any]) -> dict[str, float]:
    """Aggregated scores and standard errors that are finite numbers."""
    return {
        key: value
        for key, value in block.items()
        if "," in key and isinstance(value, (int, float)) and math.isfinite(value)
    }
