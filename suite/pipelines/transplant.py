"""`suite transplant`: a model with another tokenizer's vocabulary, made without training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from suite.config import content_hash
from suite.errors import ConfigError
from suite.models.cache import cached_folder
from suite.models.entry import ModelConfig
from suite.models.fingerprint import tokenizer_fingerprint, weights_fingerprint
from suite.models.licence import model_types
from suite.models.loading import load_model, place, release_memory
from suite.models.manifest import write_manifest
from suite.models.resolve import resolve
from suite.models.sources import Source, TransplantSource
from suite.pipelines.output_folder import UnfinishedFolder, check_output
from suite.pipelines.stage_progress import StageProgress
from suite.pipelines.transplant_inputs import (
    TransplantInputs,
    load_donor,
    load_stored,
    max_passage_bytes,
    open_inputs,
    saved_dtype,
)
from suite.text.passages import cut_passages
from suite.text.tokenizers import open_tokenizer
from suite.transplant.bits_per_byte import bits_per_byte
from suite.transplant.contract import Composition
from suite.transplant.folder import save_folder
from suite.transplant.registry import TRANSPLANTS
from suite.transplant.surgery import renumber_settings, replace_embeddings

# Raised when a change of the code changes what is written, so that old folders are made again.
TRANSPLANT_VERSION = 1

_NUM_PASSAGES = 32

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TransplantOptions:
    """What to make, and where.

    Attributes:
        source: The model, the tokenizer and the method.
        output: The folder; new or empty.
        text: A file whose bits per byte are measured; None for packaged passages.
    """

    source: TransplantSource
    output: Path
    text: Path | None = None


@dataclass(frozen=True)
class Transplanted:
    """A finished folder, and what to say of it.

    Attributes:
        folder: A model folder with manifest.
        facts: Labels and values.
        notes: What a user should know; a sentence each.
    """

    folder: Path
    facts: Facts
    notes: tuple[str, ...]


def plan_transplant(options: TransplantOptions) -> Transplanted:
    """What would be made; opens tokenizers, loads no weights and writes nothing.

    Raises:
        SuiteError: Something is missing or wrong; one sentence.
    """
    check_output(options.output, "--output")
    inputs = open_inputs(options.source)
    _passages(options.text, inputs)
    return Transplanted(options.output, _facts(inputs), _notes(inputs))


def transplant(options: TransplantOptions, *, console: Console | None = None) -> Transplanted:
    """Make the model's folder; it appears when it is finished.

    Args:
        options: What to make, and where.
        console: For progress; None for standard error.

    Raises:
        SuiteError: One sentence; nothing is left behind.
    """
    check_output(options.output, "--output")
    inputs = open_inputs(options.source)
    passages = _passages(options.text, inputs)
    with (
        StageProgress(console or Console(stderr=True)) as bar,
        UnfinishedFolder(options.output, "--output") as folder,
    ):
        before = _measure(inputs.source.model, "before", passages, bar)
        facts = _build(inputs, folder, bar)
        after = _measure(Source(path=folder), "after", passages, bar)
        measured = {"before": before, "after": after, "num_passages": len(passages)}
        write_manifest(folder, facts | {"bits_per_byte": measured})
    text = f"{options.text}" if options.text else "passages of Python's documentation"
    bits = (
        ("text", f"{text}, {sum(len(p.encode()) for p in passages):,} bytes"),
        ("bits per byte before", f"{before:.3f}"),
        ("bits per byte after", f"{after:.3f}"),
    )
    return Transplanted(options.output, (*_facts(inputs), *bits), _notes(inputs))


def transplanted_folder(source: TransplantSource, console: Console | None = None) -> Path:
    """The cached folder of a transplant, made at the first call.

    Args:
        source: The model, the tokenizer and the method.
        console: For progress; None for standard error.

    Raises:
        SuiteError: It cannot be made; one sentence.
    """
    inputs = open_inputs(source)
    key = content_hash({"version": TRANSPLANT_VERSION, **_identity(inputs)})[:24]

    def build(folder: Path) -> dict[str, Any]:
        with StageProgress(console or Console(stderr=True)) as bar:
            return _build(inputs, folder, bar)

    return cached_folder("transplants", f"{source.method}-{key}", build)


def _build(inputs: TransplantInputs, folder: Path, bar: StageProgress) -> dict[str, Any]:
    """Write model and tokenizer; returns facts for the manifest."""
    source, plan = inputs.source, inputs.plan
    bar.begin(f"loading {source.model}")
    model = load_stored(inputs)
    donor = load_donor(inputs)
    if len(plan.composed):
        bar.begin(f"{source.method}: composing {len(plan.composed):,} embeddings")
    composition = Composition(
        old=inputs.old, plan=plan, donor=donor, k=source.k, seed=source.seed, on_step=bar.reach
    )
    compose = TRANSPLANTS[source.method](composition)
    replace_embeddings(model, plan, compose, inputs.old, untie=inputs.is_byte_student)
    renumber_settings(model, plan, inputs.new, keeps_special=source.special_tokens == "keep")
    bar.begin("writing")
    save_folder(folder, model, inputs.new)
    del model, donor, compose, composition
    release_memory()
    counts = {
        "shared": len(plan.shared),
        "copied": plan.num_copied,
        "composed": len(plan.composed),
        "unused": plan.num_unused,
    }
    names = {"model": str(source.model), "tokenizer": str(source.tokenizer)}
    return {
        "model_types": list(model_types(inputs.resolved.folder)),
        "weights": f"{_saved(inputs)}; tokens of {source.tokenizer} by {source.method}",
        "transplant": names | _identity(inputs) | counts,
    }


def _saved(inputs: TransplantInputs) -> str:
    """What the model's weights were, and what they are saved in where that is another dtype."""
    weights, dtype = inputs.resolved.weights, saved_dtype(inputs.resolved)
    return weights if dtype in weights else f"{weights}, saved in {dtype}"


