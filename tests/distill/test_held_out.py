"""Held-out figures of tiny random models against walks over documents, tokens, chunks and groups.

Everything is float64, so that the teacher's float16 rounding is the same on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from trained_tokenizers import opened
from transformers import LlamaConfig, LlamaForCausalLM

from suite.align.boundaries import boundary_start_mask
from suite.align.cut import PackConfig
from suite.align.documents import DocumentReader
from suite.align.pack import pack_rows
from suite.align.rows import Row, RowSide
from suite.distill.held_out import HeldOutFigures, measure_held_out
from suite.distill.losses.alm import AlmConfig
from suite.distill.losses.contract import LossContext
from suite.distill.losses.sft import SftConfig
from suite.distill.student import Student, open_student
from suite.distill.teacher import LiveTeacher, live_teacher
from suite.text.corpus import Document, Position

TEACHER, STUDENT = opened("byte-level"), opened("unigram")
DOCUMENTS = (
    Document(0, "The quick brown fox jumps over the lazy dog. It was the best of times."),
    Document(1, 'She said: "No, thank you."\r\n  def f(x):\n\treturn x * 2\n\n', prompt_bytes=12),
    Document(2, "Der schöne Straßenkünstler aß Äpfel; l'été à Noël, où est-il?"),
)
ROWS_LENGTH = 40
DEFAULT = AlmConfig()


@cache
def build(seed: int, *, of_student: bool = False, dropout: float = 0.0) -> Any:
    tokenizer = STUDENT if of_student else TEACHER
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer.vocabulary),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        attention_dropout=dropout,
    )
    return LlamaForCausalLM(config).double()


@cache
def rows(num_more: int = 0) -> tuple[Row, ...]:
    """For one teacher, or for more of them with the same tokenizer."""
    more = [TEACHER] * num_more
    read = DocumentReader(TEACHER, STUDENT, more).read(
        (Position(0, number + 1), document) for number, document in enumerate(DOCUMENTS)
    )
    config = PackConfig(length=ROWS_LENGTH)
    return tuple(pack_rows(read, TEACHER, STUDENT, config, more_teachers=more))


def with_chunks(row: Row, chosen: Any) -> Row:
    """The row with some of its chunks."""
    columns = vars(row.chunks).items()
    parts = {name: column[chosen] for name, column in columns if isinstance(column, np.ndarray)}
    return replace(row, chunks=replace(row.chunks, **parts))


def teacher_of(seed: int = 0) -> LiveTeacher:
    return live_teacher(build(seed), TEACHER, name="teacher", packing="isolated")


def student_of(seed: int = 1, dropout: float = 0.0) -> Student:
    return open_student(
        build(seed, of_student=True, dropout=dropout),
        STUDENT,
        [SftConfig()],
        LossContext(student_size=32, num_teachers=1),
        name="student",
        packing="isolated",
        autocast=None,
    )


def figures(
    config: AlmConfig = DEFAULT,
    teachers: Sequence[LiveTeacher] | None = None,
    rows_per_pass: int = 2,
    given: Sequence[Row] | None = None,
) -> HeldOutFigures:
    chosen = [teacher_of()] if teachers is None else teachers
    some = rows() if given is None else given
    return measure_held_out(student_of(), chosen, some, config, rows_per_pass=rows_per_pass)


@torch.no_grad()
def said(model: Any, tokenizer: Any, side: RowSide) -> tuple[list[float], list[float]]:
    """Log-probs of a row's tokens and of a boundary behind each, every document run by itself."""
    starts = boundary_start_mask(tokenizer.vocabulary)
    borders = [*np.flatnonzero(side.position_ids == 0).tolist(), len(side.ids)]
    tokens: list[float] = []
    boundaries: list[float] = []
    for start, stop in pairwise(borders):
        ids = torch.tensor(side.ids[start:stop]).long()
        found = model(input_ids=ids[None]).logits[0].log_softmax(-1)
        tokens += [0.0, *(float(found[place - 1, ids[place]]) for place in range(1, len(ids)))]
        boundaries += [math.log(sum(math.exp(p) for p in row[starts].tolist())) for row in found]
    return tokens, boundaries


def rounded(values: list[float]) -> list[float]:
    return [float(np.float16(value)) for value in values]


