"""What the samples files of one run say about each item, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from suite.results.chosen import LENGTHS

# Metrics that choose by other numbers than the options' likelihoods after the prompt.
_OTHER_CHOICE = frozenset({"acc_mutual_info"})


@dataclass(frozen=True, eq=False)
class ItemTable:
    """The n items of one single task of one run, as scored under one filter.

    Rows are sorted by `keys`, so two runs are joined by one pass over both.

    Attributes:
        task: The single task (a member, where the run's task is a group).
        filter: lm-eval's filter, "none" for the default one.
        keys: `S36` `[n]`, unique: 32 hex digits of the item's hash, and `#2`, `#3` ... for further
            items that are equal word for word, in the order of their numbers in the task.
        doc_ids: int64 `[n]`, the items' numbers in the task.
        prompts: `S32` `[n]`, hash of every prompt and continuation put to the model; empty where a
            file of an old version does not tell.
        metrics: float64 `[n]` a metric, NaN where the item has no number. Of a ratio metric the
            summed log-likelihoods in nats.
        weights: float64 `[n]` a ratio metric, what its log-likelihoods are divided by (bytes,
            words).
        answers: `S32` `[n]`, hash of the answer (the number of the option with the largest summed
            log-likelihood, or the filtered text); empty where the item has none.
        confidence: float64 `[n]`, probability of the chosen option among the options by summed
            log-likelihood; NaN where nothing is chosen.
        clusters: `S32` `[n]`, hash of the text that items share (a passage); None where every item
            stands for itself.
        answers_by_length: `S32` `[n]` a metric that chooses by likelihood per character or byte, as
            `answers`; only metrics that the items have.
    """

    task: str
    filter: str
    keys: NDArray[np.bytes_]
    doc_ids: NDArray[np.int64]
    prompts: NDArray[np.bytes_]
    metrics: Mapping[str, NDArray[np.float64]]
    weights: Mapping[str, NDArray[np.float64]]
    answers: NDArray[np.bytes_]
    confidence: NDArray[np.float64]
    clusters: NDArray[np.bytes_] | None = None
    answers_by_length: Mapping[str, NDArray[np.bytes_]] = field(default_factory=dict)


def answers_of(table: ItemTable, metric: str) -> NDArray[np.bytes_] | str:
    """Hash of each item's answer as a metric reads it `[n]`, or one sentence why none is known."""
    if metric in _OTHER_CHOICE:
        return f"{metric} chooses by likelihoods that are not kept"
    answers = table.answers_by_length.get(metric) if metric in LENGTHS else table.answers
    if answers is None or (metric in LENGTHS and not (answers != b"").any()):
        return f"the samples do not tell the lengths of the options that {metric} chooses by"
    return answers


def confidence_of(table: ItemTable, metric: str) -> NDArray[np.float64] | str:
    """Probability of each item's chosen option `[n]`, or one sentence why none is known."""
    if metric in LENGTHS or metric in _OTHER_CHOICE:
        return f"{metric} does not choose by the options' probabilities"
    return table.confidence
