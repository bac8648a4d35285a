"""The flips between every two models of a table: counted over all items, some with their texts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from suite.errors import RecordError
from suite.records import Column, RunRecord, Sample, Table
from suite.report.flips import (
    MAX_FLIPS,
    Changes,
    all_changes,
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
from suite.results.chosen_texts import chosen_texts
from suite.results.samples_file import iterate_texts, read_features
from suite.results.scored import Scored

Texts = Mapping[bytes, Sample]
ReadT = TypeVar("ReadT")


@dataclass(frozen=True)
class ItemSource:
    """Where the texts and features of a run's items come from; by default its own files."""

    texts: Callable[[RunRecord, str], Iterator[tuple[bytes, Sample]]] = iterate_texts
    chosen: Callable[[Scored, Set[bytes]], Texts] = chosen_texts
    features: Callable[[RunRecord], Mapping[bytes, Mapping[str, int]]] = read_features


@dataclass(frozen=True, eq=False)
class _Found:
    """A pair's counts, and the rows of the items that flipped among its `keys`."""

    column: int
    first: str
    second: str
    keys: NDArray[np.bytes_]
    groups: tuple[FlipGroup, ...]
    rows: NDArray[np.int64]
    is_gain: NDArray[np.bool_]


@dataclass(eq=False)
class _TaskItems:
    """One task's items with their groups, read once for all pairs of models.

    What cannot be read is left out and said in `notes`.
    """

    column: Column
    runs: Mapping[str, Scored]
    source: ItemSource
    notes: list[str]

    def __post_init__(self) -> None:
        keys = [run.items.keys for run in self.runs.values() if run.items is not None]
        is_same = all(np.array_equal(keys[0], other) for other in keys[1:])
        self.keys: NDArray[np.bytes_] = keys[0] if is_same else np.unique(np.concatenate(keys))
        listed: list[bytes] = self.keys.tolist()
        self._tokens: dict[str, tuple[Grouping, ...]] = {}
        written = None
        for name, run in self.runs.items():
            features = self._readable(partial(self.source.features, run.record), name, "tokens")
            self._tokens[name] = token_groupings(listed, features, name) if features else ()
            if features and written is None:
                written = written_groupings(listed, features)
        self._of_texts = self._text_groupings(listed) if written is None else written

    def _text_groupings(self, listed: list[bytes]) -> tuple[Grouping, ...]:
        """Features of the texts are those of the items, so one model's file is enough."""
        name, run = next(iter(self.runs.items()))

        def prompts() -> dict[bytes, str]:
            texts = self.source.texts(run.record, self.column.filter)
            return {key: sample.prompt for key, sample in texts}

        return text_groupings(listed, self._readable(prompts, name, "groups by text"))

    def texts_of(self, model: str, wanted: Set[bytes]) -> Texts:
        """A model's texts of these items."""
        read = partial(self.source.chosen, self.runs[model], wanted)
        return self._readable(read, model, "texts of changed answers")

    def _readable(
        self, read: Callable[[], Mapping[bytes, ReadT]], model: str, what: str
    ) -> Mapping[bytes, ReadT]:
        try:
            return read()
        except RecordError as error:
            self.notes.append(f"{self.column.label}, {model}: {what} left out ({error})")
            return {}

    def groupings(self, first: str, second: str, keys: NDArray[np.bytes_]) -> list[Grouping]:
        """Every grouping of a pair's items; tokenizers that cut alike are told once."""
        tokens = list(self._tokens[first])
        tokens += [
            own
            for own in self._tokens[second]
            if not any(np.array_equal(own.codes, other.codes) for other in self._tokens[first])
        ]
        found = [*self._of_texts, *tokens]
        if np.array_equal(keys, self.keys):
            return found
        places = np.searchsorted(self.keys, keys)
        return [Grouping(one.feature, one.groups, one.codes[places]) for one in found]


