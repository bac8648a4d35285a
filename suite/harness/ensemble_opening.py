"""From members to an ensemble: shared or mined outcomes, or words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from suite.config import parse_config, read_yaml
from suite.engine.batching import TokenBudget
from suite.engine.ensembles import Ensemble, Participant
from suite.engine.outcome_readers import OutcomeReading
from suite.ensemble.combine import COMBINERS
from suite.ensemble.config import Development, EnsembleConfig, FittedWeights, common_chat
from suite.ensemble.mined import mined_outcomes
from suite.ensemble.outcomes import MemberVocabulary, OutcomeMap, OutcomeSpace, shared_outcomes
from suite.ensemble.weights import check_weights
from suite.errors import ConfigError
from suite.harness.contract import EngineOptions
from suite.harness.ensemble_scores import KeptStore
from suite.harness.opening import Arguments, OpenedModel, open_entry, own_device
from suite.harness.shared_scorer import SharedScorer
from suite.harness.shared_texts import NO_OUTCOME, Reading
from suite.harness.word_scorer import WordScorer
from suite.models.entry import ModelConfig, absolute_model


@dataclass(frozen=True, eq=False)
class OpenedEnsemble:
    """Members in memory, and how they are combined.

    Attributes:
        name: What messages and results call it.
        members: The members.
        combine: The rule: a token-level one, `mined` or `word_mixture`.
        weights: Of each member.
        posterior_from: As `EnsembleConfig`.
        renormalise: As `EnsembleConfig`.
    """

    name: str
    members: tuple[OpenedModel, ...]
    combine: str
    weights: tuple[float, ...]
    posterior_from: Literal["context", "continuation"] = "context"
    renormalise: bool = False

    def __post_init__(self) -> None:
        check_weights(self.weights, len(self.members), self.name)


def configured(
    name: str, members: Sequence[OpenedModel], config: EnsembleConfig, label: str
) -> OpenedEnsemble:
    """A recipe's ensemble for the task of this label; even weights where they are to be fitted.

    Raises:
        ConfigError: The weights do not belong to the members, or to the task.
    """
    try:
        weights = config.weights_for(label)
    except KeyError:
        raise ConfigError(
            f"ensemble '{name}': there are weights by task, and none for '{label}'; add them"
        ) from None
    if isinstance(weights, Development):
        weights = (1 / len(members),) * len(members)
    # Written weights may be rounded: thirds have few digits.
    total = sum(weights)
    return OpenedEnsemble(
        name,
        tuple(members),
        config.combine,
        tuple(weight / total for weight in weights),
        config.posterior_from,
        config.renormalise,
    )


def make_scorer(
    opened: OpenedEnsemble, options: EngineOptions, store: KeptStore | None
) -> SharedScorer | WordScorer:
    """What scores an ensemble's requests.

    Raises:
        ConfigError: The members' vocabularies cannot be combined so.
    """
    members, protocol = opened.members, options.protocol
    budgets = [TokenBudget.for_device(own.member.device, options.token_budget) for own in members]
    if opened.combine == "word_mixture":
        return WordScorer(opened.name, members, opened.weights, protocol, budgets)
    vocabularies = [_vocabulary(opened, own) for own in members]
    space, maps, outcome_of = _outcomes(opened.combine, vocabularies)
    participants = tuple(
        Participant(own.member, own.text, outcomes)
        for own, outcomes in zip(members, _placed(members, maps), strict=True)
    )
    is_mined = opened.combine == "mined"
    ensemble = Ensemble(
        participants,
        space,
        COMBINERS["mean_probs" if is_mined else opened.combine],
        opened.weights,
        opened.posterior_from,
        opened.renormalise,
    )
    id_of = tuple(own.id_of.cpu().numpy() for own in maps)
    reading = Reading(members, outcome_of, id_of, protocol, is_mined)
    return SharedScorer(ensemble, reading, budgets, store)


class EnsembleArguments(Arguments):
    """The YAML of an ensemble, as `path`, beside what every backend of ours takes."""

    path: Path
    name: str | None = None


def open_ensemble_arguments(
    arguments: Mapping[str, Any],
) -> tuple[OpenedEnsemble, EngineOptions]:
    """Open the ensemble that lm-eval's arguments name.

    Raises:
        SuiteError: An argument is unknown or wrong, or a member cannot be had.
    """
    given = parse_config(EnsembleArguments, dict(arguments), "model_args")
    where = str(given.path)
    config = parse_config(EnsembleConfig, read_yaml(given.path), where)
    if config.is_from_samples:
        raise ConfigError(
            f"{where}: {config.combine} combines items that its members have answered; use it in a"
            " recipe with `suite run-benchmark`"
        )
    if isinstance(config.weights, FittedWeights | dict):
        raise ConfigError(
            f"{where}: weights are uniform or a list here; weights by task and fitted ones need a"
            " recipe with `suite run-benchmark`"
        )
    entries = tuple(_entry(member, given, where) for member in config.members)
    try:
        chat = common_chat(entries)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    if given.strip_reasoning is None and chat.strip_reasoning is not None:
        given = given.model_copy(update={"strip_reasoning": chat.strip_reasoning})
    members = [open_entry(entry, given.protocol) for entry in entries]
    return configured(given.name or given.path.stem, members, config, ""), given.options()


def _entry(member: str | ModelConfig, given: EnsembleArguments, where: str) -> ModelConfig:
    """A member of an ensemble's YAML, with paths from the folder it lies in."""
    if isinstance(member, str):
        raise ConfigError(
            f"{where}: member '{member}' is only a name; give it name and source, as in a recipe"
        )
    changes: dict[str, Any] = {}
    if given.device is not None and "device" not in member.model_fields_set:
        changes["device"] = own_device(given.device)
    if given.enable_thinking is not None:
        chat = {"template": True, "enable_thinking": given.enable_thinking}
        changes["chat"] = member.chat.model_copy(update=chat)
    return absolute_model(member.model_copy(update=changes), given.path.absolute().parent)


