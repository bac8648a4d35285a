"""Scores tokens of many texts: what they share is read once, the head sees only what is scored.

The texts form a tree of segments (`prefixes`). It is walked from the start of texts: segments of
one depth are read in batches, then those that follow them, which go on from their caches. Where the
caches that wait become too many, what follows is read first. States wait, too, until they are worth
a pass through the head.

Legend: B rows, T tokens of a batch, K scored tokens of all texts, V entries, D hidden size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suite.engine.batching import TokenBudget, batches
from suite.engine.members import Member, Past
from suite.engine.prefixes import Segment, prefix_tree
from suite.engine.readers import Reader
from suite.engine.requests import TokenRequest
from suite.errors import ModelError, SuiteError, is_out_of_memory

# Numbers of one block of log-probabilities; several such blocks are in memory at a time.
_BLOCK_SIZE = {"cpu": 2**23, "cuda": 2**27}


# The past of a segment: a row of what a batch has left.
_Row = tuple[Past, int]


class NotFiniteError(SuiteError):
    """A member's log-probabilities are not numbers."""

    def __init__(self, member: str, ask: int, request: int) -> None:
        """Name the member, and the request by its place in its list."""
        super().__init__(
            f"member '{member}': log-probabilities of request {request} are not numbers (NaN);"
            " try dtype: float32"
        )
        self.member = member
        self.ask = ask
        self.request = request


@dataclass(frozen=True, eq=False)
class Scored:
    """What a reader kept of the scored tokens of all requests, one behind the other.

    Attributes:
        values: By name, tensors [K, ...] on the CPU.
        offsets: int64, one more than there are requests: where each request's tokens begin.
    """

    values: dict[str, Tensor]
    offsets: NDArray[np.int64]

    def of(self, request: int) -> dict[str, Tensor]:
        """The values of one request's tokens, in the order of its `scored`."""
        own = slice(int(self.offsets[request]), int(self.offsets[request + 1]))
        return {name: values[own] for name, values in self.values.items()}


@dataclass(frozen=True, eq=False)
class Ask:
    """Texts, and what is kept of the distributions at their scored places."""

    requests: Sequence[TokenRequest]
    read: Reader


def score(
    member: Member,
    requests: Sequence[TokenRequest],
    read: Reader,
    *,
    budget: TokenBudget | None = None,
    on_answer: Callable[[int], None] = lambda count: None,
) -> Scored:
    """Read what is wanted at every scored place of all requests.

    Args:
        member: The model.
        requests: Texts and the places in them that are scored.
        read: What is kept of each distribution.
        budget: Halved, and kept so, where memory does not suffice; None for the device's usual.
        on_answer: Told how many more requests are finished.

    Raises:
        NotFiniteError: Log-probabilities are not numbers.
    """
    (scored,) = score_all(member, [Ask(requests, read)], budget=budget, on_answer=on_answer)
    return scored


def score_all(
    member: Member,
    asks: Sequence[Ask],
    *,
    budget: TokenBudget | None = None,
    on_answer: Callable[[int], None] = lambda count: None,
) -> list[Scored]:
    """As `score` for several lists of texts at once: they share what they begin with, too.

    `on_answer` is told of the requests of the first list only.
    """
    walk = _Walk(member, asks, budget or TokenBudget.for_device(member.device), on_answer)
    walk.go()
    return walk.scored


@dataclass(frozen=True, eq=False)
class _Wanted:
    """What one ask wants of the states of one segment: int64 arrays of one length.

    `places` in the segment, the `targets` read there, and `slots` among the ask's scored tokens.
    """

    ask: int
    places: NDArray[np.int64]
    targets: NDArray[np.int64]
    slots: NDArray[np.int64]


