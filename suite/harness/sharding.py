"""Processes that share one evaluation: torchrun or accelerate starts them, each takes some items.

lm-eval's evaluator deals the documents out in turn, one to each rank, and collects what came of
them on rank 0.
"""

from __future__ import annotations

import os
from datetime import timedelta
from itertools import chain, zip_longest
from typing import Any

import torch
from torch import Tensor, distributed

# One rank may score for hours while the others wait for it.
_PATIENCE = timedelta(weeks=1)
_MISSING = object()


class Ranks:
    """This process's place among those that share an evaluation.

    Attributes:
        rank: Which one it is; 0 collects the results.
        world_size: How many there are.
        device: Where tensors must lie that are sent to the others.
    """

    def __init__(self, device: torch.device) -> None:
        """Join the others, if the environment says that there are any.

        Args:
            device: Where this process computes.
        """
        self.rank = int(os.environ.get("RANK", "0"))
        self.world_size = int(os.environ.get("WORLD_SIZE", "1"))
        self.device = device
        if self.world_size > 1 and not distributed.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            distributed.init_process_group(backend, timeout=_PATIENCE)
        if self.world_size > 1 and distributed.get_backend() == "gloo":
            self.device = torch.device("cpu")

    def all_gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks behind each other; a scalar counts as one number."""
        if self.world_size == 1:
            return tensor
        own = tensor.to(self.device).reshape(-1, *tensor.shape[1:])
        found = [torch.empty_like(own) for _ in range(self.world_size)]
        distributed.all_gather(found, own)
        return torch.cat(found)

    def gather_object(self, item: Any) -> list[Any] | None:
        """The items of all ranks on rank 0, None on the others."""
        if self.world_size == 1:
            return [item]
        found: list[Any] | None = [None] * self.world_size if self.rank == 0 else None
        distributed.gather_object(item, found, dst=0)
        return found

    def barrier(self) -> None:
        """Wait for all others."""
        if self.world_size > 1:
            distributed.barrier()


def in_document_order(items: list[Any]) -> list[Any]:
    """What lm-eval collects from its ranks, with the values of one document after those before it.

    lm-eval joins what each rank found; means do not care, but its bootstrapped errors do.

    Args:
        items: For each rank, lists of values by metric by task, or of samples by task.

    Returns:
        One such item with all values.
    """
    return [_interleaved(items)]


def _interleaved(items: list[Any]) -> Any:
    if isinstance(items[0], dict):
        return {key: _interleaved([item[key] for item in items]) for key in items[0]}
    if items[0] and isinstance(items[0][0], dict) and "doc_id" in items[0][0]:
        samples = list(chain.from_iterable(items))
        filters = list(dict.fromkeys(sample["filter"] for sample in samples))
        return sorted(samples, key=lambda s: (filters.index(s["filter"]), s["doc_id"]))
    turns = chain.from_iterable(zip_longest(*items, fillvalue=_MISSING))
    return [value for value in turns if value is not _MISSING]
