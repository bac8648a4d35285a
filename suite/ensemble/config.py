"""Several models as one row of a recipe: members, how they are combined, and with which weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, WrapValidator, model_validator

from suite.config import Config, PositiveInt
from suite.models.entry import ChatConfig, ModelConfig, TaskFilter

# Distributions are combined: a backend scores requests with all members.
Scored = Literal["mean_probs", "mean_log_probs", "sequence_mixture", "word_mixture", "mined"]
# The members' own scored items are combined: nothing is scored again.
FromSamples = Literal["majority_vote", "best_member", "best_member_per_task", "any_member_correct"]

FROM_SAMPLES = frozenset({"majority_vote", "best_member", "best_member_per_task"}) | {
    "any_member_correct"
}
DEVELOPED = frozenset({"majority_vote", "best_member"})
LIKELIHOOD_ONLY = frozenset({"word_mixture"})
RENORMALISED = frozenset({"mean_probs", "mean_log_probs", "sequence_mixture"})

# How far written weights may be from summing to 1.
SUM_TOLERANCE = 1e-5


class Development(Config):
    """Items that weights are fitted to and members are chosen by; never the scored ones.

    `task` is the label of a task of the recipe, by default the task being scored. `split` is the
    task's own split of that name; its first `items` items are taken.
    """

    task: str | None = None
    split: Literal["train", "validation", "test"] = "train"
    items: PositiveInt = 100


class FittedWeights(Config):
    """Weights that make the development items most likely, for each task anew."""

    fit: Development = Development()


FixedWeights = tuple[float, ...]


def _weights_form(data: Any, handler: Any) -> Any:
    """One of the four forms, so that a wrong value is compared with all of them at once."""
    if isinstance(data, FittedWeights) or data == "uniform":
        return data
    if isinstance(data, dict) and "fit" in data:
        return FittedWeights.model_validate(data)
    if isinstance(data, dict) and data:
        return {str(label): _numbers(given, f" of task '{label}'") for label, given in data.items()}
    return _numbers(data, "")


def _numbers(data: Any, where: str) -> FixedWeights:
    is_list = isinstance(data, list | tuple) and all(
        isinstance(weight, int | float) and not isinstance(weight, bool) for weight in data
    )
    if not is_list:
        raise ValueError(
            f"{data!r}{where} is none of its forms: uniform, a list of numbers, lists by task, or"
            " fit: {task, split, items}"
        )
    return tuple(float(weight) for weight in data)


Weights = Annotated[
    Literal["uniform"] | FittedWeights | dict[str, FixedWeights] | FixedWeights,
    WrapValidator(_weights_form),
]


def _member_form(data: Any, handler: Any) -> Any:
    if isinstance(data, str | ModelConfig):
        return data
    if isinstance(data, dict) and "ensemble" in data:
        raise ValueError("an ensemble cannot be a member of an ensemble; list its members instead")
    return ModelConfig.model_validate(data)


Member = Annotated[str | ModelConfig, WrapValidator(_member_form)]


class EnsembleConfig(Config):
    """Which models speak as one, and how.

    `members` are names of the recipe's models or whole entries. `posterior_from` says where a
    sequence_mixture begins to learn who predicts best; `renormalise` drops what the members do not
    share instead of keeping it in one bin. `development` is for rows that choose among members.
    """

    members: Annotated[tuple[Member, ...], Field(min_length=1)]
    combine: Scored | FromSamples
    weights: Weights = "uniform"
    posterior_from: Literal["context", "continuation"] = "context"
    renormalise: bool = False
    development: Development = Development()

    @model_validator(mode="after")
    def _members_differ(self) -> EnsembleConfig:
        names = self.member_names
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"members: '{name}' is named twice; give it more weight instead")
        return self

    @model_validator(mode="after")
    def _every_setting_has_an_effect(self) -> EnsembleConfig:
        applies = {
            "weights": self.combine not in FROM_SAMPLES,
            "posterior_from": self.combine == "sequence_mixture",
            "renormalise": self.combine in RENORMALISED,
            "development": self.combine in DEVELOPED,
        }
        for key, has_effect in applies.items():
            if key in self.model_fields_set and not has_effect:
                raise ValueError(f"{key}: no effect on {self.combine}; leave it out")
        return self

    @model_validator(mode="after")
    def _weights_belong_to_members(self) -> EnsembleConfig:
        given = self.weights
        if isinstance(given, tuple):
            _check_weights(given, len(self.members), "")
        elif isinstance(given, dict):
            for label, weights in given.items():
                _check_weights(weights, len(self.members), f" of task '{label}'")
        return self

    @property
    def is_from_samples(self) -> bool:
        """Whether the row follows from its members' scored items."""
        return self.combine in FROM_SAMPLES

    @property
    def member_names(self) -> tuple[str, ...]:
        """The members' names, in order."""
        return tuple(m if isinstance(m, str) else m.name for m in self.members)

    def weights_for(self, label: str) -> FixedWeights | Development:
        """The weights on one task, by its label in the recipe; development items to be fitted to.

        Raises:
            KeyError: There are weights by task, and none for this one.
        """
        if isinstance(self.weights, FittedWeights):
            return self.weights.fit
        if isinstance(self.weights, dict):
            return self.weights[label]
        if isinstance(self.weights, tuple):
            return self.weights
        return (1 / len(self.members),) * len(self.members)


def _check_weights(weights: FixedWeights, num_members: int, where: str) -> None:
    problem = weights_problem(weights, num_members)
    if problem is not None:
        raise ValueError(f"weights{where}: {problem}")


def weights_problem(weights: Sequence[float], num_members: int) -> str | None:
    """Why weights are no distribution over the members; None if they are one."""
    expected = "weights are at least 0 and sum to 1"
    if len(weights) != num_members:
        return f"found {len(weights)} for {num_members} members; give one weight per member"
    for weight in weights:
        if not 0 <= weight < math.inf:
            return f"{weight:g} is not a weight; {expected}"
    total = math.fsum(weights)
    if abs(total - 1) > SUM_TOLERANCE:
        return f"they sum to {total:.8g}; {expected}"
    return None


class EnsembleEntry(Config):
    """A named ensemble. It speaks with its members' chat settings, which have to agree.

    `batch_size` is the number of texts generated at once; `token_budget` the positions that a
    forward pass of one member may hold, by default what the device suggests.
    """

    name: Annotated[str, Field(min_length=1, max_length=80)]
    ensemble: EnsembleConfig
    batch_size: PositiveInt = 16
    token_budget: PositiveInt | None = None
    tasks: TaskFilter = "all"


def common_chat(members: tuple[ModelConfig, ...]) -> ChatConfig:
    """The chat settings that decide how lm-eval builds a prompt; each member renders it itself.

    Raises:
        ValueError: The members differ in them.
    """
    first = members[0].chat
    for member in members[1:]:
        for key in ("system_prompt", "fewshot_as_multiturn", "strip_reasoning"):
            if getattr(member.chat, key) != getattr(first, key):
                raise ValueError(
                    f"members '{members[0].name}' and '{member.name}' differ in chat.{key}; give"
                    " both the same"
                )
        if bool(member.chat.template) != bool(first.template):
            raise ValueError(
                f"members '{members[0].name}' and '{member.name}' differ in chat.template; wrap"
                " all of them or none"
            )
    return first
