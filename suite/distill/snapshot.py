"""A run's tensors and random states, taken whole and put back, however the student is shared."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from suite.distill.state import SavedTensors
from suite.distill.student import Student

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def take_tensors(student: Student, optimiser: torch.optim.Optimizer) -> SavedTensors:
    """The optimiser's moments and the losses' state, on the processor.

    Where the student is cut over processes, all of them must call it.
    """
    moments = {
        f"{kind}/{name}": _whole(optimiser.state[parameter][kind])
        for name, parameter in student.named_parameters()
        if parameter in optimiser.state
        for kind in _MOMENTS
    }
    # One that is missing would be missed only by the run that goes on.
    assert len(moments) == len(_MOMENTS) * len(optimiser.state)
    losses = {name: _whole(value) for name, value in student.losses.state_dict().items()}
    return SavedTensors(moments, losses)


def restore_tensors(
    student: Student, optimiser: torch.optim.Optimizer, saved: SavedTensors
) -> None:
    """Put back what `take_tensors` took, in place."""
    for name, parameter in student.named_parameters():
        if f"step/{name}" in saved.optimiser:
            # The count of steps stays on the processor, as the optimiser itself keeps it.
            optimiser.state[parameter] = {
                kind: value.clone() if kind == "step" else _like(value, parameter)
                for kind in _MOMENTS
                for value in (saved.optimiser[f"{kind}/{name}"],)
            }
    own = dict(student.losses.state_dict(keep_vars=True))
    with torch.no_grad():
        for name, value in saved.losses.items():
            own[name].copy_(_like(value, own[name]))


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's state on the processor; all processes must call it where it is cut over them."""
    return {name: _whole(value) for name, value in model.state_dict().items()}


def random_state(device: torch.device) -> dict[str, str]:
    """The states of the generators that training draws from, as text."""
    found = {"cpu": _text(torch.get_rng_state())}
    if device.type == "cuda":
        found["cuda"] = _text(torch.cuda.get_rng_state(device))
    return found


def restore_random_state(saved: Mapping[str, Any], device: torch.device) -> None:
    """Put back what `random_state` gave."""
    torch.set_rng_state(_tensor(saved["cpu"]))
    if device.type == "cuda" and "cuda" in saved:
        torch.cuda.set_rng_state(_tensor(saved["cuda"]), device)


def _whole(value: Tensor) -> Tensor:
    value = value.detach()
    whole = value.full_tensor() if isinstance(value, DTensor) else value
    return whole.to("cpu", copy=True)


def _like(value: Tensor, place: Tensor) -> Tensor:
    """A whole tensor as it lies on this process."""
    value = value.to(place.device)
    if isinstance(place, DTensor):
        return distribute_tensor(value, place.device_mesh, place.placements)
    return value


def _text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _tensor(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
