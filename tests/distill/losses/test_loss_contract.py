"""What a loss says about itself, and how a recipe's list of losses is read."""

from __future__ import annotations

import pytest
import torch
from loss_batches import random_inputs, random_rows
from torch import nn

from suite.distill.losses.alm import AlmConfig
from suite.distill.losses.contract import LossContext, Needs
from suite.distill.losses.hidden_state import HiddenStateConfig
from suite.distill.losses.registry import LOSSES, parse_losses
from suite.distill.losses.sft import SftConfig
from suite.distill.signals import LossTerm
from suite.errors import ConfigError

CONTEXT = LossContext(student_size=5, teacher_size=5, teacher_mean_square=torch.ones(5))
KNOWN = "known: alm, alm_permuted, hidden_state, sft"


def parsed(*entries: object, stored: bool = False):
    return parse_losses(list(entries), "recipe.yaml", teacher_is_stored=stored)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_keeps_the_contract(name):
    config = LOSSES[name]()
    assert config.name == name
    assert config.weight is None
    assert isinstance(config.needs, Needs)
    module = config.build(CONTEXT)
    assert isinstance(module, nn.Module)
    inputs = random_inputs(random_rows(0), 0)
    term = module(inputs)
    assert isinstance(term, LossTerm)
    assert term.sum.shape == term.count.shape == ()
    assert term.count.dtype == torch.int64
    own = inputs.student
    leaves = (own.log_probs.token, own.log_probs.boundary, own.hidden)
    found = torch.autograd.grad(term.sum, leaves, allow_unused=True)
    reads_hidden = found[2] is not None
    assert reads_hidden == config.needs.student_hidden
    assert any(gradient is not None for gradient in found)


@pytest.mark.parametrize(
    "config",
    [
        AlmConfig(weight=2),
        AlmConfig(divergence="log_ratio", merge=False, teacher_weights=(0.5, 0.5)),
        HiddenStateConfig(projection=True),
        SftConfig(weight=0.5),
    ],
    ids=str,
)
def test_a_written_config_is_read_back_as_it_was(config):
    assert parsed(config.model_dump(mode="json")) == (config,)


def test_only_what_reads_the_model_itself_needs_a_live_teacher():
    assert AlmConfig().needs == Needs(teacher=True)
    assert SftConfig().needs == Needs()
    assert HiddenStateConfig().needs == Needs(
        teacher=True, teacher_hidden=True, student_log_probs=False, student_hidden=True
    )
    suffices = {name: LOSSES[name]().needs.stored_teacher_suffices for name in LOSSES}
    assert suffices == {"alm": True, "alm_permuted": True, "hidden_state": False, "sft": True}
    assert not Needs(teacher_head=True).stored_teacher_suffices


def test_the_losses_of_a_recipe_are_read_in_order():
    found = parsed(
        {"name": "alm", "weight": 2, "divergence": "reverse_kl", "teacher_weights": [0.25, 0.75]},
        {"name": "sft"},
        {"name": "hidden_state", "projection": True},
    )
    alm = AlmConfig(weight=2.0, divergence="reverse_kl", teacher_weights=(0.25, 0.75))
    assert found == (alm, SftConfig(), HiddenStateConfig(projection=True))
    assert parsed({"name": "sft"}, {"name": "alm"}, stored=True) == (SftConfig(), AlmConfig())