def expected(config: AlmConfig, seeds: Sequence[int] = (0,)) -> dict[str, Any]:
    """All figures, with one weight for each teacher."""
    weights = config.teacher_weights or (1 / len(seeds),) * len(seeds)
    pairs: list[tuple[float, float]] = []
    nats, num_bytes = [0.0, 0.0], 0
    for row in rows():
        student = said(build(1, of_student=True).eval(), STUDENT, row.student)
        teachers = [
            tuple(map(rounded, said(build(seed).eval(), TEACHER, row.teacher))) for seed in seeds
        ]

        def mixed(values: list[float], weights: Sequence[float] = weights) -> float:
            return math.log(sum(w * math.exp(v) for w, v in zip(weights, values, strict=True)))

        group: list[int] = []
        chunks = row.chunks
        for n in range(len(chunks.is_begin)):
            if chunks.is_begin[n]:
                continue
            t_tokens, s_tokens = range(*chunks.teacher_spans[n]), range(*chunks.student_spans[n])
            if chunks.in_completion[n] and chunks.num_bytes[n]:
                num_bytes += int(chunks.num_bytes[n])
                nats[0] -= sum(student[0][place] for place in s_tokens)
                nats[1] -= mixed([sum(token[place] for place in t_tokens) for token, _ in teachers])
            group.append(n)
            closing = math.exp(mixed([boundary[t_tokens[-1]] for _, boundary in teachers]))
            if config.merge and not (chunks.closes[n] or closing > config.closing_gamma):
                continue
            if all(chunks.in_completion[group]):
                s = sum(student[0][p] for m in group for p in range(*chunks.student_spans[m]))
                s += student[1][s_tokens[-1]] if config.append else 0
                said_by = [
                    sum(token[p] for m in group for p in range(*chunks.teacher_spans[m]))
                    + (boundary[t_tokens[-1]] if config.append else 0)
                    for token, boundary in teachers
                ]
                pairs.append((mixed(said_by), s))
            group = []
    return {
        "num_groups": len(pairs),
        "mean_distance": sum(abs(t - s) for t, s in pairs) / len(pairs),
        "rank_correlation": correlation(ranks([t for t, _ in pairs]), ranks([s for _, s in pairs])),
        "loss": sum(kl(t, s, config) for t, s in pairs) / len(pairs),
        "student_bits_per_byte": nats[0] / math.log(2) / num_bytes,
        "teacher_bits_per_byte": nats[1] / math.log(2) / num_bytes,
    }


def kl(t: float, s: float, config: AlmConfig) -> float:
    tau = config.binarization_temperature or 1.0
    a, b = t / tau - config.epsilon, s / tau - config.epsilon
    p, q = math.exp(a), math.exp(b)
    return p * (a - b) + (1 - p) * (math.log(1 - p) - math.log(1 - q))


def ranks(values: list[float]) -> list[float]:
    """Mean place of equal values among the sorted ones."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) - 1) / 2
        for value in values
    ]


def correlation(first: list[float], second: list[float]) -> float:
    means = sum(first) / len(first), sum(second) / len(second)
    pairs = [(a - means[0], b - means[1]) for a, b in zip(first, second, strict=True)]
    product = sum(a * b for a, b in pairs)
    return product / math.sqrt(sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs))


@pytest.mark.parametrize(
    "config",
    [
        DEFAULT,
        AlmConfig(binarization_temperature=5, gamma=0.2),
        AlmConfig(append=False, binarization_temperature=1),
        AlmConfig(merge=False),
    ],
    ids=["default", "gamma", "not appended", "not merged"],
)
def test_the_figures_are_those_of_plain_walks(config):
    found, wanted = figures(config), expected(config)
    assert found.num_groups == wanted["num_groups"] > 10
    assert vars(found) == pytest.approx(wanted, rel=1e-6)


def test_several_teachers_are_one_that_draws_among_them():
    config = AlmConfig(teacher_weights=(0.3, 0.7))
    found = figures(config, [teacher_of(0), teacher_of(2)], given=rows(num_more=1))
    assert vars(found) == pytest.approx(expected(config, (0, 2)), rel=1e-6)


@pytest.mark.parametrize("rows_per_pass", [1, 100])
def test_the_size_of_passes_changes_nothing(rows_per_pass):
    found = figures(rows_per_pass=rows_per_pass)
    assert vars(found) == pytest.approx(vars(figures()), rel=1e-9)


def test_without_a_teacher_there_are_bits_per_byte_alone():
    found = figures(teachers=[])
    bits = figures().student_bits_per_byte
    assert found == HeldOutFigures(0, None, None, None, pytest.approx(bits), None)


def test_without_rows_there_is_nothing():
    assert figures(given=[]) == HeldOutFigures(0, None, None, None, None, None)


def test_two_groups_have_no_rank_correlation():
    few = with_chunks(rows()[0], slice(0, 3))
    found = figures(AlmConfig(merge=False), given=[few])
    assert found.num_groups == 2
    assert found.rank_correlation is None
    assert found.mean_distance is not None


def test_equal_values_have_no_rank_correlation():
    model = build(3, of_student=True)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    alike = open_student(
        model,
        STUDENT,
        [SftConfig()],
        LossContext(student_size=32),
        name="student",
        packing="isolated",
        autocast=None,
    )
    # Chunks of as many student tokens are then as likely as each other.
    row = rows()[0]
    single = np.diff(row.chunks.student_spans)[:, 0] == 1
    given = [with_chunks(row, single)]
    config = AlmConfig(merge=False, append=False)
    found = measure_held_out(alike, [teacher_of()], given, config, rows_per_pass=1)
    assert found.num_groups > 3
    assert found.rank_correlation is None


def test_modes_random_states_and_gradients_are_left_as_they_were():
    student = student_of(dropout=0.5)
    student.train()
    student.model.model.layers[0].eval()
    modes = [module.training for module in student.modules()]
    state = torch.get_rng_state()
    first, second = (
        measure_held_out(student, [teacher_of()], rows(), DEFAULT, rows_per_pass=2)
        for _ in range(2)
    )
    assert first == second
    assert [module.training for module in student.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in student.parameters())