@dataclass(frozen=True)
class Flips:
    """All pairs of models, and one sentence on each thing that could not be read."""

    pairs: tuple[FlipPair, ...]
    notes: tuple[str, ...]


def flip_pairs(table: Table, scored: Mapping[tuple[str, str], Scored], source: ItemSource) -> Flips:
    """Every two models of every task whose items are right or wrong, with `MAX_FLIPS` texts.

    The reference comes first in its pairs; other pairs are in the table's order.
    """
    models = _models(table)
    reference = next((row.model.name for row in table.rows if row.model.is_reference), None)
    found: list[_Found] = []
    tasks: dict[int, _TaskItems] = {}
    notes: list[str] = []
    for index, column in enumerate(table.columns):
        runs = {m: scored[m, column.label] for m in models if (m, column.label) in scored}
        changed = all_changes(runs)
        if changed:
            involved = {name for pair in changed for name in pair}
            own = {m: r for m, r in runs.items() if m in involved}
            tasks[index] = _TaskItems(column, own, source, notes)
            found += (_found(index, pair, change, tasks[index]) for pair, change in changed.items())
    order = in_turns([len(one.rows) for one in found], [one.first == reference for one in found])
    shown: dict[int, list[int]] = defaultdict(list)
    for place, position in islice(order, MAX_FLIPS):
        shown[place].append(position)
    return Flips(tuple(_with_texts(found, shown, tasks)), tuple(notes))


def _models(table: Table) -> list[str]:
    """The models of the table, the reference first."""
    rows = [row for row in table.rows if row.kind in ("scores", "delta")]
    ordered = sorted(rows, key=lambda row: not row.model.is_reference)
    return list(dict.fromkeys(row.model.name for row in ordered))


def _found(index: int, pair: tuple[str, str], change: Changes, items: _TaskItems) -> _Found:
    rows = np.flatnonzero(change.is_lost | change.is_gained)
    return _Found(
        column=index,
        first=pair[0],
        second=pair[1],
        keys=change.keys,
        groups=count_groups(change, items.groupings(*pair, change.keys)),
        rows=rows,
        is_gain=change.is_gained[rows],
    )


def _with_texts(
    found: Sequence[_Found], shown: Mapping[int, list[int]], tasks: Mapping[int, _TaskItems]
) -> Iterator[FlipPair]:
    wanted: dict[tuple[int, str], set[bytes]] = defaultdict(set)
    for place, positions in shown.items():
        one = found[place]
        keys = one.keys[one.rows[positions]].tolist()
        wanted[one.column, one.first].update(keys)
        wanted[one.column, one.second].update(keys)
    texts = {
        (column, model): tasks[column].texts_of(model, keys)
        for (column, model), keys in wanted.items()
    }
    for place, one in enumerate(found):
        flips: Iterator[Flip] = iter(())
        if place in shown:
            first, second = texts[one.column, one.first], texts[one.column, one.second]
            flips = _flips(one, shown[place], (first, second), tasks[one.column])
        num_gained = int(one.is_gain.sum())
        yield FlipPair(
            column=one.column,
            first=one.first,
            second=one.second,
            num_items=len(one.keys),
            num_lost=len(one.rows) - num_gained,
            num_gained=num_gained,
            groups=one.groups,
            flips=tuple(flips),
        )


def _flips(
    one: _Found, positions: Sequence[int], texts: tuple[Texts, Texts], items: _TaskItems
) -> Iterator[Flip]:
    """The flips at these positions whose texts are known."""
    rows = one.rows[positions]
    places = group_places(items.groupings(one.first, one.second, one.keys), rows)
    first, second = texts
    for key, is_gain, own in zip(
        one.keys[rows].tolist(), one.is_gain[positions].tolist(), places.tolist(), strict=True
    ):
        if key in first and key in second:
            yield Flip(
                prompt=first[key].prompt,
                target=first[key].target,
                first_answer=first[key].answer,
                second_answer=second[key].answer,
                is_gain=is_gain,
                groups=tuple(place for place in own if place >= 0),
            )
