"""Reasons that hold for many cells, told once each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# As many names as a sentence lists one by one.
MAX_NAMED = 4


@dataclass(frozen=True)
class Group:
    """Cells with the same reason.

    Attributes:
        models: Of these rows.
        labels: In these columns.
        text: The reason; where `is_example`, that of the first of the columns, the others' having
            other values in it.
    """

    models: tuple[str, ...]
    labels: tuple[str, ...]
    text: str
    is_example: bool

    def ending(self) -> str:
        """What says that the values are those of one column."""
        return f" (on {self.labels[0]}; elsewhere with other values)" if self.is_example else ""


def grouped(cells: Iterable[tuple[str, str, str]]) -> list[Group]:
    """(model, label, reason) by reason: over the columns of a model, then over models.

    Reasons that differ in nothing but the values found become one group with the first as example.
    """
    by_model: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for model, label, text in cells:
        by_model.setdefault((model, _shape(text)), []).append((label, text))
    merged: dict[tuple[tuple[str, ...], str, bool], list[str]] = {}
    for (model, _), found in by_model.items():
        labels = tuple(label for label, _ in found)
        key = (labels, found[0][1], len({text for _, text in found}) > 1)
        merged.setdefault(key, []).append(model)
    return [
        Group(tuple(models), labels, text, is_example)
        for (labels, text, is_example), models in merged.items()
    ]


def _shape(text: str) -> str:
    """A reason without the values in it."""
    without = re.sub(r": [^;()]* against [^;()]*", ": against", text)
    return re.sub(r"\d[\d,.]*", "0", without)


def named(names: Iterable[str], what: str) -> str:
    """Names one by one, or how many there are of `what` where that would be long."""
    known = list(dict.fromkeys(names))
    return ", ".join(known) if len(known) <= MAX_NAMED else f"{len(known)} {what}"