def _vocabulary(opened: OpenedEnsemble, own: OpenedModel) -> MemberVocabulary:
    if own.vocabulary is None:
        raise ConfigError(
            f"ensemble '{opened.name}': the bytes of the tokens of '{own.member.name}' cannot be"
            " told, so they cannot be compared; leave that member out"
        )
    member = own.member
    return MemberVocabulary(member.name, own.vocabulary, member.num_entries, own.text.end_ids)


def _outcomes(
    combine: str, vocabularies: Sequence[MemberVocabulary]
) -> tuple[OutcomeSpace, Sequence[Any], tuple[NDArray[np.int64], ...]]:
    """The outcomes, each member's way to them, and what each id of a reading member stands for."""
    if combine == "mined":
        space, mined = mined_outcomes(vocabularies[0], vocabularies[1:])
        return space, mined, (_meanings(vocabularies[0], mined[0].id_of),)
    space, maps = shared_outcomes(vocabularies)
    meanings = (
        _meanings(own, shared.id_of) for own, shared in zip(vocabularies, maps, strict=True)
    )
    return space, maps, tuple(meanings)


def _meanings(own: MemberVocabulary, id_of: torch.Tensor) -> NDArray[np.int64]:
    """For each id of a member: the shared token, N if it ends a text, or `NO_OUTCOME`."""
    found = np.full(max(len(own.vocabulary), own.num_entries), NO_OUTCOME, np.int64)
    found[list(own.end_ids)] = len(id_of)
    found[id_of.numpy()] = np.arange(len(id_of))
    return found


def _placed(members: Sequence[OpenedModel], maps: Sequence[OutcomeMap]) -> list[OutcomeReading]:
    """The maps on their members' devices."""
    return [own.to(opened.member.device) for own, opened in zip(maps, members, strict=True)]
