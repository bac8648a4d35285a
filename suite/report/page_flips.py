"""The flips between every two models of a table: counted over all items, some with their texts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice

import numpy as np
from numpy.typing import NDArray

from suite.records import Column, RunRecord, Sample, Table
from suite.report.flips import (
    MAX_FLIPS,
    Changes,
    changes,
    count_groups,
    group_places,
    in_turns,
)
from suite.report.page_data import Flip, FlipGroup, FlipPair
from suite.report.page_features import (
    Grouping,
    text_groupings,
    token_groupings,
    written_groupings,
)
from suite.results.samples_file import iterate_texts, read_features
from suite.results.scored import Scored

Texts = Mapping[bytes, Sample]


@dataclass(frozen=True)
class ItemSource:
    """Where the texts and features of a run's items come from; by default its own files."""

    texts: Callable[[RunRecord, str], Iterator[tuple[bytes, Sample]]] = iterate_texts
    features: Callable[[RunRecord], Mapping[bytes, Mapping[str, int]]] = read_features


@dataclass(frozen=True, eq=False)
class _Found:
    """A pair's counts, and the items that flipped with their groups."""

    column: int
    first: str
    second: str
    num_items: int
    groups: tuple[FlipGroup, ...]
    keys: list[bytes]
    is_gain: list[bool]
    item_groups: NDArray[np.int64]


@dataclass(eq=False)
class _TaskItems:
    """One task's items with their groups, read once for all pairs of models."""

    column: Column
    runs: Mapping[str, Scored]
    source: ItemSource
    texts: dict[str, Texts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = [run.items.keys for run in self.runs.values() if run.items is not None]
        self.keys: NDArray[np.bytes_] = np.unique(np.concatenate(keys))
        self._listed: list[bytes] = self.keys.tolist()
        self._features = {name: self.source.features(r.record) for name, r in self.runs.items()}
        self._tokens = {
            name: token_groupings(self._listed, features, name) if features else ()
            for name, features in self._features.items()
        }
        self._of_texts = self._text_groupings()

    def _text_groupings(self) -> tuple[Grouping, ...]:
        written = next((found for found in self._features.values() if found), None)
        if written is not None:
            return written_groupings(self._listed, written)
        name = next(iter(self.runs))
        return text_groupings(
            self._listed, {key: sample.prompt for key, sample in self.texts_of(name).items()}
        )

    def texts_of(self, model: str, wanted: set[bytes] | None = None) -> Texts:
        """A model's texts of these items, all of them without `wanted`."""
        if model not in self.texts:
            found = self.source.texts(self.runs[model].record, self.column.filter)
            kept = {key: sample for key, sample in found if wanted is None or key in wanted}
            if wanted is not None:
                return kept
            self.texts[model] = kept
        return self.texts[model]

    def groupings(self, first: str, second: str, keys: NDArray[np.bytes_]) -> list[Grouping]:
        """Every grouping of a pair's items; tokenizers that cut alike are told once."""
        tokens = list(self._tokens[first])
        tokens += [
            own
            for own in self._tokens[second]
            if not any(np.array_equal(own.codes, other.codes) for other in self._tokens[first])
        ]
        places = np.searchsorted(self.keys, keys)
        return [
            Grouping(one.feature, one.groups, one.codes[places])
            for one in (*self._of_texts, *tokens)
        ]


def flip_pairs(
    table: Table, scored: Mapping[tuple[str, str], Scored], source: ItemSource
) -> tuple[FlipPair, ...]:
    """Every two models of every task whose items are right or wrong, with `MAX_FLIPS` texts.

    The reference comes first in its pairs; other pairs are in the table's order.

    Raises:
        RecordError: A samples or features file is damaged.
    """
    models = _models(table)
    reference = next((row.model.name for row in table.rows if row.model.is_reference), None)
    found: list[_Found] = []
    tasks: dict[int, _TaskItems] = {}
    for index, column in enumerate(table.columns):
        runs = {m: scored[m, column.label] for m in models if (m, column.label) in scored}
        changed = {
            (first, second): change
            for first, second in combinations(runs, 2)
            if (change := changes(runs[first], runs[second])) is not None
        }
        if changed:
            involved = {name for pair in changed for name in pair}
            items = _TaskItems(column, {m: r for m, r in runs.items() if m in involved}, source)
            tasks[index] = items
            found += (_found(index, pair, change, items) for pair, change in changed.items())
    order = in_turns([len(one.keys) for one in found], [one.first == reference for one in found])
    shown: dict[int, list[int]] = defaultdict(list)
    for place, position in islice(order, MAX_FLIPS):
        shown[place].append(position)
    return tuple(_with_texts(found, shown, tasks))


def _models(table: Table) -> list[str]:
    """The models of the table, the reference first."""
    rows = [row for row in table.rows if row.kind in ("scores", "delta")]
    ordered = sorted(rows, key=lambda row: not row.model.is_reference)
    return list(dict.fromkeys(row.model.name for row in ordered))


def _found(index: int, pair: tuple[str, str], change: Changes, items: _TaskItems) -> _Found:
    groupings = items.groupings(*pair, change.keys)
    flipped = np.flatnonzero(change.is_lost | change.is_gained)
    return _Found(
        column=index,
        first=pair[0],
        second=pair[1],
        num_items=len(change.keys),
        groups=count_groups(change, groupings),
        keys=change.keys[flipped].tolist(),
        is_gain=change.is_gained[flipped].tolist(),
        item_groups=group_places(groupings, flipped[:MAX_FLIPS]),
    )


def _with_texts(
    found: Sequence[_Found], shown: Mapping[int, list[int]], tasks: Mapping[int, _TaskItems]
) -> Iterator[FlipPair]:
    wanted: dict[tuple[int, str], set[bytes]] = defaultdict(set)
    for place, positions in shown.items():
        one = found[place]
        keys = {one.keys[position] for position in positions}
        wanted[one.column, one.first] |= keys
        wanted[one.column, one.second] |= keys
    texts = {
        (column, model): tasks[column].texts_of(model, keys)
        for (column, model), keys in wanted.items()
    }
    for place, one in enumerate(found):
        flips = [
            _flip(one, position, texts[one.column, one.first], texts[one.column, one.second])
            for position in shown.get(place, ())
        ]
        yield FlipPair(
            column=one.column,
            first=one.first,
            second=one.second,
            num_items=one.num_items,
            num_lost=one.is_gain.count(False),
            num_gained=one.is_gain.count(True),
            groups=one.groups,
            flips=tuple(flip for flip in flips if flip is not None),
        )


def _flip(one: _Found, position: int, first: Texts, second: Texts) -> Flip | None:
    key = one.keys[position]
    if key not in first or key not in second:
        return None
    return Flip(
        prompt=first[key].prompt,
        target=first[key].target,
        first_answer=first[key].answer,
        second_answer=second[key].answer,
        is_gain=one.is_gain[position],
        groups=tuple(int(place) for place in one.item_groups[position] if place >= 0),
    )
