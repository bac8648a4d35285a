"""Rows that know nothing of their tokens: what other methods are compared with."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from suite.transplant.contract import Compose, Composition, Part, mean_row, regular_ids


def mean(composition: Composition) -> Compose:
    """Every row is the mean of the old rows of regular tokens."""

    def compose(rows: Tensor, part: Part) -> Tensor:
        return mean_row(rows, composition.old).repeat(len(composition.plan.composed), 1)

    return compose


def zeros(composition: Composition) -> Compose:
    """Every row is zero."""

    def compose(rows: Tensor, part: Part) -> Tensor:
        return rows.new_zeros(len(composition.plan.composed), rows.shape[1])

    return compose


def random(composition: Composition) -> Compose:
    """Normal, with the mean and standard deviation that the old rows have in each dimension."""

    def compose(rows: Tensor, part: Part) -> Tensor:
        stream = np.random.SeedSequence([composition.seed, part == "output"])
        generator = torch.Generator().manual_seed(int(stream.generate_state(1)[0]))
        known = rows[torch.from_numpy(regular_ids(composition.old))]
        shape = (len(composition.plan.composed), rows.shape[1])
        noise = torch.randn(shape, generator=generator, dtype=rows.dtype)
        return known.mean(dim=0) + noise * known.std(dim=0)

    return compose
