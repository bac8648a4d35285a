"""Numbers as lm-eval writes them: plain, in a string, or as numpy shows them."""

from __future__ import annotations

import math
import re
from typing import Any

_NUMPY = re.compile(r"(?:np|numpy)\.\w+\((.*)\)")


def number(value: Any) -> float | None:
    """The finite number that is meant, None where none is ("N/A", a blank, NaN, an array)."""
    if isinstance(value, str):
        text = value.strip()
        wrapped = _NUMPY.fullmatch(text)
        try:
            value = float(wrapped.group(1) if wrapped else text)
        except ValueError:
            return {"True": 1.0, "False": 0.0}.get(wrapped.group(1) if wrapped else text)
    if not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None
