"""From final hidden states to the log-probabilities of tokens, without holding all logits.

Two numbers a token are all that a likelihood loss needs: the log-probability of the token, and the
mass of the boundary set behind it (arXiv 2503.20083, outcome-chunk debiasing).

Legend: T tokens, V vocabulary, D hidden size.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from suite.errors import ConfigError, ShapeError, near_names
from suite.likelihood.blocked import BlockedLogProbs, BlockPlan, Products, choose_block_size
from suite.likelihood.options import LogProbOptions, TokenLogProbs
from suite.shapes import check_shapes

IMPLEMENTATIONS = ("auto", "blockwise", "plain", "triton")

DEFAULT_OPTIONS = LogProbOptions()

_SHAPES = {
    "hidden": ("T", "D"),
    "head_weight": ("V", "D"),
    "targets": ("T",),
    "boundary_mask": ("V",),
    "bias": ("V",),
}


def token_log_probs(
    hidden: Tensor,
    head_weight: Tensor,
    targets: Tensor,
    *,
    boundary_mask: Tensor | None = None,
    options: LogProbOptions = DEFAULT_OPTIONS,
) -> TokenLogProbs:
    """Log-probabilities of tokens, and of a new pre-token, from the same rows.

    Row i holds the state that predicts `targets[i]`; callers shift. Differentiable in `hidden`,
    `head_weight` and the options' bias, with any gradient of both outputs. Under autocast the
    products are taken in its dtype. Everything behind the logits is float32.

    `plain` keeps several matrices [T, V]; the others one block of one, and compute it again for the
    gradient: four matrix products instead of three.

    Args:
        hidden: [T, D], states after the final norm, multiplied by the model's logit scale if any.
        head_weight: [V, D], the output embedding.
        targets: int64 [T], ids of tokens.
        boundary_mask: bool [V] or shorter, entries that start a new pre-token; None if their mass
            is not wanted.
        options: Vocabulary size, soft-cap, bias, and how it is computed.

    Returns:
        Both [T], natural logarithms, at most 0; float32, or float64 for float64 inputs.

    Raises:
        ShapeError: Shapes, dtypes or devices do not belong together, or a target is no entry.
        ConfigError: No such implementation, or one that cannot run here.
    """
    boundary_mask = _padded(boundary_mask, len(head_weight))
    check_shapes(
        "token_log_probs",
        _SHAPES,
        hidden=hidden,
        head_weight=head_weight,
        targets=targets,
        boundary_mask=boundary_mask,
        bias=options.bias,
    )
    num_entries = len(head_weight) if options.vocab_size is None else options.vocab_size
    _check_values(hidden, head_weight, targets, boundary_mask, num_entries)
    implementation = _implementation(options.implementation, hidden)
    if implementation == "plain":
        return _plain(hidden, head_weight, targets, boundary_mask, options)
    device = hidden.device.type
    plan = BlockPlan(
        num_entries=num_entries,
        block_size=options.block_size or choose_block_size(len(hidden), num_entries, device),
        softcap=options.softcap,
        products=Products.of(hidden, uses_kernels=implementation == "triton"),
    )
    token, boundary = BlockedLogProbs.apply(  # type: ignore[no-untyped-call]
        hidden, head_weight, options.bias, targets, boundary_mask, plan
    )
    return TokenLogProbs(token, None if boundary_mask is None else boundary)


def _plain(
    hidden: Tensor,
    head_weight: Tensor,
    targets: Tensor,
    boundary_mask: Tensor | None,
    options: LogProbOptions,
) -> TokenLogProbs:
    """The readable reference: all logits, one log-softmax."""
    num_entries = options.vocab_size
    bias = None if options.bias is None else options.bias[:num_entries]
    logits = torch.nn.functional.linear(hidden, head_weight[:num_entries], bias)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if options.softcap is not None:
        logits = options.softcap * torch.tanh(logits / options.softcap)
    log_probs = logits.log_softmax(dim=-1)
    token = log_probs.gather(1, targets[:, None])[:, 0]
    if boundary_mask is None:
        return TokenLogProbs(token, None)
    outside = ~boundary_mask[:num_entries]
    boundary = log_probs.masked_fill(outside, -torch.inf).logsumexp(dim=-1)
    # The sum of probabilities may exceed 1 in its last bit.
    return TokenLogProbs(token, boundary.clamp(max=0))


def _padded(boundary_mask: Tensor | None, num_rows: int) -> Tensor | None:
    """A tokenizer's mask for a head with more rows than that: they belong to no set."""
    if boundary_mask is None or len(boundary_mask) >= num_rows:
        return boundary_mask
    return torch.nn.functional.pad(boundary_mask, (0, num_rows - len(boundary_mask)))


def _check_values(
    hidden: Tensor,
    head_weight: Tensor,
    targets: Tensor,
    boundary_mask: Tensor | None,
    num_entries: int,
) -> None:
    where = "token_log_probs"
    if not 0 < num_entries <= len(head_weight):
        raise ShapeError(
            f"{where}: vocab_size is {num_entries}, head_weight has {len(head_weight)} rows"
        )
    if hidden.dtype != head_weight.dtype and not _autocasts(hidden):
        raise ShapeError(
            f"{where}: hidden is {_name(hidden)} and head_weight {_name(head_weight)};"
            " cast one of them, or call it under torch.autocast"
        )
    tensors = [head_weight, targets, *([] if boundary_mask is None else [boundary_mask])]
    others = {str(tensor.device) for tensor in tensors} - {str(hidden.device)}
    if others:
        raise ShapeError(f"{where}: hidden is on {hidden.device}, other tensors on {min(others)}")
    if targets.dtype != torch.int64:
        raise ShapeError(f"{where}: targets are {_name(targets)}; give int64")
    if len(targets) and not bool(((targets >= 0) & (targets < num_entries)).all()):
        wrong = targets[(targets < 0) | (targets >= num_entries)][0]
        raise ShapeError(f"{where}: target {int(wrong)} is no entry of {num_entries}")
    if boundary_mask is None:
        return
    if boundary_mask.dtype != torch.bool:
        raise ShapeError(f"{where}: boundary_mask is {_name(boundary_mask)}; give bool")
    if not bool(boundary_mask[:num_entries].any()):
        raise ShapeError(f"{where}: boundary_mask holds no entry; pass None for no boundary mass")


def _implementation(wanted: str, hidden: Tensor) -> str:
    """The implementation that runs.

    Raises:
        ConfigError: No such one, or it cannot run on these tensors.
    """
    if wanted not in IMPLEMENTATIONS:
        raise ConfigError(
            f"implementation is {wanted!r}, which does not exist;"
            f" {near_names(wanted, IMPLEMENTATIONS)}"
        )
    has_triton = importlib.util.find_spec("triton") is not None
    is_float64 = hidden.dtype == torch.float64
    if wanted == "auto":
        return "triton" if hidden.is_cuda and has_triton and not is_float64 else "blockwise"
    if wanted == "triton":
        if not has_triton:
            raise ConfigError("implementation triton needs the package triton; use blockwise")
        if is_float64:
            raise ConfigError("implementation triton has no float64; use blockwise")
        from suite.likelihood.kernels.launch import is_interpreted

        if not hidden.is_cuda and not is_interpreted():
            raise ConfigError(
                f"implementation triton needs a CUDA device, hidden is on {hidden.device};"
                " use blockwise"
            )
    return wanted


def _autocasts(hidden: Tensor) -> bool:
    return torch.is_autocast_enabled(hidden.device.type)


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
