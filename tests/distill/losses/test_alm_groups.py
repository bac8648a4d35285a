"""From tokens to groups and their loss: against walks over rows, tokens, chunks and groups."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_batches import PlainChunk, PlainRow, as_float32, batch_of, random_inputs, random_rows
from plain_losses import CASES, NAMES, plain_loss
from torch import Tensor
from trained_tokenizers import opened

from suite.align.collate import collate
from suite.align.cut import PackConfig
from suite.align.documents import DocumentReader
from suite.align.pack import pack_rows
from suite.distill.losses.alm import AlmConfig
from suite.distill.losses.contract import LossContext
from suite.distill.losses.groups import SideChunks, group_chunks, log_weights, side_chunks
from suite.distill.signals import LossInputs, LossTerm, StudentOutput, TeacherSignal
from suite.errors import ConfigError, ShapeError
from suite.likelihood.options import TokenLogProbs
from suite.text.corpus import Document, Message, Position

PLAIN = {"merge": False, "append": False}
APPEND = {"merge": False, "append": True}
MODES = (PLAIN, APPEND, {"merge": True, "gamma": 0.1}, {"merge": True, "gamma": 0.3})
SEEDS = st.integers(0, 10_000)


def loss_of(inputs: LossInputs, **chosen) -> LossTerm:
    """The loss as a recipe's settings build it."""
    config = AlmConfig(**{key: value for key, value in chosen.items() if value is not None})
    context = LossContext(student_size=1, num_teachers=len(inputs.teachers))
    return config.build(context)(inputs)


def gradients(inputs: LossInputs, **chosen) -> tuple[Tensor, Tensor]:
    """Of the student's token and boundary log-probs."""
    own = inputs.student.log_probs
    loss = loss_of(inputs, **chosen).sum
    found = torch.autograd.grad(loss, (own.token, own.boundary), materialize_grads=True)
    return found[0], found[1]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize(("divergence", "tau"), CASES)
def test_the_loss_of_a_batch_is_that_of_plain_walks(divergence, tau, mode):
    for seed in range(2):
        rows = random_rows(seed)
        inputs = random_inputs(rows, seed, extra=seed, junk=math.nan)
        chosen = {"divergence": divergence, "binarization_temperature": tau, **mode}
        expected, count = plain_loss(rows, inputs, mode, divergence, tau)
        assert count > 3
        exact = loss_of(inputs, **chosen)
        assert exact.count.item() == count
        assert exact.count.dtype == torch.int64
        assert exact.sum.item() == pytest.approx(expected, rel=1e-7)
        rounded = loss_of(as_float32(inputs), **chosen)
        assert rounded.sum.dtype == torch.float32
        assert rounded.count.item() == count
        assert rounded.sum.item() == pytest.approx(expected, rel=1e-4)


def test_epsilon_reaches_the_loss():
    rows = random_rows(1)
    inputs = random_inputs(rows, 1)
    expected, _ = plain_loss(rows, inputs, MODES[2], "kl", 1.0, epsilon=0.1)
    found = loss_of(inputs, binarization_temperature=1, epsilon=0.1)
    assert found.sum.item() == pytest.approx(expected)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("weights", [(0.3, 0.7), (0.2, 0.3, 0.5)])
def test_several_teachers_are_one_that_draws_among_them(weights, mode):
    for seed in range(2):
        rows = random_rows(seed, num_sides=1 + len(weights))
        inputs = random_inputs(rows, seed, junk=math.nan)
        expected, count = plain_loss(rows, inputs, mode, "kl", 5.0, weights)
        found = loss_of(inputs, binarization_temperature=5.0, teacher_weights=weights, **mode)
        assert found.count.item() == count
        assert found.sum.item() == pytest.approx(expected, rel=1e-7)


@settings(max_examples=10)
@given(seed=SEEDS)
def test_a_teacher_twice_is_that_teacher(seed):
    rows = random_rows(seed)
    once = random_inputs(rows, seed)
    twice = replace(
        once,
        batch=replace(once.batch, more_teachers=(once.batch.teacher,)),
        teachers=once.teachers * 2,
    )
    expected = loss_of(once)
    for weights in ((0.5, 0.5), None):
        found = loss_of(twice, teacher_weights=weights)
        assert found.count == expected.count
        torch.testing.assert_close(found.sum, expected.sum)
        for mine, theirs in zip(gradients(twice), gradients(once), strict=True):
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("divergence", NAMES)
def test_gradients_through_groups_agree_with_finite_differences(divergence):
    rows = random_rows(7, num_rows=1)
    inputs = random_inputs(rows, 7)

    def loss(token: Tensor, boundary: Tensor) -> Tensor:
        student = replace(inputs.student, log_probs=TokenLogProbs(token, boundary))
        return loss_of(replace(inputs, student=student), divergence=divergence).sum

    own = inputs.student.log_probs
    assert torch.autograd.gradcheck(loss, (own.token, own.boundary))


