from __future__ import annotations

import numpy as np
import pytest

from suite.errors import ShapeError
from suite.shapes import check_shapes

EXPECTED = {"hidden": ("T", "D"), "weight": ("V", "D"), "mask": ("V",)}


def test_shapes_that_belong_together_pass() -> None:
    check_shapes("f", EXPECTED, hidden=np.zeros((2, 3)), weight=np.zeros((4, 3)), mask=np.zeros(4))
    check_shapes("f", EXPECTED, hidden=np.zeros((0, 3)), weight=np.zeros((3, 3)))


def test_what_is_not_given_is_not_checked() -> None:
    check_shapes("f", EXPECTED, hidden=np.zeros((2, 3)), weight=None, mask=None)
    with pytest.raises(ShapeError) as caught:
        check_shapes("f", EXPECTED, hidden=None, weight=np.zeros((4, 3)), mask=np.zeros(5))
    assert str(caught.value) == "f: expected weight [V, D], mask [V]; got weight [4, 3], mask [5]"


@pytest.mark.parametrize(
    ("shape", "found"), [((2,), "[2]"), ((2, 3, 1), "[2, 3, 1]"), ((2, 4), "[2, 4]"), ((), "[]")]
)
def test_a_wrong_shape_is_named_beside_the_others(shape: tuple[int, ...], found: str) -> None:
    with pytest.raises(ShapeError) as caught:
        check_shapes("alm_loss", EXPECTED, hidden=np.zeros(shape), weight=np.zeros((4, 3)))
    assert str(caught.value) == (
        f"alm_loss: expected hidden [T, D], weight [V, D]; got hidden {found}, weight [4, 3]"
    )


def test_a_letter_has_one_size_within_one_tensor_too() -> None:
    with pytest.raises(ShapeError) as caught:
        check_shapes("f", {"square": ("D", "D")}, square=np.zeros((2, 3)))
    assert str(caught.value) == "f: expected square [D, D]; got square [2, 3]"
