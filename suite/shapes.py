"""Shapes are checked where the public functions document them."""

from __future__ import annotations

from typing import Any

from suite.errors import ShapeError


def check_shapes(where: str, expected: dict[str, tuple[str, ...]], **tensors: Any) -> None:
    """Check that letters stand for the same sizes in all tensors.

    Args:
        where: The function, for the message.
        expected: The letters of each tensor's shape, `{"hidden": ("T", "D")}`.
        **tensors: What has a shape; None is skipped.

    Raises:
        ShapeError: A tensor has another number of dimensions, or a letter has two sizes.
    """
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items() if tensor is not None}
    sizes: dict[str, int] = {}
    fits = True
    for name, shape in given.items():
        letters = expected[name]
        fits &= len(shape) == len(letters)
        fits &= all(
            sizes.setdefault(*pair) == pair[1] for pair in zip(letters, shape, strict=False)
        )
    if not fits:
        wanted = ", ".join(f"{name} [{', '.join(expected[name])}]" for name in given)
        found = ", ".join(f"{name} {list(shape)}" for name, shape in given.items())
        raise ShapeError(f"{where}: expected {wanted}; got {found}")