@pytest.mark.parametrize(
    ("given", "temperature", "gamma"),
    [
        ({}, 100, 0.1),
        ({"binarization_temperature": 5, "gamma": 0.3}, 5, 0.3),
        ({"divergence": "log_ratio"}, None, 0.1),
        ({"divergence": "kl_limit", "merge": False}, None, None),
        ({"merge": False, "append": False}, 100, None),
        ({"gamma": 0}, 100, 0),
    ],
)
def test_defaults_that_depend_on_other_settings_are_filled_in(given, temperature, gamma):
    config = AlmConfig(**given)
    assert (config.binarization_temperature, config.gamma) == (temperature, gamma)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([], f"losses should be a list of losses, found an empty one; {KNOWN}"),
        (None, f"losses should be a list of losses, found NoneType; {KNOWN}"),
        ({"name": "alm"}, f"losses should be a list of losses, found dict; {KNOWN}"),
        (["alm"], "losses[0]: expected keys and values, found str"),
        ([{"weight": 1}], f"losses[0]: name is missing; {KNOWN}"),
        ([{"name": "amd"}], f"losses[0]: no loss is named 'amd'; {KNOWN}"),
        ([{"name": ["alm"]}], f"losses[0]: no loss is named ['alm']; {KNOWN}"),
        (
            [{"name": "sft"}, {"name": "alm"}, {"name": "sft", "weight": 2}],
            "losses[2]: sft is listed twice; keep one of the two",
        ),
        (
            [{"name": "sft", "tau": 5}],
            "losses[0]: unknown key 'tau'; accepted keys: name, weight",
        ),
        (
            [{"name": "alm"}, {"name": "sft", "weight": 0}],
            "losses[1]: weight is 0, should be greater than 0",
        ),
        (
            [{"name": "sft"}, {"name": "alm", "divergence": "revers_kl"}],
            "losses[1]: divergence 'revers_kl' is unknown; did you mean 'reverse_kl'?",
        ),
        (
            [{"name": "alm", "divergence": "log_ratio", "binarization_temperature": 100}],
            "losses[0]: binarization_temperature is 100.0, but divergence 'log_ratio' has no"
            " temperature; leave it out",
        ),
        (
            [{"name": "alm", "divergence": "kl_limit", "binarization_temperature": 5}],
            "losses[0]: binarization_temperature is 5.0, but divergence 'kl_limit' has no"
            " temperature; leave it out",
        ),
        (
            [{"name": "alm", "binarization_temperature": 0}],
            "losses[0]: binarization_temperature is 0.0; it is a finite number above 0",
        ),
        (
            [{"name": "alm", "epsilon": 0}],
            "losses[0]: epsilon is 0.0; it is a finite number of at least 1e-07",
        ),
        (
            [{"name": "alm", "merge": False, "gamma": 0.1}],
            "losses[0]: gamma is 0.1, but merge is false; leave one of the two out",
        ),
        (
            [{"name": "alm", "gamma": 1.5}],
            "losses[0]: gamma is 1.5, should be less than or equal to 1",
        ),
        (
            [{"name": "alm", "teacher_weights": [1, 2]}],
            "losses[0]: teacher_weights are 1.0, 2.0, which sum to 3; they must sum to 1",
        ),
        (
            [{"name": "alm", "teacher_weights": [1.5, -0.5]}],
            "losses[0]: teacher_weights are 1.5, -0.5; each must be above 0",
        ),
    ],
)
def test_a_wrong_list_of_losses_is_refused_in_one_sentence(entries, sentence):
    with pytest.raises(ConfigError) as caught:
        parse_losses(entries, "recipe.yaml", teacher_is_stored=False)
    assert str(caught.value) == f"recipe.yaml: {sentence}"


def test_a_stored_teacher_is_refused_by_a_loss_that_needs_more_than_it_holds():
    with pytest.raises(ConfigError) as caught:
        parsed({"name": "alm"}, {"name": "hidden_state"}, stored=True)
    assert str(caught.value) == (
        "recipe.yaml: losses[1]: hidden_state needs the teacher's hidden states, and a stored"
        " teacher is only two numbers a token; use a live teacher, or leave the loss out"
    )


def test_weights_for_another_number_of_teachers_are_refused_when_the_loss_is_built():
    with pytest.raises(ConfigError) as caught:
        AlmConfig(teacher_weights=(0.5, 0.5)).build(CONTEXT)
    assert str(caught.value) == "teacher_weights has 2 for 1 teacher; give one for each"
