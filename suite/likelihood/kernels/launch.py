"""The functions of `block_math`, computed by Triton kernels.

Legend: T rows, C columns of a block.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
import triton
from torch import Tensor

from suite.likelihood.block_math import Block, RowGradients, RowSums
from suite.likelihood.kernels.block_kernels import gradient_kernel, reduce_kernel

# Columns a program holds in registers; a power of two, as Triton wants it.
_REDUCE_TILE = 4096
_GRADIENT_TILE = 2048


def is_interpreted() -> bool:
    """Whether kernels run on the CPU, in Triton's interpreter (TRITON_INTERPRET=1)."""
    return not isinstance(reduce_kernel, triton.runtime.JITFunction)


def reduce_block(logits: Tensor, targets: Tensor, block: Block, sums: RowSums) -> None:
    """As `block_math.reduce_block`; leaves the logits as they are."""
    num_rows, num_columns = logits.shape
    if not num_rows:
        return
    with _device_of(logits):
        reduce_kernel[(num_rows,)](
            logits,
            *_pointers(block, targets),
            targets.contiguous(),
            sums.largest,
            sums.total,
            sums.target,
            block.start,
            num_columns,
            num_rows,
            logits.stride(0),
            block.softcap or 1.0,
            TILE=min(_REDUCE_TILE, triton.next_power_of_2(num_columns)),
            **_flags(block),
        )


def block_gradient(
    logits: Tensor, targets: Tensor, block: Block, rows: RowGradients, dtype: torch.dtype
) -> Tensor:
    """As `block_math.block_gradient`; written over the logits where the dtype is theirs."""
    gradient = logits if dtype == logits.dtype else torch.empty_like(logits, dtype=dtype)
    num_rows, num_columns = logits.shape
    if not num_rows:
        return gradient
    tile = min(_GRADIENT_TILE, triton.next_power_of_2(num_columns))
    with _device_of(logits):
        gradient_kernel[(num_rows, triton.cdiv(num_columns, tile))](
            logits,
            gradient,
            *_pointers(block, targets),
            targets.contiguous(),
            rows.target,
            rows.factors,
            rows.largest,
            block.start,
            num_columns,
            num_rows,
            logits.stride(0),
            block.softcap or 1.0,
            TILE=tile,
            **_flags(block),
        )
    return gradient


def _device_of(tensor: Tensor) -> AbstractContextManager[None]:
    """Triton launches on the current device, which need not be the tensors'."""
    found: AbstractContextManager[None] = torch.cuda.device_of(tensor)  # type: ignore[no-untyped-call]
    return found


def _pointers(block: Block, unread: Tensor) -> tuple[Tensor, Tensor]:
    """Bias and boundary set; a tensor that is not read stands for what is not there."""
    # Kernels load bytes; a bool is one.
    inside = unread if block.inside is None else block.inside.contiguous().view(torch.uint8)
    return (unread if block.bias is None else block.bias.contiguous()), inside


def _flags(block: Block) -> dict[str, Any]:
    return {
        "HAS_BIAS": block.bias is not None,
        "HAS_CAP": block.softcap is not None,
        "HAS_SET": block.inside is not None,
    }
