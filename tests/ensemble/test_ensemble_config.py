"""An ensemble's settings: what is accepted, and the exact sentence for what isn't."""

from __future__ import annotations

from typing import Any

import pytest

from suite.config import parse_config
from suite.ensemble.config import (
    Development,
    EnsembleConfig,
    EnsembleEntry,
    FittedWeights,
    common_chat,
)
from suite.errors import ConfigError
from suite.models.entry import ModelConfig


def config_of(**changes: Any) -> EnsembleConfig:
    return parse_config(
        EnsembleConfig, {"members": ["a", "b"], "combine": "mean_probs"} | changes, "x.yaml"
    )


def problem(**changes: Any) -> str:
    with pytest.raises(ConfigError) as error:
        config_of(**changes)
    return str(error.value).removeprefix("x.yaml: ")


def test_weights_are_uniform_unless_given() -> None:
    assert config_of().weights_for("t") == (0.5, 0.5)


def test_fixed_weights_hold_on_every_task() -> None:
    assert config_of(weights=[0.25, 0.75]).weights_for("t") == (0.25, 0.75)


def test_weights_by_task_hold_on_theirs() -> None:
    config = config_of(weights={"t": [1, 0], "u": [0.5, 0.5]})
    assert (config.weights_for("t"), config.weights_for("u")) == ((1.0, 0.0), (0.5, 0.5))


def test_weights_can_be_fitted_to_development_items() -> None:
    config = config_of(weights={"fit": {"task": "t", "split": "validation", "items": 7}})
    assert config.weights_for("u") == Development(task="t", split="validation", items=7)
    assert config_of(weights={"fit": {}}).weights == FittedWeights(fit=Development())


def test_settings_survive_a_round_trip_through_plain_data() -> None:
    for weights in ("uniform", [0.25, 0.75], {"t": [0.5, 0.5]}, {"fit": {"items": 3}}):
        config = config_of(weights=weights)
        assert EnsembleConfig.model_validate(config.model_dump(exclude_unset=True)) == config


def test_the_schema_for_editors_can_be_made() -> None:
    assert "weights" in EnsembleEntry.model_json_schema()["$defs"]["EnsembleConfig"]["properties"]


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([0.5, 0.3, 0.2], "weights: found 3 for 2 members; give one weight per member"),
        ([1.5, -0.5], "weights: -0.5 is not a weight; weights are at least 0 and sum to 1"),
        ([0.5, 0.6], "weights: they sum to 1.1; weights are at least 0 and sum to 1"),
        (
            {"t": [0.5, 0.6]},
            "weights of task 't': they sum to 1.1; weights are at least 0 and sum to 1",
        ),
    ],
)
def test_weights_that_are_no_distribution_are_refused(weights: Any, sentence: str) -> None:
    assert problem(weights=weights) == sentence


def test_a_wrong_form_of_weights_is_compared_with_all_forms() -> None:
    assert problem(weights="equal") == (
        "weights: 'equal' is none of its forms: uniform, a list of numbers, lists by task, or"
        " fit: {task, split, items}"
    )
    assert problem(weights={"t": 1}) == (
        "weights: 1 of task 't' is none of its forms: uniform, a list of numbers, lists by task,"
        " or fit: {task, split, items}"
    )


def test_an_unknown_key_of_a_fit_is_named() -> None:
    assert problem(weights={"fit": {"item": 3}}) == (
        "unknown key 'item' in weights.fit; accepted keys: items, split, task"
    )


@pytest.mark.parametrize(
    ("combine", "key", "value"),
    [
        ("majority_vote", "weights", [0.5, 0.5]),
        ("best_member", "weights", "uniform"),
        ("mean_probs", "posterior_from", "context"),
        ("mined", "renormalise", True),
        ("word_mixture", "renormalise", True),
        ("mean_probs", "development", {"items": 3}),
        ("any_member_correct", "development", {"items": 3}),
    ],
)
def test_a_setting_without_effect_is_refused(combine: str, key: str, value: Any) -> None:
    assert (
        problem(combine=combine, **{key: value}) == f"{key}: no effect on {combine}; leave it out"
    )


def test_one_member_twice_is_refused() -> None:
    assert problem(members=["a", "b", "a"]) == (
        "members: 'a' is named twice; give it more weight instead"
    )


def test_an_ensemble_without_members_is_refused() -> None:
    assert problem(members=[]) == "members is [], should have at least 1 entry"


def test_an_ensemble_as_a_member_is_refused() -> None:
    inner = {"name": "inner", "ensemble": {"members": ["a"], "combine": "mean_probs"}}
    assert problem(members=["a", inner]) == (
        "members[1]: an ensemble cannot be a member of an ensemble; list its members instead"
    )


def test_a_member_may_be_a_whole_entry_and_its_keys_are_checked() -> None:
    entry = {"name": "b", "source": {"random": "tiny"}}
    assert config_of(members=["a", entry]).member_names == ("a", "b")
    found = problem(members=["a", entry | {"sourc": 1}])
    assert found.startswith("unknown key 'sourc' in members[1]; accepted keys: adapter, attn_")


def chatty(name: str, **chat: Any) -> ModelConfig:
    data = {"name": name, "source": {"random": "tiny"}, "chat": chat}
    return ModelConfig.model_validate(data)


def test_members_agree_on_what_decides_how_a_prompt_is_built() -> None:
    first = chatty("a", template=True, system_prompt="S")
    assert common_chat((first, chatty("b", template="other", system_prompt="S"))) == first.chat
    with pytest.raises(ValueError, match=r"^members 'a' and 'b' differ in chat\.system_prompt;"):
        common_chat((first, chatty("b", template=True)))
    with pytest.raises(ValueError, match=r"^members 'a' and 'b' differ in chat\.template; wrap"):
        common_chat((chatty("a", template=True), chatty("b")))
