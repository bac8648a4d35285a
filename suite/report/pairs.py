"""The runs of one column of a table, joined and tested two by two."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from suite.errors import NotComparableError
from suite.records import Comparison, Estimate
from suite.results.comparability import check_comparable, check_conditions
from suite.results.item_scores import ItemScores
from suite.results.scored import Scored
from suite.stats.averages import has_equal_weights, item_weights
from suite.stats.compare import (
    Test,
    can_be_drawn,
    compare,
    compare_aggregates,
    estimate,
    has_resamples_for,
)
from suite.stats.intervals import MIN_CLUSTERS
from suite.stats.paired import mcnemar
from suite.stats.ratio import num_documents, ratio_value, resampled_ratio_columns
from suite.stats.resamples import (
    NUM_RESAMPLES,
    SEED,
    Counts,
    judge_replicates,
    resample_counts,
)

# Bytes of resamples that are kept for a further look at the same column.
MAX_KEPT = 400_000_000


@dataclass(frozen=True)
class EvidenceOptions:
    """How intervals and tests are made.

    Attributes:
        level: Nominal coverage of intervals; tests are made at `1 - level`.
        num_resamples: Resamples of a bootstrap.
        seed: Of the resamples.
        shared_items: Compare runs of different item sets on the items that both have.
    """

    level: float = 0.95
    num_resamples: int = NUM_RESAMPLES
    seed: int = SEED
    shared_items: bool = False


@dataclass
class Resamples:
    """One matrix of resamples for each set of items, shared by all models and pairs of a column."""

    options: EvidenceOptions
    _kept: dict[bytes, Counts] = field(default_factory=dict)

    def counts(self, items: ItemScores) -> Counts:
        """The resamples of these items, by cluster or within their strata."""
        digest = hashlib.blake2b(items.keys.tobytes() + items.strata.tobytes())
        digest.update(b"" if items.clusters is None else items.clusters.tobytes())
        key = digest.digest()
        if key not in self._kept:
            made = resample_counts(
                len(items),
                self.options.num_resamples,
                self.options.seed,
                items.clusters,
                items.strata,
            )
            self._kept[key] = made
            # Columns are done one after the other, so the oldest matrix is needed least.
            while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]
        return self._kept[key]


@dataclass
class ColumnPairs:
    """One column's runs by model, with every estimate and comparison made once.

    `joins` collects what had to be said when two runs were joined, by pair of models. With
    `num_tests` in the family of comparisons, a bootstrap that would run out of resamples at the
    smallest level of Holm's procedure gives way to the t test.
    """

    label: str
    scored: Mapping[str, Scored]
    options: EvidenceOptions
    resamples: Resamples
    num_tests: int = 1
    joins: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    _compared: dict[tuple[str, str, float], Comparison | str] = field(default_factory=dict)
    _signatures: dict[str, bytes] = field(default_factory=dict)

    def estimate(self, model: str) -> Estimate | None:
        """A cell's value with its interval; None where the cell has no items."""
        items = self.scored[model].items
        if items is None or not len(items):
            return None
        return estimate(items, level=self.options.level, counts=self._shared_counts(items))

    def compare(self, new: str, base: str, *, level: float | None = None) -> Comparison | str:
        """The difference `new - base` and its test at `1 - level`.

        Returns:
            A sentence where the two were not measured in the same way. Runs without items are
            compared by their aggregates.
        """
        level = self.options.level if level is None else level
        key = (new, base, level)
        if key not in self._compared:
            self._compared[key] = self._compare(new, base, level)
        return self._compared[key]

    def p_values(self, models: Sequence[str]) -> dict[tuple[str, str], float | None]:
        """The two-sided p-value of every pair of `models`, None where it is not a paired test."""
        fast = self._exact_p_values(models) or self._bootstrap_p_values(models)
        if fast is not None:
            return fast
        found: dict[tuple[str, str], float | None] = {}
        for i, first in enumerate(models):
            for second in models[i + 1 :]:
                found[first, second] = self._p_value(first, second)
        return found

    def join(self, new: str, base: str) -> tuple[ItemScores, ItemScores] | str:
        """The items that both runs are compared on, or why there are none."""
        first, second = self.scored[new], self.scored[base]
        if first.items is None or second.items is None:
            lacking = new if first.items is None else base
            return f"{lacking}: {self.scored[lacking].reason or 'no items'}"
        if self._signature(new) == self._signature(base):
            return first.items, second.items
        try:
            left, right, notes = check_comparable(
                first, second, shared_items=self.options.shared_items
            )
        except NotComparableError as error:
            return str(error)
        self.joins[new, base] = notes
        return left, right

    def _compare(self, new: str, base: str, level: float) -> Comparison | str:
        first, second = self.scored[new], self.scored[base]
        if first.items is None or second.items is None:
            try:
                self.joins[new, base] = check_conditions(first, second)
            except NotComparableError as error:
                return str(error)
            sizes = first.record.task.num_items, second.record.task.num_items
            return compare_aggregates(
                first.score,
                second.score,
                level=level,
                num_items=sizes if sizes[0] and sizes[1] else None,  # type: ignore[arg-type]
            )
        joined = self.join(new, base)
        if isinstance(joined, str):
            return joined
        left, right = joined
        smallest = (1 - self.options.level) / self.num_tests
        is_drawn = left.aggregation != "mean" and has_resamples_for(1 - smallest)
        test: Test = "auto" if left.aggregation == "mean" or is_drawn else "t"
        return compare(left, right, level=level, test=test, counts=self._shared_counts(left))

    def _p_value(self, first: str, second: str) -> float | None:
        """The p-value of a paired test; 1 where shared items contradict the two scores' order."""
        joined = self.join(first, second)
        if isinstance(joined, str):
            return None
        if all(map(is_plain_binary, joined)):
            more = int(np.count_nonzero(joined[0].values > joined[1].values))
            less = int(np.count_nonzero(joined[0].values < joined[1].values))
            difference, p_value = float(more - less), exact_p_value(more, less)
        else:
            comparison = self.compare(first, second)
            if isinstance(comparison, str) or comparison.p_value is None:
                return None
            difference, p_value = comparison.difference.value or 0.0, comparison.p_value
        scores = [self.scored[model].score.value or 0.0 for model in (first, second)]
        return 1.0 if difference * (scores[0] - scores[1]) < 0 else p_value

    def _exact_p_values(self, models: Sequence[str]) -> dict[tuple[str, str], float | None] | None:
        """All exact tests from one matrix product; None where another test is due."""
        items = [self.scored[model].items for model in models]
        present = [one for one in items if one is not None]
        if len(present) < len(items) or not all(map(is_plain_binary, present)):
            return None
        if len({self._signature(model) for model in models}) > 1:
            return None
        right = np.stack([one.values for one in present])
        num_both = right @ right.T
        found: dict[tuple[str, str], float | None] = {}
        for i, first in enumerate(models):
            for j in range(i + 1, len(models)):
                more = round(num_both[i, i] - num_both[i, j])
                less = round(num_both[j, j] - num_both[i, j])
                found[first, models[j]] = exact_p_value(more, less)
        return found

    def _bootstrap_p_values(
        self, models: Sequence[str]
    ) -> dict[tuple[str, str], float | None] | None:
        """All tests of a ratio metric from one set of replicates a model; None for other tests."""
        present = [one for model in models if (one := self.scored[model].items) is not None]
        if len(present) < len(models) or present[0].aggregation == "mean":
            return None
        if len({self._signature(model) for model in models}) > 1:
            return None
        counts, level = self._shared_counts(present[0]), self.options.level
        if counts is None:
            return None
        values = [value for one in present if (value := ratio_value(one)) is not None]
        num, _ = num_documents(present[0])
        if len(values) < len(present) or num < MIN_CLUSTERS or not has_resamples_for(level, counts):
            return None
        replicates = resampled_ratio_columns(present, counts)
        found: dict[tuple[str, str], float | None] = {}
        for i, first in enumerate(models):
            for j in range(i + 1, len(models)):
                apart, value = replicates[:, i] - replicates[:, j], values[i] - values[j]
                tested = judge_replicates(apart, value, level, num, "bootstrap")
                found[first, models[j]] = tested.p_value
        return found

    def _shared_counts(self, items: ItemScores) -> Counts | None:
        """The resamples of a ratio metric; means are tested without."""
        if items.aggregation == "mean" or not can_be_drawn(items, self.options.level):
            return None
        return self.resamples.counts(items)

    def _signature(self, model: str) -> bytes:
        """Equal for runs that were measured in the same way on the same items."""
        if model not in self._signatures:
            self._signatures[model] = _signature(self.scored[model])
        return self._signatures[model]


