"""What `suite bench scoring` asks of the backends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from suite.harness.tasks import TaskCatalog, TaskConfig

Group = Literal["four choices", "5-shot choices", "one-token choices", "generation"]


@dataclass(frozen=True)
class ScoringCase:
    """Requests of one task.

    Attributes:
        group: What kind of requests they are.
        task: Whose items.
        num_fewshot: Shots; None for the task's own.
    """

    group: Group
    task: str
    num_fewshot: int | None = None


CASES = (
    ScoringCase("four choices", "suite_spell"),
    ScoringCase("four choices", "suite_reverse"),
    ScoringCase("four choices", "suite_substitute"),
    ScoringCase("four choices", "suite_knowledge"),
    ScoringCase("four choices", "suite_word_forms"),
    ScoringCase("four choices", "suite_lexical"),
    ScoringCase("four choices", "suite_sequences"),
    ScoringCase("four choices", "suite_count_letters"),
    ScoringCase("four choices", "suite_arithmetic_choice"),
    ScoringCase("5-shot choices", "suite_spell", 5),
    ScoringCase("5-shot choices", "suite_knowledge", 5),
    ScoringCase("one-token choices", "suite_contains_letter"),
    ScoringCase("generation", "suite_arithmetic"),
)


def requests_of(case: ScoringCase, catalog: TaskCatalog, limit: int) -> list[Any]:
    """lm-eval's requests for the first items of a case's task.

    Raises:
        SuiteError: The task cannot be built.
    """
    plan = catalog.plan(TaskConfig(task=case.task, num_fewshot=case.num_fewshot))
    (task,) = catalog.build(plan)
    task.build_all_requests(limit=limit, rank=0, world_size=1)
    requests: list[Any] = task.instances
    return requests