@settings(max_examples=10)
@given(seed=SEEDS, junk=st.sampled_from([0.0, 9.0, math.nan, math.inf, -math.inf]))
def test_what_lies_outside_of_chunks_changes_neither_loss_nor_gradient(seed, junk):
    rows = random_rows(seed)
    clean, spoilt = (
        random_inputs(rows, seed, extra=2),
        random_inputs(rows, seed, extra=2, junk=junk),
    )
    assert torch.equal(loss_of(spoilt).sum, loss_of(clean).sum)
    for mine, theirs in zip(gradients(spoilt), gradients(clean), strict=True):
        assert torch.equal(mine, theirs)


@settings(max_examples=10)
@given(seed=SEEDS, extra=st.integers(1, 9))
def test_more_padding_changes_no_gradient(seed, extra):
    rows = random_rows(seed)
    tight, wide = random_inputs(rows, seed), random_inputs(rows, seed, extra=extra)
    assert loss_of(wide).count == loss_of(tight).count
    torch.testing.assert_close(loss_of(wide).sum, loss_of(tight).sum)
    for mine, theirs in zip(gradients(wide), gradients(tight), strict=True):
        assert torch.equal(mine[:, :-extra], theirs)
        assert not mine[:, -extra:].any()


@settings(max_examples=10)
@given(seed=SEEDS)
def test_a_row_has_the_same_gradient_alone_and_in_any_batch(seed):
    rows = random_rows(seed)
    inputs = random_inputs(rows, seed)
    whole = gradients(inputs)
    parts = []
    for b, row in enumerate(rows):
        tokens = [slice(0, max(1, size)) for size in row.sizes]
        alone = LossInputs(
            batch_of([row]),
            StudentOutput(_row(inputs.student.log_probs, b, tokens[0]), torch.zeros(1, 1, 1)),
            (TeacherSignal(_row(inputs.teachers[0].log_probs, b, tokens[1])),),
        )
        for mine, theirs in zip(gradients(alone), whole, strict=True):
            assert torch.equal(mine[0], theirs[b, tokens[0]])
        parts.append(loss_of(alone))
    assert sum(part.count for part in parts) == loss_of(inputs).count
    torch.testing.assert_close(sum(part.sum for part in parts), loss_of(inputs).sum)


def _row(log_probs: TokenLogProbs, b: int, tokens: slice) -> TokenLogProbs:
    return TokenLogProbs(*(x[b : b + 1, tokens] for x in (log_probs.token, log_probs.boundary)))


def side(log_probs: list[float], boundary: list[float] | None = None) -> SideChunks:
    values = None if boundary is None else torch.tensor([boundary])
    return SideChunks(torch.tensor([log_probs]), values)


def one_token_batch(*completions: bool, closes: tuple[int, ...] = ()):
    """A row of chunks of one token on both sides, behind begin tokens."""
    begin = PlainChunk(((0, 1), (0, 1)), is_begin=True, in_completion=False)
    chunks = [
        PlainChunk(((n, n + 1),) * 2, closes=n in closes, in_completion=inside)
        for n, inside in enumerate(completions, start=1)
    ]
    return batch_of([PlainRow((begin, *chunks), (len(chunks) + 1,) * 2)])


OPEN, CLOSED = math.log(0.01), math.log(0.9)


def test_groups_are_merged_and_the_boundary_behind_the_last_chunk_is_appended():
    batch = one_token_batch(True, True, True, True)
    teacher = side([0.0, -1.0, -2.0, -4.0, -8.0], [0.0, OPEN, CLOSED, OPEN, OPEN])
    student = side([0.0, -3.0, -5.0, -7.0, -9.0], [0.0, -0.1, -0.2, -0.3, -0.4])
    found = group_chunks(student, [teacher], batch)
    assert found.mask.tolist() == [[True, True, False, False, False]]
    expected = torch.tensor([-3.0 + CLOSED, -12.0 + OPEN])
    torch.testing.assert_close(found.teacher[found.mask], expected)
    torch.testing.assert_close(found.student[found.mask], torch.tensor([-8.2, -16.4]))
    bare = group_chunks(student, [teacher], batch, append=False)
    assert bare.teacher[bare.mask].tolist() == [-3.0, -12.0]
    single = group_chunks(student, [teacher], batch, merge=False, append=False)
    assert single.mask.tolist() == [[False, True, True, True, True]]
    assert single.student[single.mask].tolist() == [-3.0, -5.0, -7.0, -9.0]


