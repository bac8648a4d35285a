"""Implementations of token log-probabilities, and what one run of them gives.

Legend: T tokens, V vocabulary, D hidden size.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from suite.likelihood.log_probs import token_log_probs
from suite.likelihood.options import LogProbOptions
from suite.pipelines.bench.loss_problem import Inputs

# Rows of the reference that are computed at a time, and rows of a matrix that are compared.
_REFERENCE_TOKENS = 256
_COMPARED_ROWS = 8192

LogProbs = Callable[[Inputs, Tensor | None], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Implementation:
    """A way to compute log-probabilities of targets.

    Attributes:
        log_probs: From inputs and a boundary mask or None to [T] for the target and, with a mask,
            [T] for the boundary.
        module: What must be installed and runs only on CUDA; None for PyTorch alone.
        has_boundary: It can compute the boundary's mass.
        minimum: The first release whose gradients are right.
    """

    log_probs: LogProbs
    module: str | None = None
    has_boundary: bool = False
    minimum: tuple[int, ...] = ()

    def missing(self, device: str) -> str | None:
        """Why it cannot run on a device type; None where it can."""
        if self.module is None:
            return None
        if importlib.util.find_spec(self.module) is None:
            return "not installed"
        version = self.version()
        if version is not None and _release(version) < self.minimum:
            needed = ".".join(str(part) for part in self.minimum)
            return f"{version} has wrong gradients; {needed} or newer is needed"
        return None if device == "cuda" else "needs a CUDA device"

    def version(self) -> str | None:
        """The installed version of its package, if it has one of its own."""
        if self.module is not None:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                return importlib.metadata.version(self.module)
        return None


def _ours(name: Literal["plain", "blockwise", "triton"]) -> LogProbs:
    options = LogProbOptions(implementation=name)

    def log_probs(inputs: Inputs, boundary_mask: Tensor | None) -> tuple[Tensor, ...]:
        found = token_log_probs(
            inputs.hidden,
            inputs.head_weight,
            inputs.targets,
            boundary_mask=boundary_mask,
            options=options,
        )
        return (found.token,) if found.boundary is None else (found.token, found.boundary)

    return log_probs


def _cut_cross_entropy(**options: None) -> LogProbs:
    def log_probs(inputs: Inputs, boundary_mask: Tensor | None) -> tuple[Tensor, ...]:
        loss = importlib.import_module("cut_cross_entropy").linear_cross_entropy
        found = loss(inputs.hidden, inputs.head_weight, inputs.targets, reduction="none", **options)
        return (-found.float(),)

    return log_probs


def _liger_kernel(inputs: Inputs, boundary_mask: Tensor | None) -> tuple[Tensor, ...]:
    transformers = importlib.import_module("liger_kernel.transformers")
    loss = transformers.LigerFusedLinearCrossEntropyLoss(reduction="none")
    return (-loss(inputs.head_weight, inputs.hidden, inputs.targets).float(),)


IMPLEMENTATIONS = {
    "plain": Implementation(_ours("plain"), has_boundary=True),
    "blockwise": Implementation(_ours("blockwise"), has_boundary=True),
    "triton": Implementation(_ours("triton"), "triton", has_boundary=True),
    # By default it leaves out blocks of small probabilities; nothing else here does.
    "cut-cross-entropy": Implementation(_cut_cross_entropy(), "cut_cross_entropy"),
    "cut-cross-entropy, no filter": Implementation(
        _cut_cross_entropy(filter_eps=None), "cut_cross_entropy"
    ),
    "liger-kernel": Implementation(_liger_kernel, "liger_kernel", minimum=(0, 8, 2)),
}


@dataclass(frozen=True)
class Contender:
    """An implementation at one of two tasks: with the boundary's mass, or the target alone."""

    name: str
    has_boundary: bool

    @property
    def outputs(self) -> str:
        """What it computes, in words."""
        return "token, boundary" if self.has_boundary else "token"

    @property
    def implementation(self) -> Implementation:
        """What computes it."""
        return IMPLEMENTATIONS[self.name]

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """One or two outputs, each [T]."""
        mask = inputs.boundary_mask if self.has_boundary else None
        return self.implementation.log_probs(inputs, mask)


def contenders() -> list[Contender]:
    """Everything that is compared: first all that have the boundary's mass, then the target's."""
    return [
        Contender(name, has_boundary)
        for has_boundary in (True, False)
        for name, implementation in IMPLEMENTATIONS.items()
        if implementation.has_boundary or not has_boundary
    ]


@dataclass(frozen=True, eq=False)
class Results:
    """Outputs [T] and gradients [T, D], [V, D] of one run."""

    outputs: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]

    @classmethod
    def of(
        cls, contender: Contender, inputs: Inputs, *, between: Callable[[], None] | None = None
    ) -> Results:
        """Forward and backward; `between` is called between the two."""
        outputs = contender.forward(inputs)
        if between is not None:
            between()
        upstream = inputs.upstream[: len(outputs)].unbind()
        gradients = torch.autograd.grad(outputs, (inputs.hidden, inputs.head_weight), upstream)
        return cls(tuple(output.detach() for output in outputs), gradients)

    def differences(self, reference: Results) -> tuple[float | None, float | None]:
        """Of outputs and gradients: the largest difference over the reference's largest value.

        None where that is no finite number.
        """
        return (
            _difference(self.outputs, reference.outputs),
            _difference(self.gradients, reference.gradients),
        )


def reference_results(inputs: Inputs, *, has_boundary: bool) -> Results:
    """`plain` in float32, some tokens at a time: it fits where `plain` itself does not."""
    plain = Contender("plain", has_boundary)
    head_weight = inputs.head_weight.detach().float().requires_grad_()
    d_head = torch.zeros_like(head_weight)
    parts = []
    for start in range(0, len(inputs.targets), _REFERENCE_TOKENS):
        rows = slice(start, start + _REFERENCE_TOKENS)
        part = Inputs(
            hidden=inputs.hidden[rows].detach().float().requires_grad_(),
            head_weight=head_weight,
            targets=inputs.targets[rows],
            boundary_mask=inputs.boundary_mask,
            upstream=inputs.upstream[:, rows],
        )
        found = Results.of(plain, part)
        d_head += found.gradients[1]
        parts.append((found.outputs, found.gradients[0]))
    outputs = zip(*(outputs for outputs, _ in parts), strict=True)
    return Results(
        outputs=tuple(torch.cat(pieces) for pieces in outputs),
        gradients=(torch.cat([d_hidden for _, d_hidden in parts]), d_head),
    )


def _difference(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float | None:
    ratios = []
    for left, right in zip(found, expected, strict=True):
        pieces = zip(
            torch.split(left, _COMPARED_ROWS), torch.split(right, _COMPARED_ROWS), strict=True
        )
        largest = torch.stack([(one.float() - other).abs().amax() for one, other in pieces]).amax()
        ratios.append(largest / right.abs().amax())
    # Unlike Python's, this maximum keeps a NaN.
    ratio = float(torch.stack(ratios).amax())
    return ratio if math.isfinite(ratio) else None


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
