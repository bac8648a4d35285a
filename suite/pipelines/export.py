"""`suite export`: a checkpoint as a folder that anyone can open, with a model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from suite.distill.checkpoint import load_state
from suite.distill.state import TrainingState
from suite.errors import ConfigError
from suite.models.adapters import load_adapted
from suite.models.checkpoint_folder import (
    ModelFolders,
    checkpoint_facts,
    find_checkpoint,
    model_folders,
    verify_model,
)
from suite.models.entry import ModelConfig
from suite.models.export import Dtype, fold_checked, write_export
from suite.models.hub_upload import check_repository, push_folder
from suite.models.licence import Terms, model_types, terms_of
from suite.models.loading import Placement, load_model
from suite.models.manifest import has_manifest, verify_manifest, write_manifest
from suite.models.ngram_folder import is_ngram_folder
from suite.models.resolve import resolve
from suite.models.sources import Source
from suite.pipelines.export_card import CardInputs, model_card, shown_source
from suite.pipelines.output_folder import UnfinishedFolder, check_output
from suite.pipelines.stage_progress import StageProgress
from suite.report.model_card import render_model_card

Facts = tuple[tuple[str, str], ...]

NGRAM_NOTE = (
    "plain transformers has no model that adds n-gram embeddings to its input, so only the suite"
    " opens this folder: as path:FOLDER in all its commands, or with load_ngram_model of"
    " suite.models.ngram_folder"
)


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and where.

    Attributes:
        checkpoint: A checkpoint's folder, or a run's, which stands for its newest one.
        output: The folder; new or empty.
        dtype: Of the weights in it.
        accepts_licence: The user accepts the terms that come with the model.
        push: `ORG/NAME` on the hub; None to keep it here.
        private: Only its owner sees it there.
    """

    checkpoint: Path
    output: Path
    dtype: Dtype = "float32"
    accepts_licence: bool = False
    push: str | None = None
    private: bool = False


@dataclass(frozen=True)
class Exported:
    """A finished folder, and what to say of it.

    Attributes:
        folder: A model folder with card and manifest.
        facts: Labels and values.
        notes: What a user should know; a sentence each.
    """

    folder: Path
    facts: Facts
    notes: tuple[str, ...]


def export(options: ExportOptions, *, console: Console | None = None, api: Any = None) -> Exported:
    """Write the folder; it appears when it is finished and was opened once.

    Args:
        options: What to export, and where.
        console: For progress; None for standard error.
        api: huggingface_hub's `HfApi`; None for one of the user's own login.

    Raises:
        SuiteError: One sentence; nothing is left behind but what was finished before a push.
    """
    _check_options(options)
    found = _open(options)
    with (
        StageProgress(console or Console(stderr=True)) as bar,
        UnfinishedFolder(options.output, "DIR") as folder,
    ):
        bar.begin("loading")
        model = _load(found.folders)
        if found.folders.adapter is not None:
            bar.begin("folding")
            model = fold_checked(model)
        bar.begin("writing")
        settings, is_plain = found.folders.model, not found.is_ngram
        write_export(folder, model, settings, options.dtype, is_plain=is_plain)
        del model
        _describe(folder, found, options)
    facts: Facts = (
        ("checkpoint", str(found.checkpoint)),
        ("steps", f"{found.state.step:,}"),
        ("weights", _weights(found, options.dtype)),
        *((("terms", f"{found.terms.name}, {found.terms.address}"),) if found.terms else ()),
    )
    if options.push is not None:
        address = push_folder(options.output, options.push, private=options.private, api=api)
        facts = (*facts, ("pushed to", address))
    return Exported(options.output, facts, (NGRAM_NOTE,) if found.is_ngram else ())


@dataclass(frozen=True)
class _Found:
    """A checkpoint whose files were checked."""

    checkpoint: Path
    folders: ModelFolders
    facts: Mapping[str, Any]
    state: TrainingState
    types: tuple[str, ...]

    @property
    def is_ngram(self) -> bool:
        return is_ngram_folder(self.folders.model)

    @property
    def terms(self) -> Terms | None:
        return terms_of(self.types)


def _check_options(options: ExportOptions) -> None:
    if options.private and options.push is None:
        raise ConfigError("--private has no effect without --push; leave it out")
    if options.push is not None:
        check_repository(options.push)
    check_output(options.output, "DIR")


def _open(options: ExportOptions) -> _Found:
    place = options.checkpoint
    checkpoint = find_checkpoint(place)
    if checkpoint is None:
        state = "has no checkpoint" if place.is_dir() else "is no folder"
        raise ConfigError(
            f"{place} {state}; give the folder of a run, or one of its folders checkpoints/step-..."
        )
    facts = checkpoint_facts(checkpoint)
    folders = model_folders(checkpoint)
    types = tuple(sorted({*facts.get("model_types", ()), *model_types(folders.model)}))
    terms = terms_of(types)
    if terms is not None and not options.accepts_licence:
        raise ConfigError(
            f"{checkpoint} was made from or taught by a model under the {terms.name}"
            f" ({terms.address}), which it carries on; read them and give --accept-licence"
        )
    verify_model(checkpoint)
    if has_manifest(folders.model):
        verify_manifest(folders.model)
    return _Found(checkpoint, folders, facts, load_state(checkpoint), types)


def _load(folders: ModelFolders) -> Any:
    """The checkpoint's model on the processor in float32, adapters beside its weights."""
    if folders.adapter is not None:
        return load_adapted(folders.model, folders.adapter)
    entry = ModelConfig(name="checkpoint", source=Source(path=folders.model), device="cpu")
    return load_model(entry, resolve(entry, is_verified=True), Placement("cpu", "float32")).model


def _describe(folder: Path, found: _Found, options: ExportOptions) -> None:
    """Write card, notice and manifest."""
    inputs = CardInputs(
        facts=found.facts,
        state=found.state,
        weights=_weights(found, options.dtype),
        terms=found.terms,
        loading_note=NGRAM_NOTE if found.is_ngram else "",
        place=options.push or options.output.name,
    )
    card = render_model_card(model_card(inputs))
    (folder / "README.md").write_text(card, encoding="utf-8", errors="backslashreplace")
    if found.terms is not None:
        (folder / "NOTICE").write_text(found.terms.notice + "\n", encoding="utf-8")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    sources = found.facts.get("sources", {})
    facts = {
        "kind": "export",
        "title": found.facts.get("title"),
        "weights": _weights(found, options.dtype),
        "model_types": list(found.types),
        "sources": {part: shown_source(str(source)) for part, source in sources.items()},
        "step": found.state.step,
        "figures": found.facts.get("figures", {}),
    }
    write_manifest(folder, facts)


def _weights(found: _Found, dtype: str) -> str:
    """What the weights are, and what they are saved in where that is another dtype."""
    weights = str(found.facts.get("weights", "trained"))
    return weights if dtype in weights else f"{weights}, saved in {dtype}"
