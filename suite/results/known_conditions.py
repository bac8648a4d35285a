"""The conditions that count for one score, each under a name of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from suite.records import RunRecord
from suite.results.scored import Scored
from suite.results.task_definition import ARGUMENTS, PROMPT_PARTS

_DEFINITION = "task definition"
# Items tell better than names which data was used.
_OF_DATA = frozenset({"data set", "split"})
# What stands between prompt and option counts for an option's length.
_BY_LENGTH = frozenset({"acc_norm", "acc_bytes"})


def conditions_for(scored: Scored, *, has_items: bool) -> dict[str, Any]:
    """The conditions of a score by name, with the parts of the task's definition among them.

    Args:
        scored: The run and the score.
        has_items: Whether both sides of a comparison have items.
    """
    known = plain_conditions(scored.record)
    own = f"{ARGUMENTS}{scored.score.metric}"
    return {
        name: value
        for name, value in known.items()
        if not (has_items and name in _OF_DATA) and (name == own or not name.startswith(ARGUMENTS))
    }


def plain_conditions(record: RunRecord) -> dict[str, Any]:
    """The task and all conditions of a run by name, the parts of its definition among them."""
    known = {"task": record.task.task, **record.conditions}
    definition = known.get(_DEFINITION)
    if isinstance(definition, Mapping):
        del known[_DEFINITION]
        known |= definition
    return known


def decides_prompts(condition: str, metric: str) -> bool:
    """Whether a condition says nothing more where the prompts are known."""
    return condition in PROMPT_PARTS and not (
        condition == "target_delimiter" and metric in _BY_LENGTH
    )
