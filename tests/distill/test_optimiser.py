"""AdamW against its formulas, and the learning rate over the steps of a run."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.distill.optimiser import learning_rate, make_optimiser
from suite.distill.settings import OptimiserConfig

SCHEDULES = ("linear", "cosine", "constant")


def rates(num_steps: int, **settings) -> list[float]:
    config = OptimiserConfig(learning_rate=1.0, **settings)
    return [learning_rate(config, step, num_steps) for step in range(num_steps)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25]),
        (
            "cosine",
            [0.25, 0.5, 0.75, 1, 1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2],
        ),
        ("constant", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
    ],
)
def test_the_learning_rate_rises_and_follows_its_schedule(schedule, expected):
    assert rates(8, warmup_steps=4, schedule=schedule) == pytest.approx(expected)


def test_without_warm_up_the_first_step_has_all_of_it():
    assert rates(4, warmup_steps=0) == [1, 0.75, 0.5, 0.25]


def test_a_run_shorter_than_its_warm_up_reaches_the_highest_value_at_its_last_step():
    assert rates(4, warmup_steps=2000) == [0.25, 0.5, 0.75, 1]


@settings(max_examples=25)
@given(
    num_steps=st.integers(1, 60),
    warmup=st.integers(0, 80),
    schedule=st.sampled_from(SCHEDULES),
)
def test_every_step_trains_and_none_above_the_highest_value(num_steps, warmup, schedule):
    found = rates(num_steps, warmup_steps=warmup, schedule=schedule)
    assert all(0 < rate <= 1 for rate in found)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)


def test_the_papers_settings_are_the_defaults():
    config = OptimiserConfig()
    assert (config.betas, config.epsilon, config.weight_decay) == ((0.9, 0.95), 1e-8, 0)
    assert (config.warmup_steps, config.schedule, config.clipping) == (2000, "linear", 1.0)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_are_those_of_adamws_formulas(decay):
    rng = torch.Generator().manual_seed(0)
    start = torch.randn(7, generator=rng, dtype=torch.float64)
    gradients = torch.randn(5, 7, generator=rng, dtype=torch.float64)
    weight = torch.nn.Parameter(start.clone())
    config = OptimiserConfig(weight_decay=decay, betas=(0.8, 0.9), epsilon=1e-3)
    optimiser = make_optimiser([weight], config)
    expected, m, v = start.tolist(), [0.0] * 7, [0.0] * 7
    for step, gradient in enumerate(gradients):
        rate = 0.1 / (step + 1)
        for group in optimiser.param_groups:
            group["lr"] = rate
        weight.grad = gradient.clone()
        optimiser.step()
        for i, g in enumerate(gradient.tolist()):
            m[i] = 0.8 * m[i] + 0.2 * g
            v[i] = 0.9 * v[i] + 0.1 * g * g
            m_hat = m[i] / (1 - 0.8 ** (step + 1))
            v_hat = v[i] / (1 - 0.9 ** (step + 1))
            expected[i] -= rate * (m_hat / (math.sqrt(v_hat) + 1e-3) + decay * expected[i])
    assert weight.tolist() == pytest.approx(expected, rel=1e-12)
