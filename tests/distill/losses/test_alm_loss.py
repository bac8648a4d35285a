"""The loss over groups: against loops written from its definition, and its properties."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_losses import CASES, EPSILON, NAMES, plain_divergence
from torch import Tensor

from suite.distill.losses.alm import alm_loss
from suite.distill.losses.divergences import DIVERGENCES, log1mexp
from suite.errors import ConfigError, ShapeError

EXTREMES = (0.0, -1e-8, -1e-3, -50.0, -1e4)

few_examples = settings(max_examples=12)
LOG_PROBS = st.floats(-60, 0)
PAIRS = st.lists(st.tuples(LOG_PROBS, LOG_PROBS), min_size=1, max_size=30)


def row(values: list[float], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor([values], dtype=dtype)


def everything(values: Tensor) -> Tensor:
    return torch.ones_like(values, dtype=torch.bool)


def value_and_gradient(student: Tensor, teacher: Tensor, mask: Tensor, **settings):
    """The loss, and its gradient with respect to the student."""
    leaf = student.detach().clone().requires_grad_()
    loss = alm_loss(leaf, teacher, mask, **settings)
    loss.backward()
    return loss.detach(), leaf.grad


def random_log_probs(seed: int, shape: tuple[int, ...] = (4, 50)) -> Tensor:
    """From nearly certain to nearly impossible, float64."""
    generator = torch.Generator().manual_seed(seed)
    return -torch.exp(torch.randn(shape, generator=generator, dtype=torch.float64) * 2.5 - 1)


@pytest.mark.parametrize(("divergence", "tau"), CASES)
@few_examples
@given(pairs=PAIRS, epsilon=st.sampled_from([1e-7, 1e-6, 1e-3]))
def test_the_loss_is_the_sum_that_the_definition_says(divergence, tau, pairs, epsilon):
    teacher, student = (row(list(values)) for values in zip(*pairs, strict=True))
    found = alm_loss(
        student,
        teacher,
        everything(student),
        divergence=divergence,
        binarization_temperature=tau,
        epsilon=epsilon,
    )
    expected = sum(plain_divergence(divergence, t, s, tau, epsilon) for t, s in pairs)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(expected, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("gap", [1e-3, 0.1, 3.0])
@pytest.mark.parametrize(("divergence", "tau"), CASES)
def test_float32_loses_little_even_where_the_models_nearly_agree(divergence, tau, gap):
    teacher = random_log_probs(0).clamp(min=-60, max=-1e-4).float()
    student = teacher * (1 + gap)
    results = []
    for dtype in (torch.float32, torch.float64):
        leaf = student.to(dtype, copy=True).requires_grad_()
        a, b = (values / (tau or 1) - EPSILON for values in (teacher.to(dtype), leaf))
        values = DIVERGENCES[divergence].function(a, b)
        values.sum().backward()
        results.append((values.detach().double(), leaf.grad.double()))
    # Inputs of float32 that are a thousandth apart leave some four digits of what is between them.
    # Far below the teacher, total variation has a gradient exact to rounding of the teacher's P.
    absolute = 1e-7 if divergence == "total_variation" and gap == 3 else 1e-30
    for found, exact in zip(*results, strict=True):
        torch.testing.assert_close(found, exact, rtol=2e-3, atol=absolute)


@pytest.mark.parametrize(("divergence", "tau"), CASES)
@few_examples
@given(values=st.lists(LOG_PROBS, min_size=1, max_size=30))
def test_every_divergence_is_exactly_0_where_the_models_agree(divergence, tau, values):
    settings = {"divergence": divergence, "binarization_temperature": tau}
    for dtype in (torch.float32, torch.float64):
        both = row(values, dtype)
        loss, gradient = value_and_gradient(both, both, everything(both), **settings)
        assert loss.item() == 0
        assert not gradient.any()


@pytest.mark.parametrize(("divergence", "tau"), CASES)
@few_examples
@given(pairs=PAIRS)
def test_no_divergence_is_negative_whatever_the_rounding(divergence, tau, pairs):
    for dtype in (torch.float32, torch.float64):
        teacher, student = (row(list(values), dtype) for values in zip(*pairs, strict=True))
        for other in (student, torch.nextafter(teacher, student)):
            a, b = (values / (tau or 1) - EPSILON for values in (teacher, other))
            assert (DIVERGENCES[divergence].function(a, b) >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("divergence", "tau"), CASES)
def test_certain_and_impossible_groups_give_finite_values_and_gradients(divergence, tau, dtype):
    pairs = [(t, s) for t in EXTREMES for s in EXTREMES]
    teacher, student = (row(list(values), dtype) for values in zip(*pairs, strict=True))
    settings = {"divergence": divergence, "binarization_temperature": tau}
    loss, gradient = value_and_gradient(student, teacher, everything(student), **settings)
    assert math.isfinite(loss)
    assert gradient.isfinite().all()
    # A student that is too sure is pulled down, one that is too unsure is pulled up.
    assert ((gradient * (student - teacher)) >= 0).all()


def test_what_rounding_left_above_0_counts_as_certain():
    above, certain = row([2e-6], torch.float32), row([0.0], torch.float32)
    mask = everything(above)
    for other in (certain, row([-1.0], torch.float32)):
        found = alm_loss(above, other, mask, binarization_temperature=1)
        assert torch.equal(found, alm_loss(certain, other, mask, binarization_temperature=1))


@pytest.mark.parametrize("junk", [0.0, -7.0, 5.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("divergence", NAMES)
def test_what_is_masked_changes_neither_loss_nor_gradient(divergence, junk):
    student, teacher = random_log_probs(1), random_log_probs(2)
    mask = torch.rand(student.shape, generator=torch.Generator().manual_seed(3)) < 0.6
    loss, gradient = value_and_gradient(student, teacher, mask, divergence=divergence)
    spoilt = (values.masked_fill(~mask, junk) for values in (student, teacher))
    junk_loss, junk_gradient = value_and_gradient(*spoilt, mask, divergence=divergence)
    assert torch.equal(junk_loss, loss)
    assert torch.equal(junk_gradient, gradient)
    assert not gradient[~mask].any()
    kept = value_and_gradient(
        student[mask][None],
        teacher[mask][None],
        everything(student[mask][None]),
        divergence=divergence,
    )
    torch.testing.assert_close(kept[0], loss)
    assert torch.equal(kept[1][0], gradient[mask])


def test_a_batch_without_groups_has_a_loss_of_0_and_a_gradient():
    none = torch.zeros(2, 0)
    loss, gradient = value_and_gradient(none, none, none.bool())
    assert loss.item() == 0
    assert gradient.shape == (2, 0)


@pytest.mark.parametrize("divergence", NAMES)
def test_batch_order_changes_no_gradient(divergence):
    student, teacher = random_log_probs(4), random_log_probs(5)
    order = torch.tensor([2, 0, 3, 1])
    mask = everything(student)
    loss, gradient = value_and_gradient(student, teacher, mask, divergence=divergence)
    moved = value_and_gradient(student[order], teacher[order], mask, divergence=divergence)
    assert torch.equal(moved[1], gradient[order])
    torch.testing.assert_close(moved[0], loss)


@pytest.mark.parametrize("tau", [1.0, 5.0, 100.0])
def test_the_gradient_of_kl_is_its_closed_form_and_that_of_the_cross_entropy(tau):
    student, teacher = random_log_probs(6), random_log_probs(7)
    _, gradient = value_and_gradient(
        student, teacher, everything(student), binarization_temperature=tau
    )
    p, q = (torch.exp(values / tau - EPSILON) for values in (teacher, student))
    torch.testing.assert_close(gradient, (q - p) / ((1 - q) * tau), rtol=1e-7, atol=1e-12)
    leaf = student.clone().requires_grad_()
    log_q = leaf / tau - EPSILON
    (-p * log_q - (1 - p) * torch.log(1 - torch.exp(log_q))).sum().backward()
    torch.testing.assert_close(gradient, leaf.grad, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(("divergence", "tau"), CASES)
def test_gradients_of_both_sides_agree_with_finite_differences(divergence, tau):
    student, teacher = (random_log_probs(seed, (2, 6)).requires_grad_() for seed in (8, 9))
    mask = torch.tensor([[True] * 6, [True, False] * 3])

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        settings = {"divergence": divergence, "binarization_temperature": tau}
        return alm_loss(student, teacher, mask, **settings)

    assert torch.autograd.gradcheck(loss, (student, teacher))


@pytest.mark.parametrize("tau", [1.0, 5.0, 100.0])
def test_reverse_kl_is_kl_with_the_sides_exchanged(tau):
    student, teacher = random_log_probs(10), random_log_probs(11)
    mask = everything(student)
    settings = {"binarization_temperature": tau}
    reverse = alm_loss(student, teacher, mask, divergence="reverse_kl", **settings)
    assert torch.equal(reverse, alm_loss(teacher, student, mask, **settings))


def test_kl_times_its_temperature_tends_to_kl_limit():
    student, teacher = random_log_probs(12), random_log_probs(13)
    mask, epsilon = everything(student), 1e-7
    errors = []
    for tau in (1e3, 1e4, 1e5, 1e6):
        settings = {"binarization_temperature": tau, "epsilon": epsilon}
        scaled = tau * alm_loss(student, teacher, mask, **settings)
        # The shift by epsilon comes behind the division, so it grows with the temperature.
        limit = alm_loss(student, teacher, mask, divergence="kl_limit", epsilon=epsilon * tau)
        errors.append(abs(1 - (scaled / limit).item()))
    assert errors[0] < 0.1
    for larger, smaller in pairwise(errors):
        assert smaller < larger / 5


def test_the_gradient_is_about_the_relative_gap_over_the_temperature():
    _, gradient = value_and_gradient(row([-1.0]), row([-2.0]), everything(row([0.0])))
    assert gradient.item() == pytest.approx((2 / 1 - 1) / 100, rel=0.02)


def test_the_defaults_are_kl_at_a_temperature_of_100():
    student, teacher = random_log_probs(14), random_log_probs(15)
    mask = everything(student)
    written_out = alm_loss(
        student, teacher, mask, divergence="kl", binarization_temperature=100, epsilon=1e-6
    )
    assert torch.equal(alm_loss(student, teacher, mask), written_out)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    student, teacher = random_log_probs(16).to(dtype), random_log_probs(17).to(dtype)
    mask = everything(student)
    loss = alm_loss(student, teacher, mask)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, alm_loss(student.float(), teacher.float(), mask))


@given(x=st.floats(-800, -1e-300))
def test_log1mexp_is_exact_at_both_ends_with_a_finite_gradient(x):
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    found = log1mexp(leaf)
    found.backward()
    # Of 1 - e^x and log(1 - y) the one that loses nothing at this end.
    expected = math.log(-math.expm1(x)) if x > -1 else math.log1p(-math.exp(x))
    assert found.item() == pytest.approx(expected, rel=1e-12)
    assert leaf.grad.item() == pytest.approx(math.exp(x) / math.expm1(x), rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"divergence": "kll"}, "divergence 'kll' is unknown; did you mean 'kl'?"),
        (
            {"divergence": "x"},
            "divergence 'x' is unknown; known: kl, kl_limit, log_ratio, reverse_kl,"
            " squared_log_ratio, total_variation",
        ),
        (
            {"divergence": "log_ratio", "binarization_temperature": 5.0},
            "binarization_temperature is 5.0, but divergence 'log_ratio' has no temperature;"
            " leave it out",
        ),
        (
            {"divergence": "kl_limit", "binarization_temperature": 100.0},
            "binarization_temperature is 100.0, but divergence 'kl_limit' has no temperature;"
            " leave it out",
        ),
        (
            {"binarization_temperature": 0.0},
            "binarization_temperature is 0.0; it is a finite number above 0",
        ),
        (
            {"binarization_temperature": -1},
            "binarization_temperature is -1; it is a finite number above 0",
        ),
        (
            {"binarization_temperature": math.inf},
            "binarization_temperature is inf; it is a finite number above 0",
        ),
        ({"epsilon": 9e-8}, "epsilon is 9e-08; it is a finite number of at least 1e-07"),
        ({"epsilon": math.nan}, "epsilon is nan; it is a finite number of at least 1e-07"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_sentence(settings, sentence):
    one = row([-1.0])
    with pytest.raises(ConfigError) as caught:
        alm_loss(one, one, everything(one), **settings)
    assert str(caught.value) == f"alm_loss: {sentence}"


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ShapeError) as caught:
        alm_loss(torch.zeros(2, 3), torch.zeros(2, 4), torch.ones(2, 3).bool())
    assert str(caught.value) == (
        "alm_loss: expected student_log_probs [B, N], teacher_log_probs [B, N], mask [B, N];"
        " got student_log_probs [2, 3], teacher_log_probs [2, 4], mask [2, 3]"
    )
