"""Settings of the training loop; those of losses, rows and models are beside their own parts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from suite.config import Config, PositiveInt
from suite.models.entry import Device

Seed = Annotated[int, Field(ge=0)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, lt=1)]


class OptimiserConfig(Config):
    """AdamW and its learning rate over the steps.

    Attributes:
        learning_rate: Its highest value.
        betas: Decay of the two moments.
        epsilon: Added to the root of the second moment.
        weight_decay: None in the paper's runs.
        warmup_steps: Steps over which the learning rate rises from 0.
        schedule: What follows: `linear` and `cosine` fall to 0 at the last step.
        clipping: Largest norm of the gradient; None leaves it as it is.
    """

    learning_rate: _Positive = 1e-5
    betas: tuple[_Share, _Share] = (0.9, 0.95)
    epsilon: _Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] = 2000
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    clipping: _Positive | None = 1.0


class CheckpointConfig(Config):
    """When a run is saved. One checkpoint is always made at the end.

    Attributes:
        every: Steps between two; None for the end alone.
        keep_last: How many are kept, the newest ones.
        keep_best: Keep the one with the lowest held-out value, too.
    """

    every: PositiveInt | None = None
    keep_last: PositiveInt = 2
    keep_best: bool = True


class TrainConfig(Config):
    """How a student is trained.

    Attributes:
        steps: Optimiser steps; either these or `epochs`.
        epochs: Passes over the data.
        rows_per_step: Rows of one optimiser step, over all processes.
        rows_per_pass: Rows of one forward pass of one process; None for all of its share. A step
            accumulates as many passes as it takes.
        optimiser: AdamW.
        balance: `fixed` multiplies each loss by its weight, `gradmag` by the inverse of its
            gradient's norm.
        scale_by_temperature: Under `fixed`, multiply the ALM loss by its binarization temperature:
            its gradient shrinks with it.
        autocast: Dtype of the student's products; its weights stay float32.
        gradient_checkpointing: Compute activations again in the backward pass, for memory.
        sharding: How several processes share the student: `ddp` copies it, `fully_shard` cuts it.
        device: Where the student runs.
        seed: Of everything random but the order of the data.
        log_every: Steps between two lines of the log.
        trackers: Packages that losses and held-out figures go to as well, if they are installed.
    """

    steps: PositiveInt | None = None
    epochs: PositiveInt | None = None
    rows_per_step: PositiveInt = 64
    rows_per_pass: PositiveInt | None = None
    optimiser: OptimiserConfig = OptimiserConfig()
    balance: Literal["fixed", "gradmag"] = "fixed"
    scale_by_temperature: bool = True
    autocast: Literal["bfloat16", "none"] = "bfloat16"
    gradient_checkpointing: bool = False
    sharding: Literal["ddp", "fully_shard"] = "ddp"
    device: Device = "auto"
    seed: Seed = 0
    log_every: PositiveInt = 1
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if (self.steps is None) == (self.epochs is None):
            found = "nothing" if self.steps is None else "both"
            raise ValueError(f"expected exactly one of steps, epochs, found {found}")
        if self.balance == "gradmag" and self.sharding == "fully_shard":
            raise ValueError(
                "balance gradmag needs the last block's gradients of each loss, which fully_shard"
                " does not give; set balance to fixed or sharding to ddp"
            )
        if self.balance == "gradmag" and "scale_by_temperature" in self.model_fields_set:
            raise ValueError(
                "scale_by_temperature has no effect with balance gradmag; leave it out"
            )
        return self