def _identity(inputs: TransplantInputs) -> dict[str, Any]:
    """Everything that decides what is written."""
    source = inputs.source
    found: dict[str, Any] = {
        "method": source.method,
        "special_tokens": source.special_tokens,
        "model_fingerprint": weights_fingerprint(inputs.resolved.folder),
        "model_tokenizer_fingerprint": tokenizer_fingerprint(inputs.resolved.tokenizer_folder),
        "tokenizer_fingerprint": "bytes",
    }
    if inputs.tokenizer_folder is not None:
        found["tokenizer_fingerprint"] = tokenizer_fingerprint(inputs.tokenizer_folder)
    if inputs.donor is not None:
        found |= {"k": source.k, "donor_fingerprint": weights_fingerprint(inputs.donor.folder)}
    if source.method == "random":
        found["seed"] = source.seed
    return found


def _passages(text: Path | None, inputs: TransplantInputs) -> list[str]:
    """What is measured, in pieces that both models can read."""
    limit = max_passage_bytes(inputs)
    if text is None:
        from suite.harness.tasks import packaged_tasks

        file = packaged_tasks() / "data" / "suite_bits_per_byte" / "train.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines()[:_NUM_PASSAGES]
        whole = [json.loads(line)["text"] for line in lines]
        return [piece for passage in whole for piece in cut_passages(passage, limit)]
    try:
        found = cut_passages(text.read_text(encoding="utf-8"), limit)
    except OSError as error:
        raise ConfigError(f"--text {text}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--text {text}: cannot be read (not UTF-8 text)") from error
    if not found:
        raise ConfigError(f"--text {text}: is empty; give a file with text")
    return found


def _measure(source: Source, when: str, passages: list[str], bar: StageProgress) -> float:
    """Bits per byte of the model in a folder, as a user would load it."""
    bar.begin(f"bits per byte {when}")
    entry = ModelConfig(name=when, source=source)
    resolved = resolve(entry)
    loaded = load_model(entry, resolved, place(entry, resolved))
    tokenizer = open_tokenizer(loaded.tokenizer, name=str(source))
    found = bits_per_byte(
        loaded.model,
        tokenizer,
        passages,
        lambda count: bar.advance(count, len(passages)),
    )
    del loaded
    release_memory()
    return found


def _facts(inputs: TransplantInputs) -> Facts:
    plan, source = inputs.plan, inputs.source
    method = f"omp, k = {source.k}" if source.method == "omp" else source.method
    special: Mapping[str, str] = {
        "keep": "the model's own, behind the regular tokens",
        "replace": "the tokenizer's",
    }
    return (
        ("model", str(source.model)),
        ("tokenizer", str(source.tokenizer)),
        ("method", method),
        ("special tokens", special[source.special_tokens]),
        ("rows", f"{plan.num_rows:,}"),
        ("  shared", f"{len(plan.shared):,} regular tokens"),
        ("  copied", f"{plan.num_copied:,}, {plan.num_special:,} of them special"),
        ("  composed", f"{len(plan.composed):,}"),
        ("  unused", f"{plan.num_unused:,}"),
    )


def _notes(inputs: TransplantInputs) -> tuple[str, ...]:
    notes = []
    if inputs.is_byte_student:
        notes.append(
            "input and output embeddings of a byte model are two matrices, at first equal where the"
            " model had one"
        )
    if inputs.old.adds_begin and not inputs.new.adds_begin:
        notes.append(
            f"the new tokenizer puts no begin token before a text, as that of {inputs.source.model}"
            " does; without it models fail, so use --special-tokens keep"
        )
    return tuple(notes)
