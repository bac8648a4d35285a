"""ALM whose teacher values are permuted among the groups of a batch: a control.

It has the groups, the number of them, the distribution of the teacher's values and the scale of the
gradient that ALM has; which group a value belongs to is all that it lacks. What a student gains
with it is not what the teacher says about its text.

Legend: B rows, N groups.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field

from suite.align.collate import DistillBatch
from suite.distill.losses.alm import AlmConfig, AlmLoss
from suite.distill.losses.contract import LossContext
from suite.distill.losses.groups import ChunkLogProbs, log_weights
from suite.distill.signals import LossInputs

_SEED_BYTES = 7


class AlmPermutedConfig(AlmConfig):
    """Settings of the control: those of ALM, and a seed.

    Attributes:
        name: `alm_permuted`.
        seed: Of the permutations. A batch has its own, which follows from the seed and the
            batch's tokens: a run that goes on permutes as it would have.
    """

    name: Literal["alm_permuted"] = "alm_permuted"  # type: ignore[assignment]  # another key
    seed: Annotated[int, Field(ge=0)] = 0

    def build(self, context: LossContext) -> AlmPermutedLoss:
        """The module.

        Raises:
            ConfigError: There is not one weight for each teacher.
        """
        log_weights(self.teacher_weights, context.num_teachers)
        return AlmPermutedLoss(self)


class AlmPermutedLoss(AlmLoss):
    """The control's loss of a batch; its count is the groups."""

    config: AlmPermutedConfig

    def groups(self, inputs: LossInputs) -> ChunkLogProbs:
        """As ALM's, each with the teacher's value of another."""
        return permute_teacher(super().groups(inputs), batch_seed(inputs.batch, self.config.seed))


def permute_teacher(groups: ChunkLogProbs, seed: int) -> ChunkLogProbs:
    """The same groups, where each that counts has the teacher's value of one that counts.

    Args:
        groups: Of a batch.
        seed: Of the permutation.
    """
    values = groups.teacher[groups.mask]
    # Drawn on the processor, so that every device permutes alike.
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    permuted = groups.teacher.masked_scatter(groups.mask, values[order.to(values.device)])
    return replace(groups, teacher=permuted)


def batch_seed(batch: DistillBatch, seed: int) -> int:
    """A seed that a batch's tokens and a run's seed decide."""
    side = batch.teacher
    ids = side.ids[side.token_mask].cpu().numpy().astype("<i8")
    digest = hashlib.sha256(seed.to_bytes(8, "little") + ids.tobytes()).digest()
    return int.from_bytes(digest[:_SEED_BYTES], "little")
