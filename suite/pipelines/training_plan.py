"""`--dry-run` of a training recipe: everything that can be said and checked without weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from operator import add
from typing import Any

import numpy as np

from suite.align.coverage import GroupLengths, measure_groups, white_space_groups
from suite.align.documents import AlignedDocument
from suite.align.pack import pack_rows
from suite.align.rows import RowCounts
from suite.distill.cache_fingerprints import text_fingerprints
from suite.distill.checkpoint import load_state
from suite.distill.teacher_cache import TeacherCache
from suite.errors import ConfigError
from suite.models.entry import ModelConfig
from suite.models.loading import pick_device
from suite.models.resolve import resolve_tokenizer
from suite.pipelines.cache_inputs import check_writable
from suite.pipelines.training import TrainingOptions
from suite.pipelines.training_checks import (
    check_lengths,
    check_names,
    expected_teachers,
    model_config,
    students,
)
from suite.pipelines.training_folder import is_finished, starting_point
from suite.pipelines.training_inputs import (
    AnyRecipe,
    TrainingInputs,
    open_training,
    without_rows,
)
from suite.pipelines.training_recipe import TransferRecipe
from suite.pipelines.transplant_inputs import TransplantInputs, open_inputs
from suite.text.corpus import CorpusConfig

# What is said of a text is measured on its first documents in the order of reading.
_SAMPLE_DOCUMENTS = 64
_GEMMA = (
    "{name} is a Gemma model: what is derived from it or taught by it carries Gemma's terms"
    " (ai.google.dev/gemma/terms), and suite export asks for --accept-licence"
)

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TrainingPlan:
    """What a run would do.

    Attributes:
        facts: Labels and values.
        notes: What a user should know before it starts; a sentence each.
    """

    facts: Facts
    notes: tuple[str, ...]


def plan_training(options: TrainingOptions) -> TrainingPlan:
    """What `train_recipe` would do; opens tokenizers and text, loads no weights, writes nothing.

    Raises:
        SuiteError: Something is missing or wrong; one sentence.
    """
    recipe = options.recipe
    state = _state(options)
    check_names(recipe)
    facts: list[tuple[str, str]] = [("recipe", f"{options.name}: {recipe.title}")]
    notes: list[str] = []
    stages: list[tuple[str, AnyRecipe]] = [("", recipe)]
    if recipe.first_stage is not None:
        stages.insert(0, ("first stage: ", recipe.first_stage))
    for prefix, stage in stages:
        found = _plan_stage(stage)
        facts += [(prefix + label.strip() if prefix else label, v) for label, v in found.facts]
        notes += [note for note in found.notes if note not in notes]
    facts += _written(options, state)
    return TrainingPlan(tuple(facts), (*notes, *recipe.notes))


def _plan_stage(recipe: AnyRecipe) -> TrainingPlan:
    """The plan of one recipe, whose first stage counts as done."""
    training = recipe.training
    teachers = expected_teachers(recipe)
    facts: list[tuple[str, str]] = []
    # What is missing or stored for something else is told before the rest is read.
    opened = None if recipe.data is None else open_training(recipe, recipe.data, teachers)
    if opened is not None and recipe.teacher_cache is not None:
        _check_stored_teacher(opened)
    check_lengths(recipe)
    notes = _gemma_notes((*teachers, *students(recipe)))
    if isinstance(recipe, TransferRecipe):
        inputs = open_inputs(recipe.transplant_source(teachers[0].source))
        facts += _transplant_facts(recipe, inputs)
        notes += _window_notes(recipe, inputs)
    else:
        facts.append(("student", str(recipe.student.source)))
        facts += [("teacher", str(teacher.source)) for teacher in teachers]
    losses = ", ".join(loss.name for loss in recipe.losses)
    facts += [
        ("losses, balance", f"{losses}; {training.balance}"),
        ("trained", "all weights" if recipe.train == "full" else _adapters(recipe)),
        ("device, autocast", f"{pick_device(training.device)}, {training.autocast}"),
    ]
    text = _plan_text(recipe, opened)
    return TrainingPlan((*facts, *text.facts), (*notes, *text.notes))


def _adapters(recipe: AnyRecipe) -> str:
    assert recipe.lora is not None  # filled in by the recipe
    ends = ", embedding and head in full" if recipe.kind == "transfer" else ""
    return f"adapters of rank {recipe.lora.rank}{ends}"


def _transplant_facts(recipe: TransferRecipe, inputs: TransplantInputs) -> Facts:
    plan = inputs.plan
    made = "the first stage" if recipe.model is None else str(recipe.model.source)
    ends = "apart" if recipe.untie_embeddings else "as in the model"
    return (
        ("model", made),
        ("target tokenizer", str(recipe.target_tokenizer)),
        ("transplant", f"{recipe.transplant.method}, {plan.num_rows:,} rows"),
        ("  shared", f"{len(plan.shared):,} regular tokens"),
        ("  copied", f"{plan.num_copied:,}, {plan.num_special:,} of them special"),
        ("  composed", f"{len(plan.composed):,}"),
        ("embeddings", f"input and output {ends}"),
        *([("n-gram embeddings", "added to the bytes")] if recipe.ngram_embeddings else []),
    )


def _window_notes(recipe: TransferRecipe, inputs: TransplantInputs) -> list[str]:
    """A byte model's window is counted in bytes, and a text has several bytes a token."""
    window = _sliding_window(inputs.config.get_text_config())
    if not recipe.is_byte_student:
        return []
    if window is None:
        if recipe.sliding_window is None:
            return []
        raise ConfigError(
            f"sliding_window is {recipe.sliding_window}, but {inputs.source.model} has none; leave"
            " it out"
        )
    if recipe.sliding_window is not None:
        return []
    return [
        f"the model's sliding window of {window:,} tokens becomes one of {window:,} bytes; set"
        " sliding_window to widen it (a token has some 4 bytes of English)"
    ]


