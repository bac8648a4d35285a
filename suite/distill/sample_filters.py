"""Which samples of a teacher are kept: what is checked of their text."""

from __future__ import annotations

import re
from decimal import Decimal

# Commas stand before three digits; a minus behind a word, a digit or a bracket is a subtraction.
_NUMBER = re.compile(r"(?:(?<![\w.)])-)?(?:\d+(?:,\d{3}(?!\d))*(?:\.\d+)?|\.\d+)", flags=re.ASCII)


def last_number(text: str) -> Decimal | None:
    """The last number in a text, `1,234.50` as 1234.5; None if there is none."""
    found = _NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "")) if found else None


def same_last_number(sample: str, reference: str) -> bool:
    """Whether a sample ends with the number that a reference ends with, however it is written.

    Without a number in the reference nothing agrees with it.
    """
    expected = last_number(reference)
    return expected is not None and last_number(sample) == expected
