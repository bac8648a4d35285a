"""Times of the engine and of lm-eval's `hf` backend on the same requests, in turns.

Legend: P places that are read, C tokens that are scored, F floating-point operations a place.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from suite.engine.requests import TokenRequest, pair_request
from suite.engine.texts import encode_pair
from suite.ensemble.config import EnsembleConfig
from suite.harness.backends import HfBackend
from suite.harness.contract import EngineOptions
from suite.harness.engine_backend import SuiteLM
from suite.harness.ensemble_backend import SuiteEnsembleLM
from suite.harness.ensemble_opening import configured
from suite.harness.opening import OpenedModel, open_model
from suite.models.loading import LoadedModel
from suite.pipelines.bench.scoring_cases import ScoringCase


@dataclass(frozen=True)
class SpeedRow:
    """One group of requests.

    Attributes:
        group: Which kind.
        task: Whose requests.
        num_fewshot: Shots; None for the task's own.
        num_requests: How many.
        hf_seconds: Of lm-eval's backend, a median.
        suite_seconds: Of the engine, a median.
        num_different: Greedy flags, or texts, that differ.
        hf_places: P_hf, places that hf reads, padding included; None for generation.
        distinct_places: P, different beginnings of all texts; None for generation.
        num_scored: C; None for generation.
        ceiling: P_hf (F_trunk + F_head) / (P F_trunk + C F_head), the speed-up that is there to be
            had; None for generation.
        max_difference: Between log-likelihoods, in nats; None for generation.
    """

    group: str
    task: str
    num_fewshot: int | None
    num_requests: int
    hf_seconds: float
    suite_seconds: float
    num_different: int
    hf_places: int | None = None
    distinct_places: int | None = None
    num_scored: int | None = None
    ceiling: float | None = None
    max_difference: float | None = None

    @property
    def speedup(self) -> float:
        """How many times faster the engine is."""
        return self.hf_seconds / self.suite_seconds

    @property
    def share(self) -> float | None:
        """What part of the ceiling the engine reaches."""
        return None if self.ceiling is None else self.speedup / self.ceiling


@dataclass(frozen=True)
class EnsembleRow:
    """An ensemble of the model with itself.

    Attributes:
        task: Whose requests.
        num_members: M.
        seconds: Of the ensemble, a median.
        alone_seconds: Of the model alone on the engine, a median.
    """

    task: str
    num_members: int
    seconds: float
    alone_seconds: float

    @property
    def ratio(self) -> float:
        """The ensemble's time to the sum of its members' alone."""
        return self.seconds / (self.num_members * self.alone_seconds)


class Contest:
    """The two backends over one model in memory."""

    def __init__(self, loaded: LoadedModel, *, batch_size: int, repeats: int) -> None:
        """Open both; `batch_size` is hf's, and how many texts are generated at once."""
        self.hf = HfBackend(loaded.model, loaded.tokenizer, batch_size=batch_size)
        self.opened: OpenedModel = open_model(loaded, name="model")
        self._options = EngineOptions(batch_size=batch_size)
        self.suite = SuiteLM(self.opened, self._options)
        self.repeats = repeats
        head = loaded.model.get_output_embeddings().weight.numel()
        # A tied head is counted once by the model, and used as a product only behind the trunk.
        self._head_flops = 2 * head
        embedding = loaded.model.get_input_embeddings().weight.numel()
        tied = loaded.model.get_input_embeddings().weight is (
            loaded.model.get_output_embeddings().weight
        )
        self._trunk_flops = 2 * (loaded.model.num_parameters() - embedding - (0 if tied else head))

    def measure(self, case: ScoringCase, requests: Sequence[Any]) -> SpeedRow:
        """Time both on the requests of a case."""
        is_generation = case.group == "generation"
        run = "generate_until" if is_generation else "loglikelihood"
        answers, seconds = self._in_turns(
            lambda: getattr(self.hf, run)(list(requests)),
            lambda: getattr(self.suite, run)(list(requests)),
        )
        pairs = list(zip(*answers, strict=True))
        row = SpeedRow(
            group=case.group,
            task=case.task,
            num_fewshot=case.num_fewshot,
            num_requests=len(requests),
            hf_seconds=seconds[0],
            suite_seconds=seconds[1],
            num_different=sum(a != b if is_generation else a[1] != b[1] for a, b in pairs),
        )
        if is_generation:
            return row
        asked = self._asked(requests)
        hf_places, distinct = self._hf_places(requests), num_distinct_places(asked)
        scored = sum(len(request.scored) for request in asked)
        needed = distinct * self._trunk_flops + scored * self._head_flops
        return replace(
            row,
            hf_places=hf_places,
            distinct_places=distinct,
            num_scored=scored,
            ceiling=hf_places * (self._trunk_flops + self._head_flops) / needed,
            max_difference=max(abs(a[0] - b[0]) for a, b in pairs),
        )

    def measure_ensemble(self, case: ScoringCase, requests: Sequence[Any]) -> EnsembleRow:
        """Time the model as both members of an ensemble."""
        config = EnsembleConfig(members=("model", "the same"), combine="mean_probs")
        ensemble = SuiteEnsembleLM(
            configured("twice", [self.opened, self.opened], config, case.task), self._options, None
        )
        _, seconds = self._in_turns(
            lambda: ensemble.loglikelihood(list(requests)),
            lambda: self.suite.loglikelihood(list(requests)),
        )
        return EnsembleRow(case.task, 2, *seconds)

    def _in_turns(self, *runs: Callable[[], Any]) -> tuple[list[Any], list[float]]:
        """Answers of each, and medians of the seconds they take."""
        answers: list[Any] = [None] * len(runs)
        seconds: list[list[float]] = [[] for _ in runs]
        for _ in range(self.repeats):
            for number, run in enumerate(runs):
                start = time.perf_counter()
                answers[number] = run()
                seconds[number].append(time.perf_counter() - start)
        return answers, [statistics.median(own) for own in seconds]

    def _hf_places(self, requests: Sequence[Any]) -> int:
        """Places that hf reads, padding included."""
        count = 0

        def add(module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            nonlocal count
            count += (args[0] if args else options["input_ids"]).numel()

        hook = self.hf.model.register_forward_pre_hook(add, with_kwargs=True)
        try:
            self.hf.loglikelihood(list(requests))
        finally:
            hook.remove()
        return count

    def _asked(self, requests: Sequence[Any]) -> list[TokenRequest]:
        pairs = [encode_pair(self.opened.text, *request.args) for request in requests]
        limit = self.opened.member.max_length
        return [pair_request(p.context, p.continuation, max_length=limit) for p in pairs]


def num_distinct_places(requests: Sequence[TokenRequest]) -> int:
    """How many different beginnings the texts have that are read: nothing needs reading twice."""
    texts = sorted(tuple(request.ids[: request.scored[-1]].tolist()) for request in requests)
    total = 0
    before: tuple[int, ...] = ()
    for text in texts:
        size = min(len(before), len(text))
        same = np.array(before[:size]) == np.array(text[:size])
        total += len(text) - (size if same.all() else int(same.argmin()))
        before = text
    return total
