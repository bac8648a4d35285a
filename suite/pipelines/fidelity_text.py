"""A student and its teacher on one text: ALM's divergence on byte-aligned chunks, bits per byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from suite.align.collate import BatchSide
from suite.align.cut import PackConfig
from suite.align.documents import DocumentReader
from suite.align.pack import pack_rows
from suite.align.rows import Row, RowCounts
from suite.distill.held_out import HeldOutFigures, measure_held_out
from suite.distill.losses.alm import AlmConfig
from suite.distill.losses.contract import LossContext
from suite.distill.signals import TeacherSignal
from suite.distill.student import Student, open_student
from suite.models.entry import ModelConfig
from suite.models.loading import release_memory
from suite.pipelines.stage_progress import StageProgress
from suite.pipelines.training_inputs import open_entry_tokenizer, without_rows
from suite.pipelines.training_models import RememberedTeacher, load_frozen
from suite.report.fidelity_record import Role, TextFidelity, TextVersus
from suite.text.corpus import Corpus, CorpusConfig, open_corpus
from suite.text.corpus_sources import find_files
from suite.text.tokenizers import OpenedTokenizer

PASSAGE_BYTES = 2048
# Recipes that train on the packaged text leave out what lies behind these documents.
_TRAINED_ON = 55
_ROW_TOKENS = 512
_ROWS_PER_PASS = 4
# As the ALM loss is by default.
_ALM = AlmConfig()


@dataclass(frozen=True, eq=False)
class TextInputs:
    """The text and the tokenizers, opened.

    Attributes:
        corpus: The text.
        tokenizers: By role.
        max_length: Most tokens that models read at once; None for their own limits.
    """

    corpus: Corpus
    tokenizers: Mapping[Role, OpenedTokenizer]
    max_length: int | None


def open_text(
    text: Path | None,
    num_documents: int,
    entries: Mapping[Role, ModelConfig],
    max_length: int | None,
) -> TextInputs:
    """Find the text and open the tokenizers; no weights are loaded.

    Args:
        text: A file or folder; None for what recipes hold out of the packaged text.
        num_documents: Documents that are read; a text file is cut into passages.
        entries: The models by role.
        max_length: Most tokens that models read at once.

    Raises:
        SuiteError: The text or a tokenizer cannot be had or read.
    """
    order = {"shuffle": False, "limit": num_documents}
    if text is None:
        config = CorpusConfig(packaged="python-docs", skip=_TRAINED_ON, **order)
    else:
        is_plain = find_files(text.absolute())[0] == "text"
        size = PASSAGE_BYTES if is_plain else None
        config = CorpusConfig(path=text.absolute(), passage_bytes=size, **order)
    corpus = open_corpus(config)
    tokenizers = {role: open_entry_tokenizer(entry, role) for role, entry in entries.items()}
    return TextInputs(corpus, tokenizers, max_length)


def measure_text(
    inputs: TextInputs,
    entries: Mapping[Role, ModelConfig],
    device: torch.device,
    bar: StageProgress,
) -> TextFidelity:
    """Read the text with all models, one in memory at a time.

    Args:
        inputs: Of `open_text`.
        entries: The models by role.
        device: Where they run.
        bar: Told what is done.

    Raises:
        SuiteError: A model cannot be loaded or read.
    """
    compared: list[Role] = [role for role in entries if role != "teacher"]
    rows = {role: _rows(inputs, role) for role in compared}
    bar.begin("text, teacher")
    teacher = _Unrounded(_open(entries["teacher"], inputs.tokenizers["teacher"], device))
    remembered: dict[Role, RememberedTeacher] = {}
    for role in compared:
        same = next((other for other in remembered if _reads_alike(rows[other], rows[role])), None)
        remembered[role] = (
            RememberedTeacher(teacher, 0, rows[role], _ROWS_PER_PASS)
            if same is None
            else remembered[same]
        )
    del teacher
    release_memory()
    figures: dict[Role, HeldOutFigures] = {}
    for role in compared:
        bar.begin(f"text, {role}")
        model = _open(entries[role], inputs.tokenizers[role], device)
        figures[role] = measure_held_out(
            model, [remembered[role]], rows[role], _ALM, rows_per_pass=_ROWS_PER_PASS
        )
        del model
        release_memory()
    return _fidelity(inputs.corpus, rows["student"], figures)


class _Unrounded:
    """A model as a `Teacher` that is not rounded as a stored one: equal models differ by 0."""

    def __init__(self, reader: Student) -> None:
        self._reader = reader.eval()

    @torch.no_grad()
    def signal(self, side: BatchSide, row_numbers: Sequence[int]) -> TeacherSignal:
        """As `Teacher.signal`; rows may be any."""
        device = self._reader.boundary_mask.device
        there = BatchSide(**{name: value.to(device) for name, value in vars(side).items()})
        return TeacherSignal(self._reader.read(there).log_probs)


def _open(entry: ModelConfig, tokenizer: OpenedTokenizer, device: torch.device) -> Student:
    """A model that says what it gives to each token, in the dtype that its entry says."""
    model = load_frozen(entry, device)
    context = LossContext(student_size=int(model.config.get_text_config().hidden_size))
    return open_student(
        model, tokenizer, (), context, name=str(entry.source), packing="none", autocast=None
    )


def _rows(inputs: TextInputs, role: Role) -> list[Row]:
    """The text as the teacher and one model read it.

    Raises:
        ConfigError: There is nothing that both read.
    """
    teacher, own = inputs.tokenizers["teacher"], inputs.tokenizers[role]
    reader = DocumentReader(teacher, own)
    documents = inputs.corpus.documents(epochs=1)
    length = min(_ROW_TOKENS, inputs.max_length or _ROW_TOKENS)
    # A token holds at least one byte, so that no model reads more than its limit.
    max_bytes = None if inputs.max_length is None else max(1, inputs.max_length - 2)
    config = PackConfig(length=max(2, length), max_bytes=max_bytes, packing="none")
    rows = list(pack_rows(reader.read(documents), teacher, own, config))
    if not rows:
        raise without_rows(f"--text {inputs.corpus.config.place}", reader.counts)
    return rows


def _reads_alike(first: Sequence[Row], second: Sequence[Row]) -> bool:
    """Whether the teacher reads the same in both; students may change the text's normal form."""
    pairs = zip(first, second, strict=False)
    return len(first) == len(second) and all(
        np.array_equal(one.teacher.ids, other.teacher.ids) for one, other in pairs
    )


def _fidelity(
    corpus: Corpus, rows: Sequence[Row], figures: Mapping[Role, HeldOutFigures]
) -> TextFidelity:
    counts = sum((row.counts for row in rows), RowCounts())
    bits: dict[Role, float | None] = {"teacher": figures["student"].teacher_bits_per_byte}
    bits |= {role: found.student_bits_per_byte for role, found in figures.items()}
    temperature = _ALM.binarization_temperature
    return TextFidelity(
        place=corpus.config.place,
        num_documents=len({number for row in rows for number in row.documents}),
        num_bytes=counts.num_bytes,
        divergence=f"{_ALM.divergence}, binarization temperature {temperature:g}",
        bits_per_byte=bits,
        versus_teacher={
            role: TextVersus(
                num_groups=found.num_groups,
                divergence=found.loss,
                mean_distance=found.mean_distance,
                rank_correlation=found.rank_correlation,
            )
            for role, found in figures.items()
        },
    )
