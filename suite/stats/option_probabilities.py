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
        ValueError: an item that `why_no_probabilities` names.
    """
    reason = why_no_probabilities(log_likelihoods)
    if reason:
        raise ValueError(reason)
    probs = [np.empty(0)] * len(log_likelihoods)
    for places in same_length(log_likelihoods):
        table = np.stack([log_likelihoods[place] for place in places]).astype(np.float64)
        for place, row in zip(places, special.softmax(table, axis=1), strict=True):
            probs[place] = row
    return probs


def why_no_probabilities(log_likelihoods: Sequence[NDArray[np.float64]]) -> str | None:
    """Why some items have no distribution, one clause; None where all have.

    They have no options, none with a finite log-likelihood, or one without a number.
    """
    num = sum(1 for row in log_likelihoods if not (len(row) and np.isfinite(row.max())))
    if not num:
        return None
    return f"no finite log-likelihood of an option for {num:,} of {len(log_likelihoods):,} items"


def same_length(rows: Sequence[NDArray[np.float64]]) -> list[NDArray[np.int64]]:
    """The places of rows that are equally long, one array a length."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
