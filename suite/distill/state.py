"""Where a training run is: everything that a run which goes on must know beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from suite.text.corpus import Position


@dataclass(frozen=True)
class DataPlace:
    """Behind the rows read so far.

    Attributes:
        position: The corpus position to read on from.
        token: The teacher token to go on with in the first document from there.
        row: Rows of this epoch before it; a stored teacher counts by them.
    """

    position: Position = field(default_factory=Position)
    token: int = 0
    row: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DataPlace:
        """From `to_json`."""
        return cls(Position(**data["position"]), data["token"], data["row"])


@dataclass(frozen=True)
class TrainingState:
    """The part of a run that fits into JSON.

    Attributes:
        step: Optimiser steps done.
        place: Where to read on.
        num_bytes: Bytes of text trained on so far, over all processes.
        num_teacher_tokens: Teacher tokens of these.
        num_student_tokens: Student tokens of these.
        gradient_norms: Of each loss at the step before, for `gradmag`; empty otherwise.
        weights: What each loss was multiplied with at the step before.
        best_step: The step with the lowest held-out value so far; None before the first.
        best_value: That value.
        random_states: Of each process, the states of its random generators.
    """

    step: int = 0
    place: DataPlace = field(default_factory=DataPlace)
    num_bytes: int = 0
    num_teacher_tokens: int = 0
    num_student_tokens: int = 0
    gradient_norms: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    best_step: int | None = None
    best_value: float | None = None
    random_states: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainingState:
        """From `to_json`."""
        return cls(
            **{
                **data,
                "place": DataPlace.from_json(data["place"]),
                "random_states": tuple(data["random_states"]),
            }
        )


@dataclass(frozen=True, eq=False)
class SavedTensors:
    """The part of a run that does not fit into JSON, whole and on the processor.

    Attributes:
        optimiser: `exp_avg/NAME` and `exp_avg_sq/NAME` of every trained parameter.
        losses: State of the losses: a projection, the normaliser of hidden states.
    """

    optimiser: Mapping[str, Tensor]
    losses: Mapping[str, Tensor]
