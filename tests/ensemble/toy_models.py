"""Language models that are tables: every text can be enumerated, every probability looked up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suite.text.encoding import Role
from suite.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class ToyModel:
    """A model over `num_tokens` regular tokens and the end, which is forced at the horizon.

    The row after a history is drawn from a Dirichlet distribution by a generator that is seeded
    with the history, so it depends on all of it.
    """

    seed: int
    num_tokens: int = 3
    horizon: int = 4
    concentration: float = 0.7

    @property
    def end(self) -> int:
        return self.num_tokens

    def probs(self, history: Sequence[int]) -> NDArray[np.float64]:
        """p(next | history), [num_tokens + 1], the end last."""
        return _probs(self, tuple(history))

    def log_probs(self, history: Sequence[int]) -> Tensor:
        """float64 [num_tokens + 1]; -inf for what is impossible."""
        return torch.from_numpy(self.probs(history)).log()

    def rows(self, tokens: Sequence[int]) -> Tensor:
        """The row that predicts each token of a text, float64 [T, num_tokens + 1]."""
        return torch.stack([self.log_probs(tokens[:place]) for place in range(len(tokens))])

    def token_log_probs(self, tokens: Sequence[int]) -> Tensor:
        """float64 [T]."""
        return self.rows(tokens)[torch.arange(len(tokens)), list(tokens)]

    @cached_property
    def texts(self) -> tuple[tuple[int, ...], ...]:
        """Every complete text, its end included."""
        return tuple(complete_texts(self.num_tokens, self.horizon))

    def prob_of_prefix(self, prefix: Sequence[int]) -> float:
        """Mass of the complete texts that begin with a prefix, by enumeration."""
        fitting = [text for text in self.texts if text[: len(prefix)] == tuple(prefix)]
        return sum(float(np.exp(float(self.token_log_probs(text).sum()))) for text in fitting)


@lru_cache(maxsize=4096)
def _probs(model: ToyModel, history: tuple[int, ...]) -> NDArray[np.float64]:
    if len(history) >= model.horizon:
        return np.eye(model.num_tokens + 1)[model.end]
    random = np.random.default_rng([model.seed, len(history), *history])
    return random.dirichlet(np.full(model.num_tokens + 1, model.concentration))


def complete_texts(num_tokens: int, horizon: int) -> Iterator[tuple[int, ...]]:
    """All texts of at most `horizon` tokens, each with the end behind it."""
    for length in range(horizon + 1):
        for tokens in itertools.product(range(num_tokens), repeat=length):
            yield (*tokens, num_tokens)


def toy_vocabulary(
    entries: Sequence[bytes | Role], added: Sequence[int] = (), fallback: Sequence[int] = ()
) -> Vocabulary:
    """A vocabulary by the bytes or the role of its entries; empty bytes are a dead entry."""
    roles = [entry if isinstance(entry, Role) else Role.REGULAR for entry in entries]
    special = [place for place, role in enumerate(roles) if role != Role.REGULAR]
    places = np.arange(len(entries))
    return Vocabulary(
        token_bytes=tuple(entry if isinstance(entry, bytes) else b"" for entry in entries),
        special={place: f"<{place}>" for place in special},
        roles=np.array(roles, np.uint8),
        is_dead=np.array([entry == b"" for entry in entries], np.bool_),
        is_added=np.isin(places, [*added, *special]),
        is_fallback=np.isin(places, list(fallback)),
    )
