"""The permuted control: ALM's groups and scale, with each other's teacher values."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from loss_batches import as_float32, batch_of, random_inputs, random_rows
from plain_losses import plain_divergence, plain_groups, plain_log_prob

from suite.config import parse_config
from suite.distill.losses.alm import AlmConfig
from suite.distill.losses.contract import LossContext
from suite.distill.losses.groups import ChunkLogProbs
from suite.distill.losses.permuted import AlmPermutedConfig, batch_seed, permute_teacher
from suite.distill.losses.registry import parse_losses
from suite.distill.signals import LossInputs, LossTerm
from suite.errors import ConfigError

CONTEXT = LossContext(student_size=1)


def control(inputs: LossInputs, **settings) -> LossTerm:
    context = replace(CONTEXT, num_teachers=len(inputs.teachers))
    return AlmPermutedConfig(**settings).build(context)(inputs)


def alm(inputs: LossInputs, **settings) -> LossTerm:
    return AlmConfig(**settings).build(CONTEXT)(inputs)


def groups_of(teacher: list[list[float]], mask: list[list[bool]]) -> ChunkLogProbs:
    values = torch.tensor(teacher)
    return ChunkLogProbs(torch.full_like(values, -1.0), values, torch.tensor(mask))


@pytest.mark.parametrize("seed", range(4))
def test_the_loss_is_that_of_plain_walks_with_values_in_another_order(seed):
    rows = random_rows(seed)
    inputs = random_inputs(rows, seed)
    sides = inputs.student.log_probs, inputs.teachers[0].log_probs
    pairs = []
    for b, row in enumerate(rows):
        said = [(side.token[b].tolist(), side.boundary[b].tolist()) for side in sides]
        for group in plain_groups(row, [said[1][1]], {"merge": True, "gamma": 0.1}, (1.0,)):
            pairs.append([plain_log_prob(group, m, *said[m], True) for m in (0, 1)])
    generator = torch.Generator().manual_seed(batch_seed(inputs.batch, 3))
    order = torch.randperm(len(pairs), generator=generator).tolist()
    assert order != sorted(order)
    expected = sum(
        plain_divergence("kl", pairs[other][1], s, 5.0, 1e-6)
        for (s, _), other in zip(pairs, order, strict=True)
    )
    found = control(inputs, seed=3, binarization_temperature=5)
    assert found.sum.item() == pytest.approx(expected, rel=1e-9)
    assert found.count.item() == len(pairs)


def test_its_count_is_that_of_alm():
    inputs = random_inputs(random_rows(5), 5)
    loss = AlmPermutedConfig().build(CONTEXT)
    assert loss(inputs).count == alm(inputs).count
    assert loss.count(inputs.batch, inputs.teachers) == alm(inputs).count


def test_its_scale_rule_is_that_of_alm():
    assert AlmPermutedConfig().gradient_scale == AlmConfig().gradient_scale == 100
    settings = {"binarization_temperature": 5.0}
    assert AlmPermutedConfig(**settings).gradient_scale == 5


def test_only_groups_that_count_give_and_get_values():
    groups = groups_of([[-1, -2, -77, -3], [-99, -4, -5, -88]], [[1, 1, 0, 1], [0, 1, 1, 0]])
    groups = replace(groups, mask=groups.mask.bool())
    for seed in range(10):
        found = permute_teacher(groups, seed)
        assert sorted(found.teacher[groups.mask].tolist()) == [-5, -4, -3, -2, -1]
        assert found.teacher[~groups.mask].tolist() == [-77, -99, -88]
        assert torch.equal(found.student, groups.student)


def test_no_group_and_one_group_stay_as_they_are():
    for mask in ([[False, False]], [[False, True]]):
        groups = groups_of([[-1.0, -2.0]], mask)
        assert torch.equal(permute_teacher(groups, 0).teacher, groups.teacher)


def test_a_batch_is_permuted_alike_whenever_it_is_read():
    inputs = random_inputs(random_rows(1), 1)
    before = torch.get_rng_state()
    assert control(inputs).sum == control(inputs).sum
    assert torch.equal(torch.get_rng_state(), before)
    assert control(inputs).sum != alm(inputs).sum


def test_other_tokens_and_other_seeds_permute_otherwise():
    batch = batch_of(random_rows(1))
    side = replace(batch.teacher, ids=batch.teacher.ids + 1)
    seeds = {
        batch_seed(batch, 0),
        batch_seed(batch, 1),
        batch_seed(replace(batch, teacher=side), 0),
    }
    assert len(seeds) == 3


def test_padding_does_not_change_the_permutation():
    rows = random_rows(2)
    assert batch_seed(batch_of(rows), 0) == batch_seed(batch_of(rows, extra=3), 0)


def test_the_student_gets_a_gradient():
    inputs = as_float32(random_inputs(random_rows(3), 3))
    control(inputs).sum.backward()
    assert inputs.student.log_probs.token.grad.abs().sum() > 0


def test_a_recipe_names_it_like_any_loss():
    (loss,) = parse_losses([{"name": "alm_permuted", "gamma": 0.2}], "r", teacher_is_stored=True)
    assert loss == AlmPermutedConfig(gamma=0.2)
    with pytest.raises(ConfigError) as error:
        parse_config(AlmPermutedConfig, {"name": "alm_permuted", "seed": -1}, "r: losses[0]")
    assert "seed" in str(error.value)
