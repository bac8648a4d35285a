"""The flips as data for the page's script, within what room the page has left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from suite.records import Table
from suite.report.flips import in_turns
from suite.report.formatting import one_line
from suite.report.page_data import Flip, FlipPair

MAX_BYTES = 20_000_000

# Of one text; the end of a prompt is what the item asks, its beginning may be examples.
MAX_CHARACTERS = 2_000
HEAD_CHARACTERS = 600


@dataclass(frozen=True)
class FlipsJson:
    """The text of the data block, and how many of all flips are in it."""

    text: str
    num_shown: int
    num_flips: int


def cut(text: str) -> str:
    """At most about `MAX_CHARACTERS` of a text, with a mark where its middle is left out."""
    if len(text) <= MAX_CHARACTERS:
        return text
    tail = MAX_CHARACTERS - HEAD_CHARACTERS
    left_out = len(text) - MAX_CHARACTERS
    return f"{text[:HEAD_CHARACTERS]} [… {left_out:,} characters cut …] {text[-tail:]}"


@dataclass
class _Texts:
    """Every text once, by its place."""

    places: dict[str, int] = field(default_factory=dict)

    def new_bytes(self, texts: Sequence[str]) -> int:
        """What these texts would add to the block."""
        new = {text for text in texts if text not in self.places}
        return sum(num_bytes(text) + 1 for text in new)

    def add(self, texts: Sequence[str]) -> list[int]:
        """The places of these texts."""
        return [self.places.setdefault(text, len(self.places)) for text in texts]


def flips_json(table: Table, pairs: Sequence[FlipPair], room: int) -> FlipsJson:
    """All counts, and as many flips as fit into `room` bytes, in the order they are shown in."""
    models = list(dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)))
    places = {name: place for place, name in enumerate(models)}
    features = list(dict.fromkeys(group.feature for pair in pairs for group in pair.groups))
    feature_places = {name: place for place, name in enumerate(features)}
    written = [_pair(pair, places, feature_places) for pair in pairs]
    data = {
        "models": [one_line(name) for name in models],
        "tasks": [one_line(column.label) for column in table.columns],
        "features": [one_line(name) for name in features],
        "texts": [],
        "pairs": written,
    }
    texts = _Texts()
    room -= num_bytes(data)
    reference = next((row.model.name for row in table.rows if row.model.is_reference), None)
    order = in_turns(
        [len(pair.flips) for pair in pairs], [pair.first == reference for pair in pairs]
    )
    num_shown = 0
    for place, position in order:
        flip = pairs[place].flips[position]
        parts = [cut(part) for part in _texts_of(flip)]
        # Four places of at most seven digits, the groups, and what stands between.
        size = texts.new_bytes(parts) + num_bytes([*flip.groups]) + 40
        if size > room:
            break
        room -= size
        written[place]["flips"].append([*texts.add(parts), int(flip.is_gain), [*flip.groups]])
        num_shown += 1
    data["texts"] = list(texts.places)
    total = sum(pair.num_lost + pair.num_gained for pair in pairs)
    return FlipsJson(_encoded(data), num_shown, total)


def num_bytes(value: Any) -> int:
    """What a value takes in the file."""
    return len(_encoded(value).encode("utf-8", "backslashreplace"))


def _encoded(value: Any) -> str:
    # Without "<" no text of an item can end the block or begin a comment in it.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _pair(pair: FlipPair, models: Mapping[str, int], features: Mapping[str, int]) -> dict[str, Any]:
    return {
        "task": pair.column,
        "first": models[pair.first],
        "second": models[pair.second],
        "n": pair.num_items,
        "lost": pair.num_lost,
        "gained": pair.num_gained,
        "groups": [
            [features[g.feature], g.group, g.num_items, g.num_lost, g.num_gained]
            for g in pair.groups
        ],
        "flips": [],
    }


def _texts_of(flip: Flip) -> tuple[str, ...]:
    return flip.prompt, flip.target, flip.first_answer, flip.second_answer
