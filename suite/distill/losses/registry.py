"""All losses by name, and the list of them in a recipe."""

from __future__ import annotations

from typing import Any

from suite.config import parse_config
from suite.distill.losses.alm import AlmConfig
from suite.distill.losses.contract import LossConfig
from suite.distill.losses.hidden_state import HiddenStateConfig
from suite.distill.losses.permuted import AlmPermutedConfig
from suite.distill.losses.sft import SftConfig
from suite.errors import ConfigError

LOSSES: dict[str, type[LossConfig]] = {
    "alm": AlmConfig,
    "alm_permuted": AlmPermutedConfig,
    "hidden_state": HiddenStateConfig,
    "sft": SftConfig,
}


def parse_losses(data: Any, where: str, *, teacher_is_stored: bool) -> tuple[LossConfig, ...]:
    """The losses of a recipe.

    Args:
        data: Plain data, one mapping with the key `name` for each loss.
        where: The file, for messages.
        teacher_is_stored: Whether the teacher is a cache of two numbers a token.

    Raises:
        ConfigError: The list is empty or names a loss twice, or an entry is wrong or needs more
            than a stored teacher has.
    """
    if not isinstance(data, list) or not data:
        found = "an empty one" if isinstance(data, list) else type(data).__name__
        raise ConfigError(f"{where}: losses should be a list of losses, found {found}; {_known()}")
    losses: list[LossConfig] = []
    for number, entry in enumerate(data):
        place = f"{where}: losses[{number}]"
        loss = parse_config(_kind(entry, place), entry, place)
        if loss.name in [other.name for other in losses]:
            raise ConfigError(f"{place}: {loss.name} is listed twice; keep one of the two")
        if teacher_is_stored and not loss.needs.stored_teacher_suffices:
            missing = "hidden states" if loss.needs.teacher_hidden else "output embedding"
            raise ConfigError(
                f"{place}: {loss.name} needs the teacher's {missing}, and a stored teacher is only"
                " two numbers a token; use a live teacher, or leave the loss out"
            )
        losses.append(loss)
    return tuple(losses)


def _kind(entry: Any, place: str) -> type[LossConfig]:
    if not isinstance(entry, dict):
        raise ConfigError(f"{place}: expected keys and values, found {type(entry).__name__}")
    if "name" not in entry:
        raise ConfigError(f"{place}: name is missing; {_known()}")
    name = entry["name"]
    if not isinstance(name, str) or name not in LOSSES:
        raise ConfigError(f"{place}: no loss is named {name!r}; {_known()}")
    return LOSSES[name]


def _known() -> str:
    return f"known: {', '.join(sorted(LOSSES))}"