def _sliding_window(config: Any) -> int | None:
    """The window of a model that uses one."""
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None)
    is_used = layers is None or any("sliding" in layer for layer in layers)
    return window if is_used and getattr(config, "use_sliding_window", True) else None


def _gemma_notes(entries: tuple[ModelConfig, ...]) -> list[str]:
    names = [str(entry.source) for entry in entries if _is_gemma(model_config(entry))]
    return [_GEMMA.format(name=name) for name in dict.fromkeys(names)]


def _is_gemma(config: Any) -> bool:
    return str(config.model_type).startswith("gemma")


@dataclass(frozen=True)
class _Sample:
    """The first documents of a text."""

    num_documents: int
    counts: RowCounts
    groups: GroupLengths
    byte_share: float | None
    notes: tuple[str, ...]


def _plan_text(recipe: AnyRecipe, inputs: TrainingInputs | None) -> TrainingPlan:
    training = recipe.training
    if inputs is None or recipe.data is None:
        steps = f"{training.steps:,}" if training.steps else f"{training.epochs} epochs"
        return TrainingPlan((("text", "written by the teacher"), ("steps", steps)), ())
    sample = _read_sample(inputs)
    total = inputs.corpus.num_documents
    held_out = recipe.evaluation.data
    facts = [
        ("text", _described(recipe.data, total)),
        ("held-out text", "none" if held_out is None else held_out.place),
        *_sample_facts(sample, has_teacher=recipe.needs_teacher),
        *_budget_facts(recipe, sample, total),
    ]
    return TrainingPlan(tuple(facts), sample.notes)


def _described(data: CorpusConfig, num_documents: int | None) -> str:
    count = "a stream" if num_documents is None else f"{num_documents:,} documents"
    return f"{data.place}, {count}"


def _read_sample(inputs: TrainingInputs) -> _Sample:
    reader = inputs.document_reader()
    groups = [GroupLengths()]

    def documents() -> Iterator[AlignedDocument]:
        first = islice(inputs.corpus.documents(epochs=1), _SAMPLE_DOCUMENTS)
        for document in reader.read(first):
            groups.append(_groups(document))
            yield document

    rows = pack_rows(
        documents(),
        inputs.readers[0],
        inputs.student,
        inputs.recipe.pack,
        more_teachers=inputs.readers[1:],
    )
    counts = reduce(add, (row.counts for row in rows), RowCounts())
    if counts.num_rows == 0:
        name = f"data {inputs.corpus.config.place}"
        raise without_rows(name, reader.counts)
    lengths = reduce(add, groups)
    warning = [lengths.warning] if lengths.warning and inputs.recipe.needs_teacher else []
    return _Sample(
        reader.counts.num_documents,
        counts,
        lengths,
        reader.counts.coverage.byte_share,
        (*reader.counts.warnings, *reader.counts.reasons, *warning),
    )


