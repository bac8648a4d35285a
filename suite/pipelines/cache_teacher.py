"""`suite cache-teacher`: a teacher's two numbers for every token of a text, into a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from rich.console import Console

import suite
from suite.align.cut import PackConfig
from suite.align.documents import ReadCounts
from suite.align.rows import RowCounts
from suite.distill.cache_fingerprints import teacher_fingerprints, text_fingerprints
from suite.distill.cache_manifest import CacheManifest, shorten
from suite.distill.cache_shards import Place
from suite.distill.cache_writer import (
    SECONDS_BETWEEN_SAVES,
    CacheSources,
    CacheWriter,
    place_behind,
)
from suite.distill.signals import Teacher
from suite.distill.teacher import live_teacher
from suite.distill.teacher_cache import TeacherCache
from suite.errors import CacheError, ModelError, is_out_of_memory
from suite.models.loading import Placement, load_model, pick_device, place
from suite.models.resolve import ResolvedModel, resolve, resolve_tokenizer
from suite.pipelines.cache_inputs import (
    CacheInputs,
    CacheTeacherOptions,
    check_length,
    only_run_in,
    open_folder,
    pick_settings,
)
from suite.pipelines.hardware import describe_hardware
from suite.progress import DocumentProgress
from suite.text.corpus import open_corpus

_BYTES_PER_TOKEN = 4
# A dry run tells from so many documents how many tokens all of them have.
_SAMPLE_DOCUMENTS = 64

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CachedTeacher:
    """A finished cache.

    Attributes:
        cache: It, opened.
        num_computed: Tokens that this run computed; 0 if nothing was left to do.
        facts: Labels and values.
        notes: What was not read and why, and what else a user should know; a sentence each.
    """

    cache: TeacherCache
    num_computed: int
    facts: Facts
    notes: tuple[str, ...]


def cache_teacher(
    options: CacheTeacherOptions,
    *,
    console: Console | None = None,
    seconds_between_saves: float = SECONDS_BETWEEN_SAVES,
) -> CachedTeacher:
    """Fill the folder; after a kill, the same call goes on where it stopped.

    Args:
        options: What to store, and where.
        console: For progress; None for standard error.
        seconds_between_saves: How much work a kill may cost.

    Raises:
        SuiteError: One sentence; what was finished before is kept.
    """
    inputs = CacheInputs(options)
    resolved = resolve(options.teacher)
    check_length(resolved.folder, options)
    placement = place(options.teacher, resolved)
    fingerprints = teacher_fingerprints(
        inputs.corpus,
        options.pack,
        inputs.teacher,
        inputs.student,
        entry=options.teacher,
        resolved=resolved,
        dtype=placement.dtype,
    )
    _manifest(options, placement, fingerprints)
    with only_run_in(options.output):
        # Another run may have begun the folder meanwhile.
        manifest = _manifest(options, placement, fingerprints)
        total = inputs.corpus.num_documents
        bar = DocumentProgress(console or Console(stderr=True), "cache-teacher", total)

        def load() -> Teacher:
            teacher = _load(options, inputs, resolved, placement)
            # The time it took says nothing about the time left.
            bar.begin(bar.num_done)
            return teacher

        confirm = partial(_confirm_text, options, fingerprints["text"])
        writer = CacheWriter(
            options.output,
            manifest,
            CacheSources(inputs.rows, load, _advance(bar, total), confirm),
            seconds_between_saves=seconds_between_saves,
        )
        with bar, _memory_named(manifest.settings.batch_tokens):
            num_computed = writer.fill()
    cache = TeacherCache.open(options.output, fingerprints)
    counts = inputs.reader.counts
    facts = _facts(cache, options.pack)
    if num_computed:
        facts += _reading_facts(counts, is_whole=num_computed == cache.num_tokens)
    return CachedTeacher(cache, num_computed, facts, (*counts.reasons, *counts.warnings))


def plan_cache(options: CacheTeacherOptions) -> Facts:
    """What `cache_teacher` would do, after all checks that need no weights; writes nothing.

    Raises:
        SuiteError: Something is missing or wrong; one sentence.
    """
    device = pick_device(options.teacher.device)
    inputs = CacheInputs(options)
    folder = resolve_tokenizer(options.teacher.source)
    check_length(folder, options)
    fingerprints = text_fingerprints(
        inputs.corpus,
        options.pack,
        inputs.teacher,
        inputs.student,
        tokenizer_folder=folder,
    )
    begun = open_folder(options.output, fingerprints)
    settings = pick_settings(options, device, begun)
    state = "new"
    if begun is not None:
        state = "complete" if begun.complete else f"goes on behind {begun.num_rows:,} rows"
    return (
        ("teacher", str(options.teacher.source)),
        ("device, dtype", f"{device}, {options.teacher.dtype}"),
        ("folder", f"{options.output} ({state})"),
        ("rows", fingerprints["rows"]),
        ("order", fingerprints["order"]),
        *_estimate(inputs),
        ("tokens a batch, a shard", f"{settings.batch_tokens:,}, {settings.shard_tokens:,}"),
        ("normal form", fingerprints["normal_form"]),
        *(
            (label, shorten(fingerprints[name]))
            for name, label in (
                ("text", "text"),
                ("tokenizer", "tokenizer"),
                ("boundary", "boundary set"),
                ("template", "chat template"),
            )
        ),
    )


def _manifest(
    options: CacheTeacherOptions, placement: Placement, fingerprints: Mapping[str, str]
) -> CacheManifest:
    """The one in the folder, after all checks, or a new one."""
    begun = open_folder(options.output, fingerprints)
    settings = pick_settings(options, placement.device, begun)
    return begun or CacheManifest(
        fingerprints=fingerprints, settings=settings, made_from=_made_from(options, placement)
    )


def _load(
    options: CacheTeacherOptions,
    inputs: CacheInputs,
    resolved: ResolvedModel,
    placement: Placement,
) -> Teacher:
    from transformers.utils import logging

    # Its bar would be drawn into ours.
    logging.disable_progress_bar()
    loaded = load_model(options.teacher, resolved, placement)
    name = str(options.teacher.source)
    return live_teacher(loaded.model, inputs.teacher, name=name, packing=options.pack.packing)


def _advance(bar: DocumentProgress, total: int | None) -> Callable[[Place, int], None]:
    def on_rows(behind: Place, num_tokens: int) -> None:
        position = behind.position
        # Behind the last document stands the beginning of the next epoch.
        num_done = total if position.epoch and total else position.index
        if num_tokens:
            bar.advance(num_done, num_tokens)
        else:
            bar.begin(num_done)

    return on_rows


def _confirm_text(options: CacheTeacherOptions, fingerprint: str) -> None:
    """Read the text's files again.

    Raises:
        CacheError: They are not what they were.
    """
    if open_corpus(options.data).fingerprint() != fingerprint:
        raise CacheError(
            f"{options.output}: the text changed while it was read; delete this folder and give the"
            " same command again"
        )


@contextmanager
def _memory_named(batch_tokens: int) -> Iterator[None]:
    """Say what to change when a device has too little memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"out of memory at {batch_tokens:,} tokens a batch; give a smaller --batch-tokens, and"
            " another --output if this one was begun with it"
        ) from error