def test_a_group_that_straddles_the_end_of_a_prompt_is_dropped():
    batch = one_token_batch(False, False, True, True, True, closes=(4,))
    teacher = side([0.0, -1.0, -2.0, -4.0, -8.0, -16.0], [0.0, CLOSED, OPEN, OPEN, OPEN, OPEN])
    found = group_chunks(teacher, [teacher], batch, append=False)
    # Groups: chunk 1 (prompt), chunks 2 to 4 (both), chunk 5.
    assert found.mask.tolist() == [[False, False, True, False, False, False]]
    assert found.teacher[found.mask].tolist() == [-16.0]


def test_two_teachers_close_a_group_by_the_mean_of_their_boundary_probabilities():
    batch = one_token_batch(True, True)
    batch = replace(batch, more_teachers=(batch.teacher,))
    sure = side([0.0, -1.0, -1.0], [0.0, math.log(0.15), 0.0])
    unsure = side([0.0, -1.0, -1.0], [0.0, math.log(0.07), 0.0])
    for weights, num_groups in (((0.5, 0.5), 2), ((0.2, 0.8), 1)):
        found = group_chunks(sure, [sure, unsure], batch, teacher_weights=weights)
        assert found.mask.sum() == num_groups


def test_a_group_is_never_more_than_certain():
    batch = one_token_batch(True, True, closes=(1,))
    rounded_up = side([0.0, 2e-6, 3e-6], [0.0, 1e-6, 1e-6])
    for append in (True, False):
        found = group_chunks(rounded_up, [rounded_up], batch, append=append)
        assert found.student[found.mask].tolist() == found.teacher[found.mask].tolist() == [0, 0]


def test_groups_use_no_difference_of_a_running_sum():
    # Behind a million nats, a running sum in float32 moves in steps of 1/16.
    batch = one_token_batch(True, True, closes=(1,))
    values = side([0.0, -1e6, -0.001], [0.0, 0.0, 0.0])
    found = group_chunks(values, [values], batch)
    assert found.student[found.mask].tolist() == [-1e6, pytest.approx(-0.001)]


def test_boundaries_are_needed_only_by_the_steps_that_read_them():
    batch = one_token_batch(True, True)
    bare, whole = side([0.0, -1.0, -2.0]), side([0.0, -1.0, -2.0], [0.0, OPEN, OPEN])
    assert group_chunks(bare, [bare], batch, **PLAIN).mask.sum() == 2
    assert group_chunks(bare, [whole], batch, append=False).mask.sum() == 1
    for student, teacher, step in ((whole, bare, "merge"), (bare, whole, "append")):
        with pytest.raises(ConfigError) as caught:
            group_chunks(student, [teacher], batch)
        assert str(caught.value) == (
            f"group_chunks: {step} needs boundary log-probabilities; give token_log_probs a"
            f" boundary_mask, or set {step} to false"
        )


