"""Log-probabilities and their gradient from one block of logits at a time.

The vocabulary is cut into blocks, not the tokens: then the head's gradient of a block is complete
after one product, and a head in half precision needs no float32 copy of its gradient. What spans
blocks is a few numbers a row. Logits are computed again for the gradient.

With g and h the gradients of a row's two outputs, p its softmax, P the boundary set's mass, y the
target (arXiv 2503.20083 gives the loss; the gradient follows from it):

    dlogits = g onehot(y) + p (h 1_set / P - (g + h))

which is taken as q (h (1 - P) - g P) inside the set, q = p / P being its own softmax, and as
-p (g + h) outside: no number overflows however small P is. The target's entry is not a sum with
such a number but has a form of its own, in 1 - p(y): that keeps its bits where p(y) is near 1.

Legend: T tokens, V vocabulary, C entries of a block, D hidden size; K = 2 with a boundary set
(0 outside it, 1 inside), else 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from suite.likelihood import block_math
from suite.likelihood.block_math import Block, RowGradients, RowResults, RowSums

# Logits of a block, float32: 8 MB stay in a processor's cache, a GPU's products want width.
_BLOCK_LOGITS = {"cpu": 2**21, "cuda": 2**26}
_ENTRIES_MULTIPLE = 128


def choose_block_size(num_tokens: int, num_entries: int, device: str) -> int:
    """Entries of the vocabulary in a block, for a device type."""
    wanted = _BLOCK_LOGITS.get(device, _BLOCK_LOGITS["cpu"]) // max(1, num_tokens)
    rounded = max(1, wanted // _ENTRIES_MULTIPLE) * _ENTRIES_MULTIPLE
    return min(rounded, num_entries)


@dataclass(frozen=True)
class Products:
    """In which dtypes matrix products are taken, and what works on a block of logits.

    Attributes:
        rounded: Dtype that hidden states and head are rounded to.
        operands: Dtype of what is multiplied.
        sums: Dtype of what is added up, and of the results: float32, or float64.
        uses_kernels: Blocks go through Triton.
    """

    rounded: torch.dtype
    operands: torch.dtype
    sums: torch.dtype
    uses_kernels: bool

    @classmethod
    def of(cls, hidden: Tensor, *, uses_kernels: bool) -> Products:
        """Those for hidden states, under autocast if that is on."""
        device = hidden.device.type
        rounded = hidden.dtype
        # Autocast leaves float64 alone.
        if torch.is_autocast_enabled(device) and rounded != torch.float64:
            rounded = torch.get_autocast_dtype(device)
        sums = torch.float64 if rounded == torch.float64 else torch.float32
        # Only CUDA multiplies half precision into float32 results.
        operands = rounded if device == "cuda" else sums
        return cls(rounded, operands, sums, uses_kernels)

    def operand(self, tensor: Tensor) -> Tensor:
        """Hidden states, or rows of the head, as they are multiplied."""
        return tensor.to(self.rounded).to(self.operands)

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """`left @ right` in the dtype of sums."""
        if self.operands == self.sums:
            return left @ right
        return torch.mm(left, right, out_dtype=self.sums)

    def add_product(self, total: Tensor, left: Tensor, right: Tensor) -> None:
        """`total += left @ right` in the dtype of sums."""
        if self.operands == self.sums:
            total.addmm_(left, right)
        else:
            total += self.product(left, right)

    def product_into(self, place: Tensor, left: Tensor, right: Tensor) -> None:
        """`place = left @ right`, summed in the dtype of sums, rounded once."""
        if place.dtype == self.operands:
            torch.mm(left, right, out=place)
        else:
            place.copy_(self.product(left, right))

    def math(self) -> Any:
        """The module that works on blocks."""
        if not self.uses_kernels:
            return block_math
        from suite.likelihood.kernels import launch

        return launch


@dataclass(frozen=True)
class BlockPlan:
    """How the vocabulary is cut, and what is the same for all blocks.

    Attributes:
        num_entries: Entries that are read.
        block_size: Entries of a block.
        softcap: As in `LogProbOptions`.
        products: How blocks are computed.
    """

    num_entries: int
    block_size: int
    softcap: float | None
    products: Products

    def blocks(self, bias: Tensor | None, boundary_mask: Tensor | None) -> Iterator[Block]:
        """The blocks, in order; bias and mask are [V]."""
        for start in range(0, self.num_entries, self.block_size):
            stop = min(start + self.block_size, self.num_entries)
            yield Block(
                start=start,
                stop=stop,
                bias=None if bias is None else bias[start:stop],
                inside=None if boundary_mask is None else boundary_mask[start:stop],
                softcap=self.softcap,
            )

    def room(self, like: Tensor) -> Tensor:
        """Room for a gradient, not written yet; 0 where no block comes."""
        found = torch.empty_like(like)
        found[self.num_entries :] = 0
        return found


class BlockedLogProbs(torch.autograd.Function):
    """`token_log_probs` by blocks; returns token and boundary, each [T]."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        boundary_mask: Tensor | None,
        plan: BlockPlan,
    ) -> tuple[Tensor, Tensor]:
        products = plan.products
        math = products.math()
        sums = RowSums.empty(len(hidden), boundary_mask is not None, hidden.device, products.sums)
        with torch.autocast(hidden.device.type, enabled=False):
            operand = products.operand(hidden)
            for block in plan.blocks(bias, boundary_mask):
                logits = products.product(operand, products.operand(block.rows(weight)).T)
                math.reduce_block(logits, targets, block, sums)
                # Held on, it would be there twice while the next block is made.
                del logits
        results = sums.results(None if boundary_mask is None else boundary_mask[targets])
        inputs = (hidden, weight, bias, targets, boundary_mask)
        ctx.save_for_backward(
            *inputs, results.token, results.boundary, results.largest, results.total
        )
        ctx.plan = plan
        return results.token, results.boundary

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        hidden, weight, bias, targets, boundary_mask, *results = ctx.saved_tensors
        plan: BlockPlan = ctx.plan
        products = plan.products
        math = products.math()
        is_inside = None if boundary_mask is None else boundary_mask[targets]
        rows = RowGradients.of(gradients[0], gradients[1], RowResults(*results), is_inside)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.zeros_like(hidden, dtype=products.sums) if wants_hidden else None
        d_weight = plan.room(weight) if wants_weight else None
        d_bias = plan.room(bias) if wants_bias else None
        with torch.autocast(hidden.device.type, enabled=False):
            operand = products.operand(hidden)
            for block in plan.blocks(bias, boundary_mask):
                own = products.operand(block.rows(weight))
                logits = products.product(operand, own.T)
                d_logits = math.block_gradient(logits, targets, block, rows, products.operands)
                if d_hidden is not None:
                    products.add_product(d_hidden, d_logits, own)
                if d_weight is not None:
                    products.product_into(block.rows(d_weight), d_logits.T, operand)
                if d_bias is not None:
                    block.rows(d_bias).copy_(d_logits.sum(dim=0, dtype=products.sums))
                del logits, d_logits
        return d_hidden, d_weight, d_bias, None, None, None
