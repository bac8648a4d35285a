"""Parts of a training recipe that no other layer has: what is measured, how a transfer begins."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from suite.config import Config, PositiveInt
from suite.harness.tasks import TaskConfig
from suite.text.corpus import CorpusConfig


class BenchmarkConfig(Config):
    """A short benchmark of the student while it trains.

    Attributes:
        tasks: Names of tasks, or entries as in a benchmark's recipe.
        limit: Score the first items of each only.
    """

    tasks: Annotated[tuple[TaskConfig, ...], Field(min_length=1)]
    limit: PositiveInt | None = None


class EvaluationConfig(Config):
    """What is measured before, during and after training.

    Attributes:
        every: Steps between two measurements; None for the start and the end alone.
        rows: How many rows of held-out text are measured.
        data: Held-out text.
        benchmark: Tasks.
    """

    every: PositiveInt | None = None
    rows: PositiveInt = 64
    data: CorpusConfig | None = None
    benchmark: BenchmarkConfig | None = None

    @model_validator(mode="after")
    def _every_setting_has_an_effect(self) -> EvaluationConfig:
        if self.data is None and "rows" in self.model_fields_set:
            raise ValueError("rows has no effect without data; give held-out text as data")
        if self.data is None and self.benchmark is None and self.every is not None:
            raise ValueError(
                "every has no effect without data and benchmark; give held-out text as data"
            )
        return self


class TransplantConfig(Config):
    """How the student's new embeddings are made before training; as in a `transplant` source."""

    method: Literal["fvt", "omp", "mean", "zeros", "random"] = "fvt"
    special_tokens: Literal["keep", "replace"] = "keep"
    k: PositiveInt = 64
    seed: Annotated[int, Field(ge=0)] = 0
