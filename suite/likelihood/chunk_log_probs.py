"""Log-probabilities of tokens -> those of the chunks they make up.

Legend: B rows, T tokens of one side, N chunks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from suite.shapes import check_shapes


def chunk_log_probs(log_probs: Tensor, chunk_index: Tensor, num_chunks: int) -> Tensor:
    """Sum by index: tokens into chunks, or in the same way chunks into groups.

    Each sum has its own accumulator. Differences of a running sum would carry the rounding of
    everything before them.

    Args:
        log_probs: [B, T], natural logs. Those outside of every chunk may hold anything, NaN too;
            they get a gradient of exactly 0.
        chunk_index: int64 [B, T], below `num_chunks`; -1 for no chunk.
        num_chunks: N.

    Returns:
        [B, N], float32 (float64 for float64 inputs); 0 for a chunk without tokens.

    Raises:
        ShapeError: The two tensors do not belong together.
    """
    check_shapes(
        "chunk_log_probs",
        {"log_probs": ("B", "T"), "chunk_index": ("B", "T")},
        log_probs=log_probs,
        chunk_index=chunk_index,
    )
    values = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
    # One column more takes what belongs to no chunk.
    columns = torch.where(chunk_index < 0, num_chunks, chunk_index)
    sums = values.new_zeros(len(values), num_chunks + 1)
    return sums.scatter_add(1, columns, values)[:, :num_chunks]
