"""What is done with a block of logits, in plain PyTorch; the Triton kernels have these signatures.

Legend: T tokens, C entries of a block; K = 2 with a boundary set (0 outside it, 1 inside), else 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Block:
    """Entries `start` to `stop` of the vocabulary.

    Attributes:
        start: The first entry.
        stop: Behind the last one.
        bias: [C], added to the logits; None for none.
        inside: bool [C], entries of the boundary set; None without one.
        softcap: Applied behind the bias; None for none.
    """

    start: int
    stop: int
    bias: Tensor | None
    inside: Tensor | None
    softcap: float | None

    def rows(self, matrix: Tensor) -> Tensor:
        """The block's part of what has one row for each entry, as a view."""
        return matrix[self.start : self.stop]


@dataclass(frozen=True, eq=False)
class RowSums:
    """What is known of each row's logits after some blocks; written in place.

    Attributes:
        largest: [K, T], the largest logit.
        total: [K, T], sum of exp(logit - largest).
        target: [T], the target's logit.
    """

    largest: Tensor
    total: Tensor
    target: Tensor

    @classmethod
    def empty(
        cls, num_rows: int, has_set: bool, device: torch.device, dtype: torch.dtype
    ) -> RowSums:
        """Before the first block."""
        shape = (1 + has_set, num_rows)
        # Finite, so that a block without entries of a set gives 0 and no NaN.
        lowest = torch.finfo(dtype).min
        return cls(
            largest=torch.full(shape, lowest, device=device, dtype=dtype),
            total=torch.zeros(shape, device=device, dtype=dtype),
            target=torch.zeros(num_rows, device=device, dtype=dtype),
        )

    def log_probs(self) -> tuple[Tensor, Tensor, Tensor]:
        """After the last block.

        Returns:
            Log-probabilities of targets [T] and of the boundary set [T] (0 without a set), and the
            normalisers [K, T]: the log-sum-exp over all entries, and over those of the set.
        """
        parts = self.largest + self.total.log()
        if len(parts) == 1:
            return self.target - parts[0], torch.zeros_like(self.target), parts
        outside, inside = parts
        everything = torch.logaddexp(outside, inside)
        # Not a difference of the two sums: that would lose the bits of a mass near 1.
        boundary = -torch.nn.functional.softplus(outside - inside)
        return self.target - everything, boundary, torch.stack([everything, inside])


@dataclass(frozen=True, eq=False)
class RowGradients:
    """What a row's gradient of logits is made of.

    Attributes:
        target: [T], added at the target.
        factors: [K, T], of exp(logit - normaliser); entries outside the boundary set take the
            first, those inside the second.
        normalisers: [K, T].
    """

    target: Tensor
    factors: Tensor
    normalisers: Tensor

    @classmethod
    def of(
        cls, token: Tensor, boundary: Tensor, boundary_log_probs: Tensor, normalisers: Tensor
    ) -> RowGradients:
        """From the gradients of both outputs, each [T]."""
        if len(normalisers) == 1:
            return cls(token, -token[None], normalisers)
        mass, rest = boundary_log_probs.exp(), -torch.expm1(boundary_log_probs)
        inside = boundary * rest - token * mass
        return cls(token, torch.stack([-(token + boundary), inside]), normalisers)


def reduce_block(logits: Tensor, targets: Tensor, block: Block, sums: RowSums) -> None:
    """Take a block into the rows' sums.

    Args:
        logits: [T, C], before bias and cap; overwritten.
        targets: int64 [T], entries of the whole vocabulary.
        block: Which entries these are.
        sums: Updated in place.
    """
    logits = _finish(logits, block)
    place, is_here = _places(targets, block)
    sums.target.add_(logits.gather(1, place)[:, 0].where(is_here, 0))
    if block.inside is None:
        _reduce(logits, sums.largest[0], sums.total[0])
        return
    for number, part in enumerate((logits[:, ~block.inside], logits[:, block.inside])):
        if part.shape[1]:
            _reduce(part, sums.largest[number], sums.total[number])


def block_gradient(
    logits: Tensor, targets: Tensor, block: Block, rows: RowGradients, dtype: torch.dtype
) -> Tensor:
    """The gradient of a block of logits, before bias and cap.

    Args:
        logits: [T, C], before bias and cap; overwritten.
        targets: int64 [T].
        block: Which entries these are.
        rows: The rows' numbers.
        dtype: Of the result.

    Returns:
        [T, C].
    """
    logits = _finish(logits, block)
    slope = None if block.softcap is None else 1 - (logits / block.softcap).square()
    normalisers, factors = rows.normalisers[..., None], rows.factors[..., None]
    if block.inside is None:
        gradient = logits.sub_(normalisers[0]).exp_().mul_(factors[0])
    else:
        gradient = logits.sub_(torch.where(block.inside, normalisers[1], normalisers[0])).exp_()
        gradient.mul_(torch.where(block.inside, factors[1], factors[0]))
    place, is_here = _places(targets, block)
    gradient.scatter_add_(1, place, rows.target.where(is_here, 0)[:, None])
    if slope is not None:
        gradient.mul_(slope)
    return gradient.to(dtype)


def _finish(logits: Tensor, block: Block) -> Tensor:
    """Bias and cap, in place."""
    if block.bias is not None:
        logits += block.bias
    if block.softcap is not None:
        logits.div_(block.softcap).tanh_().mul_(block.softcap)
    return logits


def _places(targets: Tensor, block: Block) -> tuple[Tensor, Tensor]:
    """The column of each target, [T, 1], and whether it is in the block, [T]."""
    place = targets - block.start
    is_here = (place >= 0) & (place < block.stop - block.start)
    return place.where(is_here, 0)[:, None], is_here


def _reduce(logits: Tensor, largest: Tensor, total: Tensor) -> None:
    """Take logits [T, C] into a row of sums; overwrites them."""
    new_largest = torch.maximum(largest, logits.amax(dim=1))
    total.mul_((largest - new_largest).exp_())
    total.add_(logits.sub_(new_largest[:, None]).exp_().sum(dim=1))
    largest.copy_(new_largest)