@pytest.mark.parametrize(
    ("weights", "num_teachers", "sentence"),
    [
        ((1.0,), 2, "teacher_weights has 1 for 2 teachers; give one for each"),
        ((0.5, 0.5), 1, "teacher_weights has 2 for 1 teacher; give one for each"),
        ((0.5, 0.4), 2, "teacher_weights are 0.5, 0.4, which sum to 0.9; they must sum to 1"),
        ((1.0, 0.0), 2, "teacher_weights are 1.0, 0.0; each must be above 0"),
        ((math.nan, 1.0), 2, "teacher_weights are nan, 1.0; each must be above 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_sentence(weights, num_teachers, sentence):
    with pytest.raises(ConfigError) as caught:
        log_weights(weights, num_teachers)
    assert str(caught.value) == sentence


def test_teachers_without_weights_count_alike():
    assert log_weights(None, 4) == log_weights((0.25,) * 4, 4)


def test_sides_of_another_batch_are_refused():
    batch = one_token_batch(True, True)
    with pytest.raises(ShapeError) as caught:
        group_chunks(side([0.0]), [side([0.0])], batch)
    assert str(caught.value) == (
        "group_chunks: expected log_probs [B, N], chunk_mask [B, N];"
        " got log_probs [1, 1], chunk_mask [1, 3]"
    )
    wrong = torch.zeros(1, 4)
    with pytest.raises(ShapeError) as caught:
        side_chunks(TokenLogProbs(wrong, None), batch.student)
    assert str(caught.value) == (
        "side_chunks: expected token [B, T], ids [B, T]; got token [1, 4], ids [1, 3]"
    )


TEXTS = ["The quick brown fox jumps.", "dogs and cats", "It was the best of times. " * 4, "日本語"]
CHATS = [
    (Message("user", "What is 1 + 2?"), Message("assistant", "It is 3.")),
    (Message("user", "And then?"), Message("assistant", "Nothing.\n\nNo.")),
]


def real_batch(documents: list[Document], families: tuple[str, str], length: int = 48):
    """A batch as training reads it."""
    sides = [opened(family) for family in families]
    stream = [(Position(0, number + 1), item) for number, item in enumerate(documents)]
    aligned = list(DocumentReader(*sides).read(stream))
    rows = list(pack_rows(aligned, *sides, PackConfig(length=length)))
    return collate(rows, multiple_of=8)


def said_about(batch, boundary: float) -> LossInputs:
    """Random log-probs of a real batch's tokens, float64, NaN at padding."""
    rng = np.random.default_rng(0)

    def said(one) -> TokenLogProbs:
        token = torch.from_numpy(-np.exp(rng.normal(-1, 1, one.ids.shape)))
        token = token.masked_fill(~one.token_mask, math.nan)
        return TokenLogProbs(token, torch.full_like(token, boundary))

    student = StudentOutput(said(batch.student), torch.zeros(*batch.student.ids.shape, 1))
    return LossInputs(batch, student, (TeacherSignal(said(batch.teacher)),))


@pytest.mark.parametrize("families", [("byte-level", "marked"), ("marked", "bytes:marked")])
def test_groups_of_real_rows_hold_every_counted_token_of_their_chunks(families):
    texts = [Document(n, text=text, prompt_bytes=3 * (n % 2)) for n, text in enumerate(TEXTS)]
    batch = real_batch(texts, families)
    inputs = said_about(batch, CLOSED)
    signal = inputs.teachers[0].log_probs
    chunks = [
        side_chunks(log_probs, one)
        for log_probs, one in ((inputs.student.log_probs, batch.student), (signal, batch.teacher))
    ]
    found = group_chunks(chunks[0], chunks[1:], batch, append=False)
    # Each chunk closes its group, so groups of completions are chunks of completions.
    counted = batch.chunk_mask & batch.in_completion
    assert found.mask.sum() == counted.sum() > 20
    for one, log_probs, values in (
        (batch.student, inputs.student.log_probs, found.student),
        (batch.teacher, signal, found.teacher),
    ):
        index = one.chunk_index
        in_counted = (index >= 0) & counted.gather(1, index.clamp(min=0))
        # Losses count no first token of a document and no prompt.
        assert (one.loss_mask | ~in_counted).all()
        torch.testing.assert_close(values[found.mask].sum(), log_probs.token[in_counted].sum())


def test_without_boundaries_each_document_of_a_real_row_is_one_group():
    batch = real_batch(
        [Document(n, text=text) for n, text in enumerate(TEXTS)], ("byte-level",) * 2
    )
    # The same tokenizer on both sides leaves nothing out.
    found = loss_of(said_about(batch, -100.0))
    assert found.count == batch.always_closes.sum() >= len(TEXTS)
    assert found.sum.isfinite()


def test_groups_of_real_chats_lie_in_the_answers():
    documents = [Document(n, messages=chat) for n, chat in enumerate(CHATS)]
    batch = real_batch(documents, ("byte-level", "bytes:byte-level"), 64)
    inputs = said_about(batch, CLOSED)
    token = inputs.student.log_probs.token.requires_grad_()
    found = loss_of(inputs)
    assert found.count == (batch.chunk_mask & batch.in_completion).sum() > 2
    found.sum.backward()
    assert (token.grad != 0).any()
    assert not token.grad[~batch.student.loss_mask].any()
    # Where nothing closes, all groups straddle the end of the prompt.
    nothing = loss_of(said_about(batch, OPEN))
    assert nothing.count == nothing.sum == 0
