"""A mixture over words for members that share no vocabulary (likelihood only).

The scored text is cut where every member has a token boundary and begins a new pre-token. What a
member says of a piece is "this text comes next, and a pre-token ends here", given that one begins:
a distribution over pieces for each member, so that these can be mixed.

Legend: M members, T scored tokens of one member, P pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ScoredTokens:
    """The scored tokens of a text, as one member reads it.

    Attributes:
        byte_ends: Bytes of the scored text up to the end of each token, ascending. [T]
        token: Log-probabilities of the tokens. [T]
        boundary: Log of the mass of the entries that begin a pre-token (S), from the row that
            predicts the token. [T]
        begins: Whether the token itself is in S. bool [T]
    """

    byte_ends: NDArray[np.int64]
    token: NDArray[np.floating]
    boundary: NDArray[np.floating]
    begins: NDArray[np.bool_]


def common_cuts(members: Sequence[ScoredTokens]) -> NDArray[np.int64]:
    """The byte offsets behind which every member begins a pre-token, ascending; [P - 1]."""
    cuts = [np.unique(member.byte_ends[:-1][member.begins[1:]]) for member in members]
    common = cuts[0]
    for own in cuts[1:]:
        common = np.intersect1d(common, own, assume_unique=True)
    return common


def piece_log_probs(members: Sequence[ScoredTokens]) -> NDArray[np.float64]:
    """Log-probabilities of the common pieces under each member, [M, P].

    The first piece is not conditioned on a boundary before it, the last claims none behind it.
    """
    cuts = common_cuts(members)
    return np.stack([_own_pieces(member, cuts) for member in members])


def _own_pieces(member: ScoredTokens, cuts: NDArray[np.int64]) -> NDArray[np.float64]:
    firsts = _first_behind(member, cuts)
    sums = np.add.reduceat(member.token.astype(np.float64), np.concatenate([[0], firsts]))
    boundary = member.boundary[firsts].astype(np.float64)
    sums[:-1] += boundary
    sums[1:] -= boundary
    return sums


def _first_behind(member: ScoredTokens, cuts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first token behind each cut that begins a pre-token.

    Special tokens have no bytes, so several tokens may begin at one offset.
    """
    candidates = np.flatnonzero(member.begins[1:]) + 1
    starts = member.byte_ends[candidates - 1]
    return candidates[np.searchsorted(starts, cuts)]


def word_mixture(members: Sequence[ScoredTokens], weights: Sequence[float]) -> float:
    """Sum over the common pieces of log sum_m w_m e^(l_m(piece)).

    Members of weight 0 are left out, also where pieces are cut. One member, or one that meets
    itself, gives its plain log-likelihood.
    """
    pairs = [pair for pair in zip(members, weights, strict=True) if pair[1] > 0]
    pieces = piece_log_probs([member for member, _ in pairs])
    log_weights = np.log([weight for _, weight in pairs])
    return float(np.logaddexp.reduce(pieces + log_weights[:, None], axis=0).sum())
