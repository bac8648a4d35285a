"""The hidden-state loss: against loops, its normaliser, and its projection."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_batches import HIDDEN_SIZE, as_float32, batch_of, random_inputs, random_rows
from torch import Tensor

from suite.distill.losses.contract import LossContext
from suite.distill.losses.hidden_state import (
    ChannelMoments,
    HiddenStateConfig,
    HiddenStateLoss,
    channel_moments,
    hidden_state_loss,
    states_at,
)
from suite.distill.signals import LossInputs
from suite.errors import ConfigError, ShapeError

SEEDS = st.integers(0, 10_000)
MEAN_SQUARE = torch.tensor([0.5, 1.0, 2.0, 4.0, 0.25], dtype=torch.float64)
few_examples = settings(max_examples=20)


def context(student_size: int = HIDDEN_SIZE) -> LossContext:
    return LossContext(
        student_size=student_size, teacher_size=HIDDEN_SIZE, teacher_mean_square=MEAN_SQUARE
    )


def built(*, projection: bool = False, student_size: int = HIDDEN_SIZE) -> HiddenStateLoss:
    return HiddenStateConfig(projection=projection).build(context(student_size))


def plain_loss(rows, inputs: LossInputs) -> tuple[float, int]:
    """The loss and the number of chunks: a loop over rows, chunks and channels."""
    total, count = 0.0, 0
    student, teacher = inputs.student.hidden.tolist(), inputs.teachers[0].hidden.tolist()
    for b, row in enumerate(rows):
        for chunk in row.chunks:
            mine, theirs = (stop - 1 for _, stop in chunk.spans)
            for d, scale in enumerate(MEAN_SQUARE.tolist()):
                gap = student[b][mine][d] - teacher[b][theirs][d]
                total += gap**2 / (HIDDEN_SIZE * scale)
            count += 1
    return total, count


@few_examples
@given(seed=SEEDS)
def test_the_loss_of_a_batch_is_that_of_a_plain_loop(seed):
    rows = random_rows(seed)
    inputs = random_inputs(rows, seed, extra=2)
    expected, count = plain_loss(rows, inputs)
    found = built()(inputs)
    assert found.count.item() == count
    assert found.count.dtype == torch.int64
    assert found.sum.item() == pytest.approx(expected)
    rounded = built().float()(as_float32(inputs)).sum
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(expected, rel=1e-5)


@few_examples
@given(seed=SEEDS, extra=st.integers(1, 5))
def test_padding_changes_no_gradient(seed, extra):
    rows = random_rows(seed)
    tight, wide = random_inputs(rows, seed), random_inputs(rows, seed, extra=extra, junk=math.nan)
    expected, found = (built()(inputs) for inputs in (tight, wide))
    torch.testing.assert_close(found.sum, expected.sum)
    assert found.count == expected.count
    mine, theirs = (
        torch.autograd.grad(term.sum, inputs.student.hidden)[0]
        for term, inputs in ((found, wide), (expected, tight))
    )
    assert torch.equal(mine[:, :-extra], theirs)
    assert not mine[:, -extra:].any()


def random_states(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("junk", [9.0, math.nan, math.inf])
def test_masked_chunks_add_nothing(junk):
    student, teacher = random_states(0, 2, 3, 5), random_states(1, 2, 3, 5)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    expected = hidden_state_loss(student, teacher, mask, MEAN_SQUARE)
    leaf = student.masked_fill(~mask[..., None], junk).requires_grad_()
    found = hidden_state_loss(leaf, teacher.masked_fill(~mask[..., None], junk), mask, MEAN_SQUARE)
    assert torch.equal(found.detach(), expected)
    found.backward()
    assert not leaf.grad[~mask].any()
    assert leaf.grad[mask].all()


def test_equal_states_have_a_loss_of_0_and_a_silent_student_one_of_1_a_chunk():
    teacher = random_states(2, 2, 40, 5)
    mask = torch.ones(2, 40).bool()
    index = torch.arange(40).expand(2, 40)
    normaliser = channel_moments(teacher, index, mask).mean_square()
    assert hidden_state_loss(teacher, teacher, mask, normaliser).item() == 0
    silent = hidden_state_loss(torch.zeros_like(teacher), teacher, mask, normaliser)
    assert silent.item() == pytest.approx(80, rel=1e-6)


def test_the_gradient_agrees_with_finite_differences():
    student, teacher = random_states(3, 1, 3, 5).requires_grad_(), random_states(4, 1, 3, 5)
    mask = torch.tensor([[True, False, True]])
    assert torch.autograd.gradcheck(
        lambda states: hidden_state_loss(states, teacher, mask, MEAN_SQUARE), (student,)
    )


def test_half_precision_is_computed_in_float32():
    student, teacher = random_states(5, 1, 9, 5).bfloat16(), random_states(6, 1, 9, 5).bfloat16()
    mask = torch.ones(1, 9).bool()
    loss = hidden_state_loss(student, teacher, mask, MEAN_SQUARE.float())
    assert loss.dtype == torch.float32
    exact = hidden_state_loss(student.float(), teacher.float(), mask, MEAN_SQUARE.float())
    assert torch.equal(loss, exact)


@few_examples
@given(seed=SEEDS)
def test_the_normaliser_is_the_teachers_mean_square_at_the_ends_of_chunks(seed):
    rows = random_rows(seed)
    inputs = random_inputs(rows, seed, extra=1, junk=math.nan)
    hidden = inputs.teachers[0].hidden
    ends = [
        hidden[b, chunk.spans[1][1] - 1].numpy()
        for b, row in enumerate(rows)
        for chunk in row.chunks
    ]
    expected = np.mean(np.square(ends), axis=0)
    batch = inputs.batch
    moments = channel_moments(hidden, batch.teacher.chunk_last, batch.hidden_mask)
    assert moments.count == len(ends)
    assert moments.mean_square().dtype == torch.float32
    assert moments.mean_square().numpy() == pytest.approx(
        np.maximum(expected, 1e-3 * expected.mean())
    )


def test_moments_of_batches_add_up_to_those_of_all():
    hidden = random_states(7, 4, 6, 5).bfloat16()
    index = torch.arange(6).expand(4, 6)
    mask = torch.rand(4, 6, generator=torch.Generator().manual_seed(8)) < 0.5
    whole = channel_moments(hidden, index, mask)
    first, second = (
        channel_moments(hidden[rows], index[rows], mask[rows])
        for rows in (slice(0, 1), slice(1, 4))
    )
    assert (first + second).count == whole.count
    assert whole.sum_squares.dtype == torch.float64
    torch.testing.assert_close((first + second).sum_squares, whole.sum_squares)


def test_a_channel_that_is_nearly_always_0_counts_as_a_thousandth_of_the_mean():
    moments = ChannelMoments(torch.tensor([0.0, 1e-9, 60.0, 20.0], dtype=torch.float64), 10)
    assert moments.mean_square().tolist() == pytest.approx([0.002, 0.002, 6.0, 2.0])


def test_rows_without_chunks_give_no_normaliser():
    none = ChannelMoments(torch.zeros(3, dtype=torch.float64), 0)
    with pytest.raises(ConfigError) as caught:
        none.mean_square()
    assert str(caught.value) == (
        "hidden_state: the first rows hold no chunk to take the teacher's mean square from;"
        " look at the data with suite align"
    )


def test_a_projection_takes_the_students_states_to_the_teachers_size():
    rows = random_rows(11)
    inputs = random_inputs(rows, 11)
    narrow = inputs.student.hidden[..., :3]
    inputs = replace(inputs, student=replace(inputs.student, hidden=narrow))
    loss = built(projection=True, student_size=3).double()
    assert {name: tuple(p.shape) for name, p in loss.named_parameters()} == {
        "projection.weight": (5, 3)
    }
    with torch.no_grad():
        loss.projection.weight.copy_(random_states(12, 5, 3))
    found = loss(inputs)
    mapped = narrow @ loss.projection.weight.T
    same = replace(inputs, student=replace(inputs.student, hidden=mapped))
    torch.testing.assert_close(found.sum, built()(same).sum)
    found.sum.backward()
    assert loss.projection.weight.grad.abs().sum() > 0


def test_a_projection_of_equal_sizes_starts_as_none():
    inputs = random_inputs(random_rows(13), 13)
    plain, projected = built()(inputs), built(projection=True).double()(inputs)
    torch.testing.assert_close(projected.sum, plain.sum)


def test_the_normaliser_and_the_projection_are_the_state_that_a_checkpoint_keeps():
    first = built(projection=True)
    assert set(first.state_dict()) == {"mean_square", "projection.weight"}
    other = HiddenStateConfig(projection=True).build(
        replace(context(), teacher_mean_square=torch.ones(HIDDEN_SIZE, dtype=torch.float64))
    )
    other.load_state_dict(first.state_dict())
    assert torch.equal(other.mean_square, MEAN_SQUARE)
    assert set(built().state_dict()) == {"mean_square"}


def test_unequal_sizes_without_a_projection_are_refused():
    with pytest.raises(ConfigError) as caught:
        built(student_size=3)
    assert str(caught.value) == (
        "hidden_state: the student's states have 3 channels and the teacher's 5;"
        " set projection to true"
    )


def test_a_teacher_without_hidden_states_is_refused():
    sentence = (
        "hidden_state: there are no hidden states of a teacher; use a live teacher, or leave the"
        " loss out"
    )
    with pytest.raises(ConfigError) as caught:
        HiddenStateConfig().build(LossContext(student_size=5))
    assert str(caught.value) == sentence
    inputs = random_inputs(random_rows(14), 14)
    stored = replace(inputs, teachers=(replace(inputs.teachers[0], hidden=None),))
    with pytest.raises(ConfigError) as caught:
        built()(stored)
    assert str(caught.value) == sentence


def test_shapes_that_do_not_fit_are_named():
    states = torch.zeros(1, 2, 5)
    with pytest.raises(ShapeError) as caught:
        hidden_state_loss(states, states, torch.ones(1, 2).bool(), torch.ones(4))
    assert str(caught.value) == (
        "hidden_state_loss: expected student [B, N, D], teacher [B, N, D], mask [B, N],"
        " mean_square [D]; got student [1, 2, 5], teacher [1, 2, 5], mask [1, 2], mean_square [4]"
    )
    with pytest.raises(ShapeError) as caught:
        states_at(states, batch_of(random_rows(0)).teacher.chunk_last)
    assert str(caught.value).startswith("states_at: expected hidden [B, T, D], chunk_last [B, N];")
