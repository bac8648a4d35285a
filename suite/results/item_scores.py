"""The items' scores behind one cell of a table, ready for statistics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Aggregation = Literal["mean", "bits_per_byte", "perplexity"]


@dataclass(frozen=True, eq=False)
class ItemScores:
    """Scores of the n items of one task or group, under one metric and filter.

    With `aggregation` "mean" the score is sum over strata s of `stratum_weights[s]` times the mean
    of the stratum's values (one stratum of weight 1 for a single task). A ratio metric has r =
    -sum(values) / sum(weights) nats a unit: "bits_per_byte" is r / ln 2, "perplexity" exp(r).

    Attributes:
        keys: `[n]` bytes, unique and sorted; equal keys are the same item.
        values: float64 `[n]`, finite; of a ratio metric log-likelihoods in nats.
        higher_is_better: None where it is not known.
        weights: float64 `[n]`, positive, of a ratio metric; None for a mean.
        strata: int64 `[n]`, which single task of a group an item belongs to.
        stratum_weights: float64 `[S]`, summing to 1.
        clusters: int64 `[n]`, equal for items that share a passage; None where none do.
    """

    keys: NDArray[np.bytes_]
    values: NDArray[np.float64]
    aggregation: Aggregation
    higher_is_better: bool | None
    strata: NDArray[np.int64]
    stratum_weights: NDArray[np.float64]
    weights: NDArray[np.float64] | None = None
    clusters: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def is_binary(self) -> bool:
        """Whether every value is 0 or 1 and the score is their mean."""
        return self.aggregation == "mean" and bool(np.isin(self.values, (0.0, 1.0)).all())

    def take(self, index: NDArray[np.int64]) -> ItemScores:
        """These items alone; weights of strata are those of the whole."""
        return replace(
            self,
            keys=self.keys[index],
            values=self.values[index],
            strata=self.strata[index],
            weights=None if self.weights is None else self.weights[index],
            clusters=None if self.clusters is None else self.clusters[index],
        )
