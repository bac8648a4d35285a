"""What a training run reads: tokenizers, text, rows. No weights are loaded here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from suite.align.documents import DocumentReader, ReadCounts
from suite.align.pack import pack_rows
from suite.align.rows import Row
from suite.distill.state import DataPlace
from suite.distill.training_rows import TrainingRows
from suite.errors import ConfigError
from suite.models.entry import ModelConfig
from suite.models.resolve import check_entry
from suite.models.tokenizers import open_source
from suite.pipelines.training_recipe import DistillRecipe, TransferRecipe
from suite.pipelines.transplant_inputs import open_inputs
from suite.text.corpus import Corpus, CorpusConfig, Position, open_corpus
from suite.text.tokenizers import OpenedTokenizer
from suite.transplant.added_tokens import with_special_tokens

AnyRecipe = TransferRecipe | DistillRecipe


@dataclass(frozen=True, eq=False)
class TrainingInputs:
    """Tokenizers and text of a recipe without a first stage, or whose first stage is done.

    Attributes:
        recipe: It.
        teachers: The models that teach: of a transfer, the model itself; none if no loss needs
            one and nothing is measured against one.
        readers: Their tokenizers; where nobody teaches, the student's, which rows are cut by.
        student: The student's tokenizer.
        corpus: The training text.
        held_out: The text that figures are taken from.
    """

    recipe: AnyRecipe
    teachers: tuple[ModelConfig, ...]
    readers: tuple[OpenedTokenizer, ...]
    student: OpenedTokenizer
    corpus: Corpus
    held_out: Corpus | None

    def document_reader(self) -> DocumentReader:
        """A reader that counts from 0."""
        return DocumentReader(self.readers[0], self.student, self.readers[1:])

    def training_rows(self, reader: DocumentReader, *, is_stored: bool) -> TrainingRows:
        """The rows of the run.

        Args:
            reader: Counts what it reads.
            is_stored: Read every epoch in the order of the first: a stored teacher has no other.
        """

        def epoch_rows(place: DataPlace) -> Iterator[Row]:
            epoch = place.position.epoch
            first = (
                replace(place, position=replace(place.position, epoch=0)) if is_stored else place
            )
            has_rows = place.row > 0
            for row in self._rows(reader, self.corpus, first):
                has_rows = True
                yield _moved(row, epoch) if is_stored else row
            if not has_rows:
                raise without_rows(f"data {self.corpus.config.place}", reader.counts)

        return TrainingRows(epoch_rows, f"data {self.corpus.config.place}")

    def held_out_rows(self) -> tuple[Row, ...]:
        """The first rows of the held-out text.

        Raises:
            ConfigError: It has none.
        """
        if self.held_out is None:
            return ()
        reader = self.document_reader()
        wanted = self.recipe.evaluation.rows
        found = []
        for row in self._rows(reader, self.held_out, DataPlace()):
            found.append(row)
            if len(found) == wanted:
                break
        if not found:
            place = self.held_out.config.place
            raise without_rows(f"held-out text {place}", reader.counts)
        return tuple(found)

    def _rows(self, reader: DocumentReader, corpus: Corpus, place: DataPlace) -> Iterator[Row]:
        """The rows of one epoch, from a place on."""
        documents = corpus.documents(place.position, epochs=place.position.epoch + 1)
        return pack_rows(
            reader.read(documents, place.position),
            self.readers[0],
            self.student,
            self.recipe.pack,
            first_token=place.token,
            more_teachers=self.readers[1:],
        )


def open_training(
    recipe: AnyRecipe, data: CorpusConfig, teachers: tuple[ModelConfig, ...]
) -> TrainingInputs:
    """Open tokenizers and text.

    Args:
        recipe: The recipe; its model or teachers may come from its first stage.
        data: The training text, which the teacher may have written.
        teachers: Who teaches; of a transfer, the model.

    Raises:
        SuiteError: Something is missing or wrong; one sentence.
    """
    # First, as it is the quickest to be found missing.
    held_out = recipe.evaluation.data
    corpus = open_corpus(data)
    held_out_corpus = None if held_out is None else open_corpus(held_out)
    for entry in teachers:
        check_entry(entry)
    if isinstance(recipe, TransferRecipe):
        inputs = open_inputs(recipe.transplant_source(teachers[0].source))
        readers: tuple[OpenedTokenizer, ...] = (inputs.old,)
        student = inputs.new
    else:
        check_entry(recipe.student)
        student = open_entry_tokenizer(recipe.student, "student")
        readers = tuple(
            open_entry_tokenizer(entry, f"teachers[{number}]")
            for number, entry in enumerate(teachers)
        ) or (student,)
        if recipe.added_special_tokens:
            student = with_special_tokens(student, readers[0], recipe.added_special_tokens)
    return TrainingInputs(recipe, teachers, readers, student, corpus, held_out_corpus)


def without_rows(text: str, counts: ReadCounts) -> ConfigError:
    """The sentence for a text that no row can be made of.

    Args:
        text: What it is and where.
        counts: Of its reading.
    """
    found = [f"{counts.num_documents:,} documents read"]
    found += [f"{counts.num_empty:,} of them empty"] if counts.num_empty else []
    left_out = counts.num_unread_teacher
    found += [f"{left_out:,} left out"] if left_out else []
    first = f": {counts.reasons[0]}" if counts.reasons else ""
    return ConfigError(
        f"{text}: no text to make rows of ({', '.join(found)}{first}); give other text"
    )


def open_entry_tokenizer(entry: ModelConfig, where: str) -> OpenedTokenizer:
    """The tokenizer of a model entry: its own, or the one it names.

    Args:
        entry: The model.
        where: Its key in the recipe, for messages.
    """
    if entry.tokenizer is None:
        return open_source(str(entry.source), where)
    kind = "path" if Path(entry.tokenizer).is_dir() else "hub"
    return open_source(f"{kind}:{entry.tokenizer}", f"{where}.tokenizer")


def _moved(row: Row, epochs: int) -> Row:
    """A row of the first epoch, read in a later one."""
    resume = Position(row.resume.epoch + epochs, row.resume.index)
    return replace(row, resume=resume)
