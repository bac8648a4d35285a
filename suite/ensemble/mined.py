"""Vocabularies mapped by minimum edit distance: the baseline for members that share no tokens.

Each token of the first member, the pivot, takes the probability of the most similar entry of every
other member; each member is then renormalised. Many tokens may take the same entry, so this is no
distribution that the member assigns to texts, and no `other` mass is left.

Edit distances are Levenshtein's over bytes; rapidfuzz reads them as Latin-1, one character a byte.

Legend: V entries of a member, N regular tokens of the pivot, O = N + 2 outcomes.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist
from torch import Tensor

from suite.ensemble.outcomes import MemberVocabulary, OutcomeSpace, entries_by_bytes
from suite.models.cache import cached_folder

# Part of the key of a stored map: raised when another map is made of the same entries.
_VERSION = 1
_BLOCK_PAIRS = 1 << 25

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class MinedMap:
    """Where a member's probabilities of the pivot's outcomes come from.

    Attributes:
        id_of: The member's entry for each token of the pivot. int64 [N]
        end_ids: Its entries that end a text. int64 [number of them]
    """

    id_of: Tensor
    end_ids: Tensor

    def to_outcomes(self, log_probs: Tensor) -> Tensor:
        """Log-probabilities of the pivot's outcomes, renormalised; `other` is empty.

        Args:
            log_probs: [..., V].

        Returns:
            [..., O], in the same dtype.
        """
        num_tokens = len(self.id_of)
        outcomes = log_probs.new_full((*log_probs.shape[:-1], num_tokens + 2), -torch.inf)
        outcomes[..., :num_tokens] = log_probs.index_select(-1, self.id_of)
        outcomes[..., num_tokens] = log_probs[..., self.end_ids].logsumexp(-1)
        return outcomes.log_softmax(-1)

    def ending_too(self, ids: Sequence[int]) -> MinedMap:
        """The same map, where these entries without bytes end a text as well."""
        ends = sorted({*self.end_ids.tolist(), *ids})
        return MinedMap(self.id_of, self.end_ids.new_tensor(ends))

    def to(self, device: torch.device) -> MinedMap:
        """The same map for log-probabilities on another device."""
        return MinedMap(self.id_of.to(device), self.end_ids.to(device))


def mined_outcomes(
    pivot: MemberVocabulary,
    others: Sequence[MemberVocabulary],
    on_progress: OnProgress | None = None,
) -> tuple[OutcomeSpace, tuple[MinedMap, ...]]:
    """The pivot's tokens as outcomes, and a map for the pivot and each of the others.

    Maps between vocabularies are kept in the cache, by the bytes of their entries.

    Args:
        pivot: The member whose tokens a text is made of.
        others: The other members.
        on_progress: Called with the tokens mapped so far and their number, if a map must be made.
    """
    own = entries_by_bytes(pivot)
    tokens = tuple(own)
    maps = [_mined_map(pivot, np.fromiter(own.values(), np.int64, len(own)))]
    for member in others:
        entries = entries_by_bytes(member)
        nearest = _stored_nearest(tokens, tuple(entries), on_progress)
        maps.append(_mined_map(member, np.fromiter(entries.values(), np.int64)[nearest]))
    return OutcomeSpace(tokens), tuple(maps)


def _mined_map(member: MemberVocabulary, id_of: NDArray[np.int64]) -> MinedMap:
    end_ids = [id for id in member.end_ids if id < member.num_entries]
    return MinedMap(torch.from_numpy(id_of), torch.tensor(end_ids, dtype=torch.int64))


def _stored_nearest(
    queries: tuple[bytes, ...], choices: tuple[bytes, ...], on_progress: OnProgress | None
) -> NDArray[np.int64]:
    digest = hashlib.sha256(f"{_VERSION} {len(queries)} {len(choices)}".encode())
    for entry in (*queries, *choices):
        digest.update(len(entry).to_bytes(4, "little") + entry)
    build = partial(_store_nearest, queries, choices, on_progress)
    folder = cached_folder("mined", digest.hexdigest()[:32], build)
    nearest: NDArray[np.int64] = np.load(folder / "nearest.npy", allow_pickle=False)
    return nearest


def _store_nearest(
    queries: tuple[bytes, ...],
    choices: tuple[bytes, ...],
    on_progress: OnProgress | None,
    folder: Path,
) -> dict[str, Any]:
    np.save(folder / "nearest.npy", nearest_entries(queries, choices, on_progress))
    return {"num_queries": len(queries), "num_choices": len(choices)}


def nearest_entries(
    queries: Sequence[bytes], choices: Sequence[bytes], on_progress: OnProgress | None = None
) -> NDArray[np.int64]:
    """The place in `choices` of the entry with the smallest edit distance to each query.

    Of several the first. A distance is at least the difference of the lengths, so choices are
    searched by length, from the query's own outwards, as long as a length can still win or tie.

    Args:
        queries: Byte strings.
        choices: Byte strings, each once.
        on_progress: Called with the number of queries done, and of all.
    """
    place_of = {entry: place for place, entry in enumerate(choices)}
    nearest = np.array([place_of.get(query, -1) for query in queries], np.int64)
    pools = _Pools(choices)
    by_length: dict[int, list[int]] = defaultdict(list)
    for place in np.flatnonzero(nearest < 0).tolist():
        by_length[len(queries[place])].append(place)
    num_done = len(queries) - sum(map(len, by_length.values()))
    for length, places in by_length.items():
        block = max(1, _BLOCK_PAIRS // pools.largest)
        for start in range(0, len(places), block):
            some = places[start : start + block]
            nearest[some] = pools.search([queries[place] for place in some], length)
            num_done += len(some)
            if on_progress:
                on_progress(num_done, len(queries))
    return nearest


class _Pools:
    """Choices by their length in bytes."""

    def __init__(self, choices: Sequence[bytes]) -> None:
        places: dict[int, list[int]] = defaultdict(list)
        for place, entry in enumerate(choices):
            places[len(entry)].append(place)
        self._places = {length: np.array(group) for length, group in places.items()}
        self._entries = {
            length: [choices[place].decode("latin-1") for place in group]
            for length, group in places.items()
        }
        self.largest = max(map(len, places.values()))

    def search(self, queries: list[bytes], length: int) -> NDArray[np.int64]:
        """The nearest choice of each query; all queries have the same length."""
        texts = [query.decode("latin-1") for query in queries]
        best = np.full(len(queries), np.iinfo(np.int32).max, np.int64)
        nearest = np.full(len(queries), -1, np.int64)
        for pool in sorted(self._places, key=lambda own: abs(own - length)):
            open_queries = np.flatnonzero(best >= abs(pool - length))
            if not len(open_queries):
                break
            distances, places = self._in_pool([texts[place] for place in open_queries], pool)
            wins = distances < best[open_queries]
            wins |= (distances == best[open_queries]) & (places < nearest[open_queries])
            best[open_queries[wins]] = distances[wins]
            nearest[open_queries[wins]] = places[wins]
        return nearest

    def _in_pool(self, texts: list[str], pool: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The smallest distance of each text to choices of one length, and the first of these."""
        table = cdist(
            texts, self._entries[pool], scorer=Levenshtein.distance, dtype=np.uint16, workers=-1
        )
        first = table.argmin(axis=1)
        return table[np.arange(len(texts)), first].astype(np.int64), self._places[pool][first]
