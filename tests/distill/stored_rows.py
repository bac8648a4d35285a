"""Rows made by hand and a teacher that needs no model; shared by tests of the stored teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from suite.align.collate import BatchSide
from suite.align.cut import Piece
from suite.align.rows import NO_CHUNKS, Row, RowCounts, RowSide
from suite.distill.cache_manifest import CacheManifest, CacheSettings
from suite.distill.cache_shards import Place
from suite.distill.cache_writer import CacheSources, CacheWriter
from suite.distill.signals import TeacherSignal
from suite.distill.teacher import round_to_stored
from suite.likelihood.options import TokenLogProbs
from suite.text.corpus import Position

FINGERPRINTS = {"text": "a" * 64, "order": "not shuffled, one epoch", "dtype": "float32"}
NOTHING = RowSide(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.bool_))


def rows_of(lengths: Sequence[int], seed: int = 0) -> list[Row]:
    """Rows of random tokens; two rows make a document, the last one may be alone in it."""
    rng = np.random.default_rng(seed)
    return [_row(number, lengths, rng) for number in range(len(lengths))]


def _row(number: int, lengths: Sequence[int], rng: np.random.Generator) -> Row:
    length, document = lengths[number], number // 2
    ends = number % 2 == 1 or number + 1 == len(lengths)
    behind = Position(1) if number + 1 == len(lengths) else Position(0, document + 1)
    ids = rng.integers(0, 1000, length).astype(np.int32)
    side = RowSide(ids, np.arange(length, dtype=np.int32), np.ones(length, np.bool_))
    return Row(
        pieces=(Piece(0, 0, length, has_prefix=False, is_last=ends),),
        documents=(document,),
        teacher=side,
        student=NOTHING,
        chunks=NO_CHUNKS,
        counts=RowCounts(num_rows=1, num_teacher_tokens=length),
        resume=behind if ends else Position(0, document),
        resume_token=0 if ends else length,
    )


def reading(rows: Sequence[Row]) -> Callable[[Place], Iterator[Row]]:
    """Rows from a place on, as `CacheSources.rows` gives them."""
    starts = [Place(), *(Place(row.resume, row.resume_token) for row in rows)]

    def rows_from(place: Place) -> Iterator[Row]:
        return iter(rows[starts.index(place) :])

    return rows_from


@dataclass
class FormulaTeacher:
    """Numbers from token ids, positions and, as in a model's last bits, the shape of the batch.

    Attributes:
        calls: Row numbers of every batch it was asked for.
        stop_at: Raises `stop_with` instead of answering this call.
    """

    calls: list[list[int]] = field(default_factory=list)
    stop_at: int | None = None
    stop_with: BaseException | None = None

    def signal(self, side: BatchSide, row_numbers: Sequence[int]) -> TeacherSignal:
        if self.stop_with is not None and len(self.calls) == self.stop_at:
            raise self.stop_with
        self.calls.append(list(row_numbers))
        token, boundary = formula(side)
        return TeacherSignal(TokenLogProbs(round_to_stored(token), round_to_stored(boundary)))


def formula(side: BatchSide) -> tuple[Tensor, Tensor]:
    shape = side.ids.shape[0] * 1000 + side.ids.shape[1]
    token = -(side.ids + side.position_ids / 7 + shape / 1e4) / 100
    boundary = -(side.ids.flip(1) + 1) / 50
    token[:, 0] = 0
    return token.float() * side.token_mask, boundary.float() * side.token_mask


def manifest_of(batch_tokens: int = 64, shard_tokens: int = 200) -> CacheManifest:
    settings = CacheSettings(batch_tokens=batch_tokens, shard_tokens=shard_tokens)
    return CacheManifest(fingerprints=FINGERPRINTS, settings=settings, made_from={})


def sources_of(
    rows: Sequence[Row],
    teacher: Callable[[], FormulaTeacher],
    on_rows: Callable[[Place, int], None] = lambda place, num_tokens: None,
    confirm: Callable[[], None] = lambda: None,
) -> CacheSources:
    return CacheSources(reading(rows), teacher, on_rows, confirm)


def fill(
    folder: Path,
    rows: Sequence[Row],
    teacher: FormulaTeacher,
    manifest: CacheManifest,
    *,
    seconds_between_saves: float = 0,
) -> int:
    """Fill a folder; by default everything is saved after each batch."""
    folder.mkdir(exist_ok=True)
    sources = sources_of(rows, lambda: teacher)
    writer = CacheWriter(folder, manifest, sources, seconds_between_saves=seconds_between_saves)
    return writer.fill()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