class _Walk:
    """One pass over the tree of all requests."""

    def __init__(
        self,
        member: Member,
        asks: Sequence[Ask],
        budget: TokenBudget,
        on_answer: Callable[[int], None],
    ) -> None:
        self.member = member
        self.readers = [ask.read for ask in asks]
        self.budget = budget
        self.on_answer = on_answer
        counts = [np.array([len(r.scored) for r in ask.requests], np.int64) for ask in asks]
        self.scored = [Scored({}, np.concatenate([[0], np.cumsum(own)])) for own in counts]
        self.num_open = counts[0].copy()
        # What stands behind the last scored token need not be read.
        asked = [(n, int(r)) for n in range(len(asks)) for r in np.flatnonzero(counts[n])]
        requests = [asks[n].requests[r] for n, r in asked]
        texts = [request.ids[: request.scored[-1]] for request in requests]
        self.roots, ends = prefix_tree(texts) if texts else ([], [])
        slots = [int(self.scored[n].offsets[r]) for n, r in asked]
        self.wanted = _wanted(requests, ends, slots, [n for n, _ in asked])
        self.block_size = max(
            1, _BLOCK_SIZE.get(member.device.type, 2**23) // max(member.num_entries, 1)
        )
        # Rows that wait for the head, and what is wanted of them.
        self.states: list[Tensor] = []
        self.num_states = 0
        self.found: list[tuple[NDArray[np.int64], _Wanted]] = []

    def go(self) -> None:
        """Read everything."""
        self.on_answer(int((self.num_open == 0).sum()))
        self._read_all(self.roots, {})
        self._flush()

    def _read_all(self, segments: Sequence[Segment], pasts: Mapping[Segment, _Row]) -> None:
        """Read segments of one depth and what follows them; `pasts` has those of their parents."""
        waiting = deque(batches(segments, self.budget))
        following: list[Segment] = []
        held: dict[Segment, _Row] = {}
        num_held = 0
        while waiting:
            batch = waiting.popleft()
            try:
                batch, after = self._read_batch(batch, pasts)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise _too_long(self.member, batch[0]) from error
                self.budget.halve()
                waiting = deque(batches([*batch, *chain.from_iterable(waiting)], self.budget))
                continue
            if self.num_states >= self.block_size:
                self._flush()
            parents = [row for row, segment in enumerate(batch) if segment.children]
            if parents:
                kept = after if len(parents) == len(batch) else after.select(parents)
                for row, place in enumerate(parents):
                    held[batch[place]] = (kept, row)
                    following += batch[place].children
                num_held += len(parents) * int(kept.lengths.max())
            del after
            if following and (num_held > self.budget.num_held or not waiting):
                self._read_all(following, held)
                following, held, num_held = [], {}, 0

    def _read_batch(
        self, batch: list[Segment], pasts: Mapping[Segment, _Row]
    ) -> tuple[list[Segment], Past]:
        """Read one batch and set aside what is scored in it; the batch as it was read, its past."""
        before = None
        if batch[0].parent is not None:
            batch, before = _gathered(batch, pasts)
        lengths = torch.tensor([len(segment.ids) for segment in batch])
        ids = torch.zeros(len(batch), int(lengths.max()), dtype=torch.int64)
        for row, segment in enumerate(batch):
            ids[row, : len(segment.ids)] = torch.from_numpy(segment.ids)
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        states, after = self.member.read(ids, mask, before)
        self._set_aside(batch, states)
        return batch, after

    def _set_aside(self, batch: Sequence[Segment], states: Tensor) -> None:
        """Keep the states [B, T, D] of a batch from which something is scored."""
        found = [
            (row * states.shape[1] + wanted.places, wanted)
            for row, segment in enumerate(batch)
            for wanted in self.wanted.get(segment, ())
        ]
        if not found:
            return
        # Several tokens may be predicted from one place: it passes the head once.
        distinct = np.unique(np.concatenate([places for places, _ in found]))
        flat = states.reshape(-1, states.shape[-1])
        rows = flat[torch.from_numpy(distinct).to(states.device)]
        self.found += [
            (self.num_states + np.searchsorted(distinct, places), wanted)
            for places, wanted in found
        ]
        self.states.append(rows)
        self.num_states += len(rows)

    def _flush(self) -> None:
        """Take the states that wait through the head, a block at a time, and read from them."""
        states, found = self.states, self.found
        self.states, self.found, self.num_states = [], [], 0
        if not states:
            return
        rows = torch.cat(states)
        first = 0
        while first < len(rows):
            stop = min(first + self.block_size, len(rows))
            try:
                log_probs = self.member.log_probs(rows[first:stop])
                for ask, reader in enumerate(self.readers):
                    own = [(places, wanted) for places, wanted in found if wanted.ask == ask]
                    self._read_block(ask, reader, own, np.arange(first, stop), log_probs)
            except Exception as error:
                if self.block_size == 1 or not is_out_of_memory(error):
                    raise
                self.block_size //= 2
                continue
            first = stop

    def _read_block(
        self,
        ask: int,
        reader: Reader,
        found: Sequence[tuple[NDArray[np.int64], _Wanted]],
        block: NDArray[np.int64],
        log_probs: Tensor,
    ) -> None:
        """Let one reader read what is wanted at the places of a block."""
        if not found:
            return
        places = np.concatenate([places for places, _ in found])
        here = (places >= block[0]) & (places <= block[-1])
        if not here.any():
            return
        targets = np.concatenate([wanted.targets for _, wanted in found])[here]
        slots = np.concatenate([wanted.slots for _, wanted in found])[here]
        rows = places[here] - block[0]
        device = log_probs.device
        values = reader(
            log_probs, torch.from_numpy(rows).to(device), torch.from_numpy(targets).to(device)
        )
        self._store(ask, slots, {name: found.cpu() for name, found in values.items()})

    def _store(self, ask: int, slots: NDArray[np.int64], values: dict[str, Tensor]) -> None:
        scored = self.scored[ask]
        owner = np.searchsorted(scored.offsets, slots, side="right") - 1
        is_nan = values["token"].isnan()
        if bool(is_nan.any()):
            raise NotFiniteError(self.member.name, ask, int(owner[int(is_nan.nonzero()[0, 0])]))
        index = torch.from_numpy(slots)
        for name, found in values.items():
            if name not in scored.values:
                size = int(scored.offsets[-1])
                scored.values[name] = torch.empty((size, *found.shape[1:]), dtype=found.dtype)
            scored.values[name][index] = found
        if ask == 0:
            owners, counts = np.unique(owner, return_counts=True)
            self.num_open[owners] -= counts
            num_finished = int((self.num_open[owners] == 0).sum())
            if num_finished:
                self.on_answer(num_finished)


