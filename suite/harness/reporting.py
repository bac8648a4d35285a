"""What our backends share beside scoring: progress, counts, facts, and their place among ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from lm_eval.api.model import LM
from torch import Tensor

from suite.harness.sharding import Ranks, in_document_order


class ReportingBackend(LM):  # type: ignore[misc]
    """A backend of ours.

    Attributes:
        source_name: What results files call the kind of backend.
        tokenizer: The tokenizer by which items' features are counted.
        facts: What goes into the results file about the model.
        num_truncated: Requests whose prompt was cut to fit.
        num_boundary_moves: Requests where a token spans the border of prompt and continuation; with
            `hf` only those whose whole continuation lies in it.
    """

    source_name: ClassVar[str]
    tokenizer: Any
    facts: dict[str, Any]
    num_truncated: int
    num_boundary_moves: int

    def start_reporting(self, device: torch.device) -> None:
        """Set counts to 0 and join the other ranks; every constructor calls it."""
        self.facts = {}
        self._on_start: Callable[[int], None] = lambda total: None
        self._on_answer: Callable[[], None] = lambda: None
        self._ranks = Ranks(device)
        self.reset_counts()

    def reset_counts(self) -> None:
        """Count anew, for another task."""
        self.num_truncated = 0
        self.num_boundary_moves = 0

    def report_to(self, on_start: Callable[[int], None], on_answer: Callable[[], None]) -> None:
        """Have `on_start` told how many requests come, and `on_answer` called for each answer."""
        self._on_start = on_start
        self._on_answer = on_answer

    def set_batch_size(self, batch_size: int) -> None:
        """Score what follows with this batch size."""
        raise NotImplementedError

    @property
    def rank(self) -> int:
        """Which of the processes that share the evaluation this one is."""
        return self._ranks.rank

    @property
    def world_size(self) -> int:
        """How many processes share the evaluation."""
        return self._ranks.world_size

    def all_gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks behind each other."""
        return self._ranks.all_gather(tensor)

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """What all ranks found, on rank 0, in the order of the documents; None elsewhere."""
        found = self._ranks.gather_object(obj)
        return found if found is None or len(found) == 1 else in_document_order(found)

    def barrier(self) -> None:
        """Wait for all ranks."""
        self._ranks.barrier()

    def total_counts(self) -> tuple[int, int]:
        """Truncated requests and moved borders of all ranks; complete on rank 0."""
        own = torch.tensor([[self.num_truncated, self.num_boundary_moves]])
        truncated, moves = self._ranks.all_gather(own).sum(dim=0).tolist()
        return int(truncated), int(moves)
