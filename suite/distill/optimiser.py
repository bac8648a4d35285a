"""AdamW over the trained parameters, and its learning rate over the steps."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from suite.distill.settings import OptimiserConfig


def learning_rate(config: OptimiserConfig, step: int, num_steps: int) -> float:
    """The learning rate of a step: a rise from 0, then a fall to 0 behind the last step.

    Step k of W warm-up steps has (k + 1) / W of the highest value: the first one is not lost.

    Args:
        config: For the highest value, the warm-up and the schedule.
        step: From 0.
        num_steps: Of the whole run.
    """
    warmup = min(config.warmup_steps, num_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(1, num_steps - warmup)
    if config.schedule == "linear":
        return config.learning_rate * (1 - share)
    if config.schedule == "cosine":
        return config.learning_rate * (1 + math.cos(math.pi * share)) / 2
    return config.learning_rate


def make_optimiser(
    parameters: Iterable[nn.Parameter], config: OptimiserConfig
) -> torch.optim.AdamW:
    """AdamW with one group of parameters."""
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
    )
