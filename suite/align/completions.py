"""Which tokens losses count, where the data says which part of a text is a completion.

Legend: T tokens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suite.text.encoding import Encoding, Role


def in_completions(encoding: Encoding, completions: NDArray[np.int32] | None) -> NDArray[np.bool_]:
    """Whether each token belongs to a completion, [T].

    A regular token does if it lies inside one; a special token if it ends one, because a model has
    to learn where to stop. White space before that token belongs to the completion.

    Args:
        encoding: One text.
        completions: int32 [., 2], rising spans of bytes; None if all of the text counts.
    """
    if completions is None:
        return np.ones(len(encoding), np.bool_)
    if not len(completions):
        return np.zeros(len(encoding), np.bool_)
    starts = completions[:, 0]
    is_end = (encoding.roles == Role.END) | (encoding.roles == Role.END_OF_TURN)
    stops = _with_white_space(encoding, completions[:, 1], encoding.byte_spans[is_end, 0])
    token_starts, token_stops = encoding.byte_spans.T
    place = np.searchsorted(starts, token_starts, side="right") - 1
    inside: NDArray[np.bool_] = (place >= 0) & (token_starts < stops[place])
    inside &= token_stops <= stops[place]
    inside &= encoding.roles == Role.REGULAR
    if is_end.any():
        inside[is_end] = np.isin(token_starts[is_end], stops)
    return inside


def _with_white_space(
    encoding: Encoding, stops: NDArray[np.int32], ends: NDArray[np.int32]
) -> NDArray[np.int32]:
    """The stops moved on to the end token behind each, if only white space comes between."""
    moved = stops.copy()
    for number, (stop, place) in enumerate(zip(stops, np.searchsorted(ends, stops), strict=True)):
        if place < len(ends) and not encoding.text[stop : ends[place]].strip():
            moved[number] = ends[place]
    return moved
