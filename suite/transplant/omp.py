"""Orthogonal matching pursuit: a new token is spelt as a sparse sum of tokens both models have.

In the donor, which owns the new tokenizer, a new token's row is approximated by k rows of shared
tokens; the same sum of the base model's rows is its row there (arXiv 2506.06607).

Legend: C composed tokens (n of them in a block), N shared tokens, D hidden size, k picks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suite.errors import ConfigError, ModelError
from suite.transplant.contract import Compose, Composition, DonorRows, OnStep, Part

_BLOCK_BYTES = 2**28
# Below so many roundings a remainder, or what a pick adds to earlier ones, is taken for nothing.
_NUM_ROUNDINGS = 64


@dataclass(frozen=True, eq=False)
class SparseSums:
    """Sums of rows.

    Attributes:
        picks: int64 [C, k], places among the rows; each at most once.
        weights: [C, k]; 0 for a pick that adds nothing.
    """

    picks: Tensor
    weights: Tensor

    def of(self, rows: Tensor) -> Tensor:
        """The sums, [C, D], of rows [N, D]."""
        return torch.nn.functional.embedding_bag(
            self.picks, rows, per_sample_weights=self.weights, mode="sum"
        )


def omp(composition: Composition) -> Compose:
    """Fit each new token in the donor's embedding, and compose it in the base model's.

    Input rows are fitted to the donor's input embedding. Output rows of an untied base model are
    fitted to the donor's output embedding; where the donor ties them, that is the same fit. A tied
    base model has one embedding, which takes the fit of the donor's input embedding.

    Raises:
        ConfigError: Fewer tokens are shared than are picked.
        ModelError: The donor has no row for a token.
    """
    plan, k, donor = composition.plan, composition.k, composition.donor
    if donor is None:
        raise ConfigError("omp needs the model that owns the tokenizer; give its source")
    if len(plan.shared) < k:
        raise ConfigError(
            f"k is {k}, but the two tokenizers share only {len(plan.shared)} tokens; give a smaller"
            " k, or take fvt"
        )
    _check_rows(plan.composed, donor, "take fvt, or keep the special tokens")
    _check_rows(plan.shared[:, 0], donor, "take fvt")
    new, old = torch.from_numpy(plan.shared).unbind(1)
    targets = torch.from_numpy(plan.composed)
    # Products of [C, D] and [D, N], k times: hours on a processor where many tokens are new.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fits: dict[int, SparseSums] = {}

    def compose(rows: Tensor, part: Part) -> Tensor:
        embedding = donor.output if part == "output" else donor.input
        if id(embedding) not in fits:
            fitted, atoms = (embedding[ids].to(device, torch.float32) for ids in (targets, new))
            fits[id(embedding)] = matching_pursuit(fitted, atoms, k, composition.on_step)
        return fits[id(embedding)].of(rows[old])

    return compose


def _check_rows(ids: NDArray[np.int64], donor: DonorRows, advice: str) -> None:
    missing = ids[ids >= len(donor.input)]
    if len(missing):
        raise ModelError(
            f"the model that owns the tokenizer has no row for its token {missing[0]}; {advice}"
        )


def matching_pursuit(
    targets: Tensor,
    rows: Tensor,
    k: int,
    on_step: OnStep = lambda done, total: None,
    *,
    block_bytes: int = _BLOCK_BYTES,
) -> SparseSums:
    """Approximate each target by a sum of at most k rows.

    k times, the row whose direction has the largest inner product, in size, with the remainder is
    picked, and the weights of all picks are fitted again by least squares. A target that is met
    before, up to rounding, has weights 0 from there on. All in the targets' dtype.

    Args:
        targets: [C, D].
        rows: [N, D], N at least k.
        k: Picks for each target.
        on_step: Told after each pick of a block.
        block_bytes: About the largest tensor that is held.
    """
    norms = rows.norm(dim=1).clamp(min=torch.finfo(rows.dtype).tiny)
    directions = rows / norms[:, None]
    row_bytes = max(len(rows), k * rows.shape[1]) * rows.element_size()
    size = max(1, block_bytes // row_bytes)
    blocks = [targets[first : first + size] for first in range(0, max(1, len(targets)), size)]
    picks, weights = [], []
    for number, block in enumerate(blocks):
        pursuit = _Pursuit(block, directions, k)
        for step in range(k):
            pursuit.pick(step)
            on_step(number * k + step + 1, len(blocks) * k)
        picks.append(pursuit.picks)
        weights.append(pursuit.weights() / norms[pursuit.picks])
    return SparseSums(torch.cat(picks).cpu(), torch.cat(weights).cpu())


class _Pursuit:
    """The picks of one block of targets, with an orthonormal basis of each target's picks.

    The picks are basis times `factor` (a QR decomposition that grows by a column each step), so
    least squares is one triangular solve at the end.
    """

    def __init__(self, targets: Tensor, directions: Tensor, k: int) -> None:
        num, size = targets.shape
        self.directions = directions
        self.rest = targets.clone()
        self.picks = targets.new_zeros(num, k, dtype=torch.int64)
        self.basis = targets.new_zeros(num, k, size)
        self.factor = torch.eye(k, out=targets.new_empty(k, k)).repeat(num, 1, 1)
        self.coordinates = targets.new_zeros(num, k)
        self.rounding = _NUM_ROUNDINGS * torch.finfo(targets.dtype).eps
        self.least = self.rounding * targets.norm(dim=1)

    def pick(self, step: int) -> None:
        """Pick one more row for each target."""
        match = (self.rest @ self.directions.T).abs_()
        match.scatter_(1, self.picks[:, :step], -1)
        picked = match.argmax(dim=1)
        basis = self.basis[:, :step]
        vector = self.directions[picked]
        shares = vector.new_zeros(len(vector), step)
        # Twice: once leaves rounding errors that grow with the number of picks.
        for _ in range(2):
            share = torch.einsum("nkd,nd->nk", basis, vector)
            vector = vector - torch.einsum("nkd,nk->nd", basis, share)
            shares += share
        length = vector.norm(dim=1)
        adds = (length > self.rounding) & (self.rest.norm(dim=1) > self.least)
        vector = torch.where(adds[:, None], vector / length[:, None], 0)
        coordinate = (vector * self.rest).sum(dim=1)
        self.rest -= coordinate[:, None] * vector
        self.picks[:, step] = picked
        self.basis[:, step] = vector
        self.factor[:, :step, step] = torch.where(adds[:, None], shares, 0)
        self.factor[:, step, step] = torch.where(adds, length, 1)
        self.coordinates[:, step] = coordinate

    def weights(self) -> Tensor:
        """Of the picked directions, [n, k], by least squares."""
        right = self.coordinates[:, :, None]
        solution: Tensor = torch.linalg.solve_triangular(self.factor, right, upper=True)
        return solution[:, :, 0]
