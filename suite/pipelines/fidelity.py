"""`suite fidelity`: how close a student is to its teacher, on tasks with options and on a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from suite.config import parse_config
from suite.errors import ConfigError, SuiteError
from suite.files import write_atomically
from suite.harness.tasks import TaskCatalog
from suite.models.entry import ModelConfig
from suite.models.loading import pick_device
from suite.models.sources import parse_source
from suite.pipelines.fidelity_answers import compare_tasks, find_runs
from suite.pipelines.fidelity_text import TextInputs, measure_text, open_text
from suite.pipelines.hardware import describe_hardware
from suite.pipelines.plan import ModelPlan, check_recipe, plan_model, versions
from suite.pipelines.recipe import Recipe
from suite.pipelines.run_benchmark import RunOptions, run_benchmark
from suite.pipelines.run_log import noise_to
from suite.pipelines.stage_progress import StageProgress
from suite.report.fidelity import render_fidelity
from suite.report.fidelity_record import FidelityModel, FidelityRecord, Role, fidelity_json

TASKS = (
    "suite_arithmetic_choice",
    "suite_knowledge",
    "suite_lexical",
    "suite_minimal_pairs",
    "suite_sequences",
    "suite_word_forms",
    "suite_spell",
    "suite_count_letters",
    "suite_reverse",
    "suite_contains_letter",
    "suite_substitute",
)
JSON_FILE, MARKDOWN_FILE = "fidelity.json", "fidelity.md"
_LEAST = {"limit": 1, "documents": 1, "max_length": 3}


@dataclass(frozen=True, kw_only=True)
class FidelityOptions:
    """What is compared; models are sources, as on the command line.

    Attributes:
        teacher: The teacher.
        student: The student after training.
        output: Folder for runs and report; finished pairs are kept.
        before: The student before training; None for none.
        tasks: Names of tasks with options.
        text: A file or folder; None for the end of the packaged text.
        limit: Items of each task; None for all.
        documents: Documents of the text; a text file is cut into passages of 2 KiB.
        device: Where models run.
        dtype: Of the weights.
        max_length: Most tokens that are read at once; None for the models' own limits.
    """

    teacher: str
    student: str
    output: Path
    before: str | None = None
    tasks: tuple[str, ...] = TASKS
    text: Path | None = None
    limit: int | None = None
    documents: int = 14
    device: str = "auto"
    dtype: str = "auto"
    max_length: int | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(f"{option} is {value}, expected at least {least}")

    @property
    def sources(self) -> dict[Role, str]:
        """The models by role, the teacher first and the student last."""
        before: dict[Role, str] = {} if self.before is None else {"before": self.before}
        return {"teacher": self.teacher, **before, "student": self.student}


@dataclass(frozen=True)
class FidelityPlan:
    """What a call would do: the benchmark, its models by role, and facts to print."""

    recipe: Recipe
    entries: dict[Role, ModelConfig]
    inputs: TextInputs
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FidelityResult:
    """What was measured and the files written."""

    record: FidelityRecord
    files: tuple[Path, Path]


def plan_fidelity(options: FidelityOptions) -> FidelityPlan:
    """Check everything without loading weights.

    Raises:
        SuiteError: The first thing that is wrong.
    """
    entries = {role: _entry(role, options) for role in options.sources}
    data = {
        "title": "Fidelity of a student to its teacher",
        "models": [entry.model_dump(exclude_unset=True) for entry in entries.values()],
        "tasks": list(options.tasks),
        "reference": "teacher",
        "limit": options.limit,
    }
    recipe = parse_config(Recipe, data, "suite fidelity")
    check_recipe(recipe, TaskCatalog(recipe.task_folders), confirm_unsafe_code=False)
    inputs = open_text(options.text, options.documents, entries, options.max_length)
    items = "all items" if options.limit is None else f"the first {options.limit} items of each"
    facts = (
        *((role, source) for role, source in options.sources.items()),
        ("tasks", f"{', '.join(options.tasks)}; {items}"),
        ("text", f"{inputs.corpus.config.place}, {options.documents} documents at most"),
        ("output", str(options.output)),
    )
    return FidelityPlan(recipe, entries, inputs, facts)


def measure_fidelity(options: FidelityOptions, *, console: Console | None = None) -> FidelityResult:
    """Score the models on the tasks, read the text with them, and write both files.

    After a kill, the same call goes on with the pairs that are left.

    Args:
        options: What is compared.
        console: For progress; None for standard error.

    Raises:
        SuiteError: Something is missing or wrong, or a pair failed; one sentence.
    """
    plan = plan_fidelity(options)
    done = run_benchmark(plan.recipe, RunOptions(options.output), console=console)
    if done.failures:
        first = done.failures[0]
        raise SuiteError(
            f"{len(done.failures)} of {done.num_pairs} pairs failed ({first.model} on"
            f" {first.label}: {first.reason}); the same command goes on with them"
        )
    device = torch.device(pick_device(options.device))
    with noise_to(options.output / "run.log") as terminal:
        with StageProgress(console or Console(file=terminal)) as bar:
            text = measure_text(plan.inputs, plan.entries, device, bar)
            bar.begin("statistics")
        plans = {role: plan_model(entry) for role, entry in plan.entries.items()}
    runs = find_runs(options.output, plans, options.tasks, options.limit)
    compared = compare_tasks(runs)
    record = FidelityRecord(
        models=tuple(_model(role, options, plans[role]) for role in plan.entries),
        overall=compared.overall,
        tasks=compared.tasks,
        text=text,
        notes=compared.notes,
        provenance={
            "Hardware": describe_hardware(str(device)),
            "Versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        },
    )
    return FidelityResult(record, _write(record, options.output))


def _entry(role: Role, options: FidelityOptions) -> ModelConfig:
    source = options.sources[role]
    where = f"--{role}" if role == "before" else role.upper()
    data: dict[str, Any] = {
        "name": role,
        "source": parse_source(source, where),
        "dtype": options.dtype,
        "device": options.device,
    }
    if options.max_length is not None:
        data["max_length"] = options.max_length
    return parse_config(ModelConfig, data, f"{where} {source}")


def _model(role: Role, options: FidelityOptions, plan: ModelPlan) -> FidelityModel:
    return FidelityModel(role, options.sources[role], plan.weights)


def _write(record: FidelityRecord, output: Path) -> tuple[Path, Path]:
    texts: Mapping[str, str] = {
        JSON_FILE: fidelity_json(record),
        MARKDOWN_FILE: render_fidelity(record),
    }
    try:
        for name, text in texts.items():
            write_atomically(output / name, text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot write to {output} ({reason}); give another --output") from error
    return output / JSON_FILE, output / MARKDOWN_FILE
