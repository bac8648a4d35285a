"""Special tokens on two sides: matched by role, so that they fall into chunks of their own.

A special token covers no byte. To align it like text, each matched one is given one unit of width
at its place, the same on all sides, and the positions behind it move on; then one rule finds the
chunks of text and of special tokens alike.

Legend: T tokens of one side, K units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from suite.text.encoding import Encoding, Role

Ints = NDArray[np.int32]

# A document's end against a turn's end is a match, but equal roles are a better one.
_CLOSING = {Role.END, Role.END_OF_TURN}
_EQUAL, _ALIKE, _DIFFERENT = 3, 2, 0


@dataclass(frozen=True, eq=False)
class Side:
    """One encoding in the coordinates that all sides share.

    Attributes:
        starts: int32 [T], where each token begins; for a special token, its place.
        stops: int32 [T], where it ends.
        roles: uint8 [T].
        is_shared: bool [T], False for text that only this side has (of its chat template).
    """

    starts: Ints
    stops: Ints
    roles: NDArray[np.uint8]
    is_shared: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Track:
    """A side as a row of units with strictly rising starts.

    A unit is a token, together with the tokens of no width before it.

    Attributes:
        starts: int32 [K], in shared coordinates.
        stops: int32 [K], in shared coordinates.
        tokens: int32 [K, 2], half-open range of tokens from its first to behind its last.
        num_tokens: int [K], tokens it holds; less than the range if an unmatched one is inside.
        num_unmatched: Special tokens without counterpart; they are in no unit.
    """

    starts: Ints
    stops: Ints
    tokens: Ints
    num_tokens: NDArray[np.intp]
    num_unmatched: int


@dataclass(frozen=True)
class Run:
    """Neighbouring special tokens of one role at one place, such as a header of two tokens."""

    place: int
    role: Role
    first: int
    stop: int


def text_side(encoding: Encoding) -> Side:
    """An encoding whose text is the same on all sides: bytes are the coordinates."""
    spans = encoding.byte_spans
    return Side(spans[:, 0], spans[:, 1], encoding.roles, np.ones(len(encoding), np.bool_))


def tracks(sides: Sequence[Side]) -> list[Track]:
    """The units of every side, with the special tokens that all sides have at one place."""
    runs = [_runs(side) for side in sides]
    matched = _match(runs)
    return [_track(side, [found[m] for found in matched]) for m, side in enumerate(sides)]


def _runs(side: Side) -> dict[int, list[Run]]:
    """Runs of special tokens by place, in order."""
    special = np.flatnonzero(side.roles).tolist()
    keys = [
        (int(side.starts[token]), int(side.roles[token]), token - rank)
        for rank, token in enumerate(special)
    ]
    runs: dict[int, list[Run]] = {}
    for (place, role, _), group in groupby(zip(keys, special, strict=True), lambda pair: pair[0]):
        members = [token for _, token in group]
        run = Run(place, Role(role), members[0], members[-1] + 1)
        runs.setdefault(place, []).append(run)
    return runs


def _match(runs: Sequence[dict[int, list[Run]]]) -> list[tuple[Run, ...]]:
    """For each special token that all sides have at one place: its run on every side."""
    places = set(runs[0]).intersection(*runs[1:])
    matched: list[tuple[Run, ...]] = []
    for place in sorted(places):
        found: list[tuple[Run, ...]] = [(run,) for run in runs[0][place]]
        for other in runs[1:]:
            roles = [run.role for run in other[place]]
            pairs = match_roles([members[0].role for members in found], roles)
            found = [(*found[i], other[place][j]) for i, j in pairs]
        matched += found
    return matched


def match_roles(a: Sequence[Role], b: Sequence[Role]) -> list[tuple[int, int]]:
    """The best order-keeping pairing of two short rows of roles, as pairs of indices.

    It matches the most of them, equal roles before alike ones (a longest common subsequence).
    """
    if list(a) == list(b):
        return [(index, index) for index in range(len(a))]
    best = np.zeros((len(a) + 1, len(b) + 1), np.int64)
    for i in reversed(range(len(a))):
        for j in reversed(range(len(b))):
            score = _likeness(a[i], b[j])
            with_pair = score + best[i + 1, j + 1] if score else 0
            best[i, j] = max(best[i + 1, j], best[i, j + 1], with_pair)
    pairs, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        if best[i, j] == best[i + 1, j]:
            i += 1
        elif best[i, j] == best[i, j + 1]:
            j += 1
        else:
            pairs.append((i, j))
            i, j = i + 1, j + 1
    return pairs


def _likeness(a: Role, b: Role) -> int:
    if a == b:
        return _EQUAL
    return _ALIKE if {a, b} == _CLOSING else _DIFFERENT


def _track(side: Side, matched: Sequence[Run]) -> Track:
    keep = (side.roles == Role.REGULAR) & side.is_shared
    width = np.zeros(len(side.starts), np.int32)
    for run in matched:
        keep[run.first : run.stop] = True
        width[run.stop - 1] = 1
    shift = np.cumsum(width, dtype=np.int32) - width
    kept = np.flatnonzero(keep)
    starts = (side.starts + shift)[kept]
    stops = (side.stops + shift + width)[kept]
    first = np.flatnonzero(np.diff(starts, prepend=-1))
    last = np.append(first, len(kept))[1:] - 1
    return Track(
        starts=starts[first],
        stops=stops[last],
        tokens=np.stack([kept[first], kept[last] + 1], axis=1).astype(np.int32),
        num_tokens=last - first + 1,
        num_unmatched=int(np.count_nonzero(side.roles) - sum(r.stop - r.first for r in matched)),
    )
