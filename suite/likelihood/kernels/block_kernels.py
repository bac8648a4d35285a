"""Triton kernels over a block of logits: sums of rows, and the gradient in one pass.

The matrix products around them stay with the vendor's library; in between, a block of logits is
written once and read once. No tile is ever skipped, so the results are exact to rounding.

Legend: T rows, C columns of a block, TILE columns at a time.
"""

import triton
import triton.language as tl


@triton.jit
def _tanh(x):
    """tanh, to a few last bits at either end; there is no portable one in Triton."""
    # 1 - exp cancels near 0; there the series' next term is below 1e-10 of the value.
    decay = tl.exp(-2.0 * tl.abs(x))
    far = tl.where(x < 0, -1.0, 1.0) * (1.0 - decay) / (1.0 + decay)
    square = x * x
    near = x * (1.0 + square * (-1.0 / 3 + square * (2.0 / 15 - square * (17.0 / 315))))
    return tl.where(tl.abs(x) < 0.1, near, far)


@triton.jit
def _finished(
    logits, bias, column, is_real, softcap, HAS_BIAS: tl.constexpr, HAS_CAP: tl.constexpr
):
    """A tile of logits behind bias and cap, float32; -inf where there is no column."""
    x = tl.load(logits + column, mask=is_real, other=0.0).to(tl.float32)
    if HAS_BIAS:
        x += tl.load(bias + column, mask=is_real, other=0.0).to(tl.float32)
    if HAS_CAP:
        x = softcap * _tanh(x / softcap)
    return tl.where(is_real, x, -float("inf"))


@triton.jit
def _reduced(x, largest, total):
    """A largest value and a sum of exp relative to it, with a tile taken in."""
    new_largest = tl.maximum(largest, tl.max(x, axis=0))
    total = total * tl.exp(largest - new_largest) + tl.sum(tl.exp(x - new_largest), axis=0)
    return new_largest, total


@triton.jit
def reduce_kernel(
    logits,
    bias,
    inside,
    targets,
    largest,
    total,
    target_logits,
    start,
    num_columns,
    num_rows,
    row_stride,
    softcap,
    HAS_BIAS: tl.constexpr,
    HAS_CAP: tl.constexpr,
    HAS_SET: tl.constexpr,
    TILE: tl.constexpr,
):
    """One row a program: the running sums of `RowSums`, in place."""
    row = tl.program_id(0)
    logits += row.to(tl.int64) * row_stride
    target = tl.load(targets + row) - start
    target_logit = tl.load(target_logits + row)
    largest_0, total_0 = tl.load(largest + row), tl.load(total + row)
    if HAS_SET:
        largest_1, total_1 = tl.load(largest + num_rows + row), tl.load(total + num_rows + row)
    for first in range(0, num_columns, TILE):
        column = first + tl.arange(0, TILE)
        is_real = column < num_columns
        x = _finished(logits, bias, column, is_real, softcap, HAS_BIAS, HAS_CAP)
        is_target = is_real & (column == target)
        target_logit += tl.sum(tl.where(is_target, x, 0.0), axis=0)
        x = tl.where(is_target, -float("inf"), x)
        if HAS_SET:
            is_inside = tl.load(inside + column, mask=is_real, other=0) != 0
            outer = tl.where(is_inside, -float("inf"), x)
            inner = tl.where(is_inside, x, -float("inf"))
            largest_0, total_0 = _reduced(outer, largest_0, total_0)
            largest_1, total_1 = _reduced(inner, largest_1, total_1)
        else:
            largest_0, total_0 = _reduced(x, largest_0, total_0)
    tl.store(target_logits + row, target_logit)
    tl.store(largest + row, largest_0)
    tl.store(total + row, total_0)
    if HAS_SET:
        tl.store(largest + num_rows + row, largest_1)
        tl.store(total + num_rows + row, total_1)


@triton.jit
def gradient_kernel(
    logits,
    gradient,
    bias,
    inside,
    targets,
    target_gradients,
    factors,
    largest,
    start,
    num_columns,
    num_rows,
    row_stride,
    softcap,
    HAS_BIAS: tl.constexpr,
    HAS_CAP: tl.constexpr,
    HAS_SET: tl.constexpr,
    TILE: tl.constexpr,
):
    """One tile of a row a program: the gradient of `RowGradients`, in the output's dtype."""
    row = tl.program_id(0)
    column = tl.program_id(1) * TILE + tl.arange(0, TILE)
    is_real = column < num_columns
    place = row.to(tl.int64) * row_stride
    x = _finished(logits + place, bias, column, is_real, softcap, HAS_BIAS, HAS_CAP)
    factor = tl.load(factors + row)
    shift = tl.load(largest + row)
    if HAS_SET:
        is_inside = tl.load(inside + column, mask=is_real, other=0) != 0
        factor = tl.where(is_inside, tl.load(factors + num_rows + row), factor)
        shift = tl.where(is_inside, tl.load(largest + num_rows + row), shift)
    found = factor * tl.exp(x - shift)
    target = tl.load(targets + row) - start
    found = tl.where(column == target, tl.load(target_gradients + row), found)
    if HAS_CAP:
        tanh = tl.where(is_real, x / softcap, 0.0)
        found *= 1.0 - tanh * tanh
    tl.store(gradient + place + column, found.to(gradient.dtype.element_ty), mask=is_real)
