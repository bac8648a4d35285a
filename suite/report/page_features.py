"""Groups of items by what their texts look like and by how a tokenizer cuts them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DIGIT = re.compile(r"\d")


@dataclass(frozen=True, eq=False)
class Grouping:
    """The n items of a task by one feature.

    `codes` is int64 `[n]`, the position of each item's group in `groups`, -1 where the feature is
    not known of it.
    """

    feature: str
    groups: tuple[str, ...]
    codes: NDArray[np.int64]


def text_groupings(keys: Sequence[bytes], prompts: Mapping[bytes, str]) -> tuple[Grouping, ...]:
    """Length quarter, digits and characters outside ASCII, read off the prompts themselves.

    A feature that is the same for all items is left out, here as in the other groupings.
    """
    texts = [prompts.get(key) for key in keys]
    return _by_size_and_characters(
        _numbers([None if text is None else len(text) for text in texts]),
        _numbers([None if text is None else bool(DIGIT.search(text)) for text in texts]),
        _numbers([None if text is None else not text.isascii() for text in texts]),
        unit="characters",
    )


def written_groupings(
    keys: Sequence[bytes], features: Mapping[bytes, Mapping[str, int]]
) -> tuple[Grouping, ...]:
    """The same features as `text_groupings`, from the counts that a run wrote of each item."""
    return _by_size_and_characters(
        _column(keys, features, "num_bytes"),
        _column(keys, features, "num_digits"),
        _column(keys, features, "num_non_ascii"),
        unit="bytes",
    )


def token_groupings(
    keys: Sequence[bytes], features: Mapping[bytes, Mapping[str, int]], model: str
) -> tuple[Grouping, ...]:
    """Tokens a byte in quarters, and splits at boundaries, as one model's tokenizer cuts items."""
    num_bytes = _column(keys, features, "num_bytes")
    splits = _column(keys, features, "num_boundary_splits")
    tokens = _column(keys, features, "num_tokens")
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(num_bytes > 0, tokens / num_bytes, np.nan)
    found = (
        _quarters(f"tokens a byte, {model}", np.round(rate, 2).astype(np.float64), ""),
        _present(f"boundary splits, {model}", splits),
    )
    return tuple(grouping for grouping in found if _tells_apart(grouping))


def _by_size_and_characters(
    sizes: NDArray[np.float64],
    digits: NDArray[np.float64],
    non_ascii: NDArray[np.float64],
    *,
    unit: str,
) -> tuple[Grouping, ...]:
    found = (
        _quarters("length", sizes, unit),
        _present("digits", digits),
        _present("characters outside ASCII", non_ascii),
    )
    return tuple(grouping for grouping in found if _tells_apart(grouping))


def _tells_apart(grouping: Grouping) -> bool:
    """Whether there are items in two groups at least: one group is the count of all items."""
    return np.unique(grouping.codes[grouping.codes >= 0]).size > 1


def _quarters(feature: str, values: NDArray[np.float64], unit: str) -> Grouping:
    """Up to four groups of about the same number of items; equal values share a group."""
    is_known = ~np.isnan(values)
    known = values[is_known]
    codes = np.full(len(values), -1, dtype=np.int64)
    if not known.size:
        return Grouping(feature, (), codes)
    edges = np.unique(np.quantile(known, (0.25, 0.5, 0.75), method="lower"))
    # Groups that equal values have left empty are closed up.
    _, places = np.unique(np.searchsorted(edges, known, side="left"), return_inverse=True)
    codes[is_known] = places
    names = []
    for place in range(int(places.max()) + 1):
        inside = known[places == place]
        low, high = f"{inside.min():g}", f"{inside.max():g}"
        names.append(f"{low if low == high else f'{low}–{high}'} {unit}".strip())
    return Grouping(feature, tuple(names), codes)


def _present(feature: str, values: NDArray[np.float64]) -> Grouping:
    codes = np.where(np.isnan(values), -1, values > 0).astype(np.int64)
    return Grouping(feature, ("none", "some"), codes)


def _column(
    keys: Sequence[bytes], features: Mapping[bytes, Mapping[str, int]], name: str
) -> NDArray[np.float64]:
    return _numbers([features.get(key, {}).get(name) for key in keys])


def _numbers(values: Sequence[int | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
