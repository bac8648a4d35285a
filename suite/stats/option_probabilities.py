"""Probabilities over the options of multiple-choice items, which differ in number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special


def option_probabilities(
    log_likelihoods: Sequence[NDArray[np.float64]],
) -> list[NDArray[np.float64]]:
    """Each item's options as a distribution: the softmax of their summed log-likelihoods, in nats.

    Args:
        log_likelihoods: `[K_i]` an item, one number an option; -inf is an impossible one.

    Raises:
        ValueError: an item without options, or one of whose options none is possible.
    """
    probs = [np.empty(0)] * len(log_likelihoods)
    for places in same_length(log_likelihoods):
        table = np.stack([log_likelihoods[place] for place in places]).astype(np.float64)
        if table.shape[1] == 0 or not np.isfinite(table.max(axis=1)).all():
            raise ValueError("an item has no option with a finite log-likelihood")
        for place, row in zip(places, special.softmax(table, axis=1), strict=True):
            probs[place] = row
    return probs


def same_length(rows: Sequence[NDArray[np.float64]]) -> list[NDArray[np.int64]]:
    """The places of rows that are equally long, one array a length."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