def _groups(document: AlignedDocument) -> GroupLengths:
    """The groups of a teacher that closes them at white space."""
    if document.others is None:
        return GroupLengths()
    alignment = document.others.alignment
    lengths = np.diff(alignment.byte_spans)[:, 0]
    groups = white_space_groups(alignment, document.teacher)
    return measure_groups(groups, lengths, len(document.teacher.text))


def _sample_facts(sample: _Sample, *, has_teacher: bool) -> Facts:
    facts = [("sample", f"{sample.num_documents} documents, {sample.counts.num_rows:,} rows")]
    if has_teacher and sample.byte_share is not None:
        facts.append(("  bytes in chunks", f"{sample.byte_share:.1%}"))
    if has_teacher and sample.groups.num_groups:
        facts.append(
            ("  groups per 1,000 bytes, by white space", f"{sample.groups.per_1000_bytes:.1f}")
        )
    return tuple(facts)


def _budget_facts(recipe: AnyRecipe, sample: _Sample, num_documents: int | None) -> Facts:
    training, counts = recipe.training, sample.counts
    if training.steps is not None:
        steps = training.steps
        shown = f"{steps:,}"
    else:
        assert training.epochs is not None  # a recipe has one of the two
        assert num_documents is not None  # and counts what it reads in epochs
        rows = counts.num_rows * num_documents / sample.num_documents
        steps = training.epochs * math.ceil(rows / training.rows_per_step)
        shown = f"about {steps:,} ({training.epochs} epochs)"
    rows_read = steps * training.rows_per_step
    sides = (
        ("teacher tokens", counts.num_teacher_tokens),
        ("student tokens", counts.num_student_tokens),
        ("bytes", counts.num_bytes),
    )
    return (
        ("steps", f"{shown} of {training.rows_per_step} rows"),
        *((label, f"about {_scaled(rows_read, total, counts)}") for label, total in sides),
    )


def _scaled(rows_read: int, total: int, counts: RowCounts) -> str:
    return f"{round(rows_read * total / counts.num_rows):,}"


def _check_stored_teacher(inputs: TrainingInputs) -> None:
    """Check that a stored teacher is whole and of these rows; its weights are not compared.

    Raises:
        CacheError: It is not.
    """
    recipe, teacher = inputs.recipe, inputs.teachers[0]
    assert recipe.teacher_cache is not None
    expected = text_fingerprints(
        inputs.corpus,
        recipe.pack,
        inputs.readers[0],
        inputs.student,
        tokenizer_folder=resolve_tokenizer(teacher.source),
    )
    TeacherCache.open(recipe.teacher_cache, expected)


def _state(options: TrainingOptions) -> str:
    """What the run would do with its folder.

    Raises:
        ConfigError: The run could not begin or go on there.
    """
    run, checkpoint = options.output.absolute(), options.checkpoint
    saved = starting_point(options.recipe, run, resume=options.resume, checkpoint=checkpoint)
    check_writable(run)
    if saved is None:
        return "new"
    step = load_state(saved).step
    return (
        f"already finished at step {step:,}"
        if is_finished(saved)
        else (f"goes on from step {step:,}")
    )


def _written(options: TrainingOptions, state: str) -> Facts:
    recipe = options.recipe
    parts = ["recipe.json", "log.jsonl"]
    parts += ["first_stage/"] if recipe.first_stage is not None else []
    parts += ["start/"] if recipe.kind == "transfer" or recipe.train == "lora" else []
    every = recipe.checkpoints.every
    when = f"every {every:,} steps and " if every else ""
    kept = f"the last {recipe.checkpoints.keep_last}"
    kept += " and the best" if recipe.checkpoints.keep_best else ""
    return (
        ("folder", f"{options.output} ({state})"),
        ("written", ", ".join(parts)),
        ("checkpoints", f"{when}at the end; kept: {kept}"),
    )
