"""How several losses share a step.

`fixed`: each loss times its weight. `gradmag`: each loss times the inverse of its gradient's norm
at the last transformer block, so that all pull alike there (arXiv 2503.20083). The norm is that of
the step before, over all of its passes and processes: a deviation from the authors' code, which
takes each pass's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from suite.distill.losses.contract import LossConfig
from suite.errors import ModelError
from suite.models.trunk import transformer_blocks

_LEAST_NORM = 1e-8


def fixed_weights(losses: Sequence[LossConfig], *, scale_by_temperature: bool) -> dict[str, float]:
    """What each loss is multiplied with, by name.

    Args:
        losses: Their settings.
        scale_by_temperature: Multiply losses that have a binarization temperature by it: their
            gradient shrinks with it, and at 100 is some 300 times smaller than a cross-entropy's.
    """
    return {
        loss.name: (1.0 if loss.weight is None else loss.weight)
        * (loss.gradient_scale if scale_by_temperature else 1.0)
        for loss in losses
    }


def gradmag_weights(
    norms: Mapping[str, float], names: Iterable[str], last: Mapping[str, float]
) -> dict[str, float]:
    """Weights in proportion to 1 / (norm + 1e-8), summing to 1.

    Args:
        norms: Of each loss's gradient at the step before; empty at the first step.
        names: All losses.
        last: The weights of the step before; a loss of norm 0 keeps its own.
    """
    names = list(names)
    if not norms:
        return dict.fromkeys(names, 1 / len(names))
    pulling = [name for name in names if norms[name] > 0]
    kept = {name: last[name] for name in names if norms[name] <= 0}
    if not pulling:
        return {name: last[name] for name in names}
    inverse = {name: 1 / (norms[name] + _LEAST_NORM) for name in pulling}
    left = (1 - sum(kept.values())) / sum(inverse.values())
    return {name: kept[name] if name in kept else inverse[name] * left for name in names}


def last_block_parameters(trunk: nn.Module) -> list[nn.Parameter]:
    """The trained parameters of the last transformer block.

    Args:
        trunk: A model without its head.

    Raises:
        ModelError: There are no blocks, or nothing in the last one is trained.
    """
    blocks = transformer_blocks(trunk)
    last = [] if not blocks else list(blocks[-1].parameters())
    found = [parameter for parameter in last if parameter.requires_grad]
    if not found:
        raise ModelError(
            f"{type(trunk).__name__} has no last transformer block that is trained, whose gradients"
            " balance gradmag needs; set balance to fixed"
        )
    return found


class GradientSums:
    """The gradient of each loss at the last block, added up over the passes of a step."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        """Nothing yet."""
        self._parameters = parameters
        self._sums: dict[str, list[Tensor]] = {}

    def add(self, name: str, loss: Tensor) -> None:
        """Add the gradient of one pass's share of a loss; its graph is kept."""
        if not loss.requires_grad:
            return
        found = torch.autograd.grad(loss, self._parameters, retain_graph=True, allow_unused=True)
        sums = self._sums.setdefault(name, [torch.zeros_like(p) for p in self._parameters])
        for total, gradient in zip(sums, found, strict=True):
            if gradient is not None:
                total += gradient

    def norms(self, names: Iterable[str], reduce: Any) -> dict[str, float]:
        """The norms, 0 for a loss without gradient.

        Args:
            names: All losses, in one order on all processes.
            reduce: Adds up a tensor over the processes.
        """
        found = {}
        for name in names:
            sums = self._sums.get(name) or [torch.zeros_like(p) for p in self._parameters]
            flat = reduce(torch.cat([total.flatten().double() for total in sums]))
            found[name] = float(flat.norm())
        return found