def _gathered(batch: list[Segment], pasts: Mapping[Segment, _Row]) -> tuple[list[Segment], Past]:
    """A batch in the order of its parents' pasts, and these as one."""
    groups: dict[int, tuple[Past, list[Segment], list[int]]] = {}
    for segment in batch:
        assert segment.parent is not None
        past, row = pasts[segment.parent]
        _, segments, rows = groups.setdefault(id(past), (past, [], []))
        segments.append(segment)
        rows.append(row)
    parts = [past.select(rows) for past, _, rows in groups.values()]
    ordered = [segment for _, segments, _ in groups.values() for segment in segments]
    return ordered, parts[0].join(parts[1:]) if len(parts) > 1 else parts[0]


def _too_long(member: Member, segment: Segment) -> ModelError:
    return ModelError(
        f"member '{member.name}': a text of {segment.start + len(segment.ids):,} tokens does not"
        " fit into memory; lower max_length"
    )


def _wanted(
    requests: Sequence[TokenRequest],
    ends: Sequence[Segment],
    slots: Sequence[int],
    asks: Sequence[int],
) -> dict[Segment, list[_Wanted]]:
    """What is wanted of each segment's states; `slots` says where each request's tokens begin."""
    lists: dict[tuple[Segment, int], list[tuple[int, int, int]]] = {}
    for request, end, slot, ask in zip(requests, ends, slots, asks, strict=True):
        for number, place in enumerate(request.scored):
            segment, inside = end.at(int(place) - 1)
            target = int(request.targets[number])
            lists.setdefault((segment, ask), []).append((inside, target, slot + number))
    wanted: dict[Segment, list[_Wanted]] = {}
    for (segment, ask), found in lists.items():
        columns = np.array(found, np.int64).reshape(-1, 3).T.copy()
        wanted.setdefault(segment, []).append(_Wanted(ask, *columns))
    return wanted
