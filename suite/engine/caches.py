"""What a transformers model remembers of the texts it has read, one row a text.

Legend: B rows, S places of the cache, H heads, d size of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class KeyValuePast:
    """Keys and values of every layer. Nothing is changed in place, so a past can be read twice.

    The tokens of a row stand at neighbouring places. Padding before them comes from `select`,
    padding behind them from reading rows of unequal length.

    Attributes:
        layers: Keys and values of each layer, both [B, H, S, d].
        starts: int64 [B] on the CPU, the first place of each row's tokens.
        lengths: int64 [B] on the CPU, how many tokens each row has read.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    starts: Tensor
    lengths: Tensor

    @property
    def num_places(self) -> int:
        """Places S of the cache, padding included."""
        return int(self.layers[0][0].shape[-2])

    @property
    def is_compact(self) -> bool:
        """Whether all rows end at the last place, as reading on needs it."""
        return bool((self.starts + self.lengths == self.num_places).all())

    def select(self, rows: Sequence[int]) -> KeyValuePast:
        """Copies of some rows, in this order, that end at one place.

        Sliding windows count places, so there must be no padding between a row's tokens and those
        it reads next.

        Args:
            rows: Which rows; one may be named several times.
        """
        wanted = torch.tensor(rows, dtype=torch.int64)
        starts, lengths = self.starts[wanted], self.lengths[wanted]
        size = int(lengths.max())
        if bool((lengths == size).all()) and bool((starts == starts[0]).all()):
            place = slice(int(starts[0]), int(starts[0]) + size)
            if list(rows) == list(range(len(self.lengths))):
                layers = tuple((k[:, :, place], v[:, :, place]) for k, v in self.layers)
            else:
                index = wanted.to(self.layers[0][0].device)
                layers = tuple((k[index, :, place], v[index, :, place]) for k, v in self.layers)
            return KeyValuePast(layers, torch.zeros_like(starts), lengths)
        # What stands in the padding is masked, but must be numbers: the row's first token.
        places = (torch.arange(size) - (size - lengths)[:, None]).clamp(min=0) + starts[:, None]
        device = self.layers[0][0].device
        index, places = wanted[:, None].to(device), places.to(device)
        # Indices around a slice come first: [B, S, H, d].
        layers = tuple(
            (k[index, :, places].transpose(1, 2), v[index, :, places].transpose(1, 2))
            for k, v in self.layers
        )
        return KeyValuePast(layers, size - lengths, lengths)

    def join(self, others: Sequence[KeyValuePast]) -> KeyValuePast:
        """The rows of several compact pasts behind each other."""
        pasts = [self, *others]
        size = max(past.num_places for past in pasts)
        layers = []
        for number in range(len(self.layers)):
            own = [past.layers[number] for past in pasts]
            keys, values = (torch.cat([_widened(part[i], size) for part in own]) for i in (0, 1))
            layers.append((keys, values))
        lengths = torch.cat([past.lengths for past in pasts])
        return KeyValuePast(tuple(layers), size - lengths, lengths)

    def mask(self) -> Tensor | None:
        """Bool [B, S] on the CPU, False at padding before the tokens; None if there is none."""
        if not bool(self.starts.any()):
            return None
        return torch.arange(self.num_places) >= self.starts[:, None]


def _widened(states: Tensor, size: int) -> Tensor:
    """[B, H, S, d] -> [B, H, size, d], zeros in front."""
    return torch.nn.functional.pad(states, (0, 0, size - states.shape[2], 0))


def open_cache(past: KeyValuePast | None) -> Any:
    """A cache of transformers that starts with a past and leaves it as it is.

    Every layer keeps all places, also those behind a sliding window, which the attention mask cuts
    off: a layer that forgets could not be selected from.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    cache = DynamicCache()
    for keys, values in past.layers if past is not None else ():
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def close_cache(cache: Any, past: KeyValuePast | None, num_new: Tensor) -> KeyValuePast:
    """The past after reading.

    Args:
        cache: From `open_cache`, after the model has read.
        past: What it was opened with.
        num_new: int64 [B] on the CPU, new tokens of each row.
    """
    layers = tuple((layer.keys, layer.values) for layer in cache.layers)
    if past is None:
        return KeyValuePast(layers, torch.zeros_like(num_new), num_new)
    return KeyValuePast(layers, past.starts, past.lengths + num_new)