def is_plain_binary(items: ItemScores) -> bool:
    """Whether items are 0 or 1, stand for themselves and weigh the same: the exact test's case."""
    if items.clusters is not None or not items.is_binary:
        return False
    weights = item_weights(items.strata, items.stratum_weights)
    return weights is not None and has_equal_weights(weights)


@lru_cache(maxsize=200_000)
def exact_p_value(num_better: int, num_worse: int) -> float:
    """The exact McNemar test, which depends on nothing else; order does not matter."""
    if num_better > num_worse:
        return exact_p_value(num_worse, num_better)
    return mcnemar(num_better, num_worse)


def _signature(scored: Scored) -> bytes:
    record, items = scored.record, scored.items
    assert items is not None
    measured = {
        "conditions": record.conditions,
        "metric": scored.score.metric,
        "filter": scored.score.filter,
        "aggregation": items.aggregation,
        "strata": items.stratum_weights.tolist(),
        "limits": [record.task.num_fewshot, record.task.version],
    }
    digest = hashlib.blake2b(json.dumps(measured, sort_keys=True, default=str).encode())
    columns = [items.keys, items.strata, items.weights, items.clusters]
    columns += [table.prompts for table in scored.tables]
    for column in columns:
        digest.update(b"-" if column is None else np.ascontiguousarray(column).tobytes())
    return digest.digest()
