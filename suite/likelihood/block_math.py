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
class RowResults:
    """What remains of the forward pass.

    Attributes:
        token: [T], log-probabilities of targets.
        boundary: [T], those of the boundary set; 0 without one.
        largest: [K, T], the largest logit: of all entries, then of the set's.
        total: [K, T], sum of exp(logit - largest).
    """

    token: Tensor
    boundary: Tensor
    largest: Tensor
    total: Tensor


@dataclass(frozen=True, eq=False)
class RowSums:
    """What is known of each row's logits after some blocks; written in place.

    The target is kept apart: 1 - p is then a sum, and a probability near 1 keeps its bits.

    Attributes:
        largest: [K, T], the largest logit but the target's.
        total: [K, T], sum of exp(logit - largest), without the target.
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

    def results(self, is_inside: Tensor | None) -> RowResults:
        """After the last block; whether each target is in the boundary set, bool [T]."""
        largest, total = _joined(self.largest, self.total)
        token = _log_share(largest - self.target, total)
        own = torch.ones_like(self.total, dtype=torch.bool)
        if is_inside is not None:
            own = torch.stack([~is_inside, is_inside])
        target = self.target.where(own, torch.finfo(self.target.dtype).min)
        largest = torch.maximum(self.largest, target)
        total = self.total * (self.largest - largest).exp() + own * (target - largest).exp()
        if is_inside is None:
            return RowResults(token, torch.zeros_like(token), largest, total)
        boundary = _log_share(largest[0] - largest[1], total[0] / total[1])
        everything = _joined(largest, total)
        return RowResults(
            token,
            boundary,
            torch.stack([everything[0], largest[1]]),
            torch.stack([everything[1], total[1]]),
        )


@dataclass(frozen=True, eq=False)
class RowGradients:
    """What a row's gradient of logits is made of.

    Attributes:
        target: [T], the gradient of the target's logit.
        factors: [K, T], of exp(logit - largest); other entries outside the boundary set take the
            first, those inside the second.
        largest: [K, T], as in `RowResults`.
    """

    target: Tensor
    factors: Tensor
    largest: Tensor

    @classmethod
    def of(
        cls, token: Tensor, boundary: Tensor, results: RowResults, is_inside: Tensor | None
    ) -> RowGradients:
        """From the gradients of both outputs, each [T]."""
        target = -token * results.token.expm1()
        if is_inside is None:
            return cls(target, -token[None] / results.total, results.largest)
        mass, rest = results.boundary.exp(), -results.boundary.expm1()
        share = (results.token - results.boundary).exp() * rest
        target = target + boundary * share.where(is_inside, -results.token.exp())
        factors = torch.stack([-(token + boundary), boundary * rest - token * mass])
        return cls(target, factors / results.total, results.largest)


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
    found = logits.gather(1, place)
    sums.target.add_(found[:, 0].where(is_here, 0))
    logits.scatter_(1, place, found.masked_fill(is_here[:, None], -torch.inf))
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
    largest, factors = rows.largest[..., None], rows.factors[..., None]
    if block.inside is None:
        gradient = logits.sub_(largest[0]).exp_().mul_(factors[0])
    else:
        gradient = logits.sub_(torch.where(block.inside, largest[1], largest[0])).exp_()
        gradient.mul_(torch.where(block.inside, factors[1], factors[0]))
    place, is_here = _places(targets, block)
    found = gradient.gather(1, place)
    gradient.scatter_(1, place, rows.target[:, None].where(is_here[:, None], found))
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


def _joined(largest: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Sums [K, T] of sets -> those of all entries, [T]."""
    joined = largest.amax(dim=0)
    return joined, (total * (largest - joined).exp()).sum(dim=0)


def _log_share(difference: Tensor, factor: Tensor) -> Tensor:
    """log(1 / (1 + factor e^difference)), exact also where that is near 0."""
    # The default threshold of 20 is coarse for float64.
    return -torch.nn.functional.softplus(difference + factor.log(), threshold=40)


def _reduce(logits: Tensor, largest: Tensor, total: Tensor) -> None:
    """Take logits [T, C] into a row of sums; overwrites them."""
    new_largest = torch.maximum(largest, logits.amax(dim=1))
    total.mul_((largest - new_largest).exp_())
    total.add_(logits.sub_(new_largest[:, None]).exp_().sum(dim=1))
    largest.copy_(new_largest)