def _made_from(options: CacheTeacherOptions, placement: Placement) -> dict[str, str]:
    data = options.data
    found = {
        "teacher": str(options.teacher.source),
        "student": None if options.student is None else str(options.student),
        "text": data.place,
        "attn_implementation": options.teacher.attn_implementation,
        "hardware": describe_hardware(placement.device),
        "suite_version": suite.__version__,
    }
    return {name: value for name, value in found.items() if value}


def _estimate(inputs: CacheInputs) -> Facts:
    """Documents, and from the first of them the tokens and bytes of all."""
    num_documents = inputs.corpus.num_documents
    if num_documents is None:
        return (("documents", "not known before they are read"),)
    num_read = num_tokens = 0
    for row in inputs.rows(Place()):
        num_tokens += row.counts.num_teacher_tokens
        position = place_behind(row).position
        num_read = num_documents if position.epoch else position.index
        if num_read >= _SAMPLE_DOCUMENTS:
            break
    guess = round(num_tokens / max(num_read, 1) * num_documents)
    size = guess * _BYTES_PER_TOKEN / 1e6
    return (
        ("documents", f"{num_documents:,}"),
        ("tokens, size", f"about {guess:,}, {size:,.1f} MB (from {num_read} documents)"),
    )


def _facts(cache: TeacherCache, pack: PackConfig) -> Facts:
    counts = RowCounts(num_rows=len(cache), num_teacher_tokens=cache.num_tokens)
    return (
        ("rows", f"{len(cache):,}"),
        ("tokens", f"{cache.num_tokens:,}"),
        ("bytes a token", f"{cache.bytes_per_token:.3f}"),
        ("padding in rows", f"{counts.padding_share(pack.length):.1%}"),
    )


def _reading_facts(counts: ReadCounts, *, is_whole: bool) -> Facts:
    """About the documents; a run that went on has not read them all."""
    label = "documents" if is_whole else "documents read by this run"
    facts = [(label, f"{counts.num_documents:,}")]
    for name, number in (
        ("empty", counts.num_empty),
        ("left out: the teacher cannot read them", counts.num_unread_teacher),
        ("the student cannot read them", counts.num_unread_student),
        ("changed by the normal form", counts.num_normalised),
    ):
        if number:
            facts.append((f"  {name}", f"{number:,}"))
    return tuple(facts)
