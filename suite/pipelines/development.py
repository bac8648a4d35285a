"""Development items of a task: those of another split, as lm-eval would have scored them.

The view of a task on another split is lm-eval's own task object, told that this is the split to
score. Its shots then leave out the item being asked, as lm-eval does whenever both come from one
split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from suite.config import content_hash
from suite.ensemble.config import Development
from suite.errors import HarnessError
from suite.harness.identity import leaf_tasks
from suite.harness.tasks import TaskPlan

SPLIT_KEYS = {
    "train": "training_split",
    "validation": "validation_split",
    "test": "test_split",
}


class NoDevelopmentItemsError(HarnessError):
    """A task that has no items of the wanted split."""


def development_view(built: Sequence[Any], plan: TaskPlan, development: Development) -> list[Any]:
    """Freshly built tasks, turned to their development split; `built` is changed.

    Raises:
        NoDevelopmentItemsError: A task has no such split.
        HarnessError: The split is the one that is scored.
    """
    for task in leaf_tasks(built):
        key = SPLIT_KEYS[development.split]
        name = getattr(task.config, key, None)
        if name is None:
            raise NoDevelopmentItemsError(
                f"task '{plan.entry.label}' has no {development.split} split to take development"
                " items from; give another split, or another task, that has"
            )
        if name == scored_split(task):
            raise HarnessError(same_split(plan.entry.label, development.split))
        task.set_config("test_split", name)
    return list(built)


def scored_split(task: Any) -> str | None:
    """The data split whose items lm-eval scores."""
    test: str | None = task.config.test_split
    validation: str | None = task.config.validation_split
    return test or validation


def same_split(label: str, split: str) -> str:
    """The sentence for development items that are the scored ones."""
    return (
        f"task '{label}': its {split} split is the one that is scored, so it cannot be the"
        " development split; give another split or task"
    )


def check_apart(
    development: Sequence[Any], scored: Sequence[Any], label: str, settings: Development
) -> None:
    """Check that no development item is scored, under whatever name or place.

    Raises:
        HarnessError: Some are.
    """
    tested = {_hash(item) for task in leaf_tasks(scored) for item in task.eval_docs}
    docs = list(development_docs(development, settings.items))
    num_common = sum(_hash(item) in tested for item in docs)
    if num_common:
        raise HarnessError(
            f"task '{label}': {num_common} of the {len(docs)} development items (split"
            f" {settings.split}) are also scored; give another split or task"
        )


def development_docs(development: Sequence[Any], items: int) -> Iterable[Any]:
    """The items that are used: the first of each task, evenly where there are several."""
    limit = items_per_task(development, items)
    return (doc for task in leaf_tasks(development) for doc in islice(task.eval_docs, limit))


def items_per_task(development: Sequence[Any], items: int) -> int:
    """How many items of each task make `items` of all, at least one."""
    return max(1, items // len(leaf_tasks(development)))


def fit_pairs(
    development: Sequence[Any],
    items: int,
    seed: int,
    chat: dict[str, Any],
    render: Callable[..., str] | None,
) -> list[tuple[str, str]]:
    """Prompt and right continuation of each development item, as the task itself writes them.

    Args:
        development: Tasks turned to their development split.
        items: How many items, of all tasks together.
        seed: What shots are drawn with, for each task anew.
        chat: lm-eval's chat arguments of the evaluation the weights are for.
        render: The backend's `apply_chat_template`.

    Returns:
        One pair for each item that has a right answer. The prompt is empty for whole texts.
    """
    pairs = []
    for task in leaf_tasks(development):
        task.set_fewshot_seed(seed)
        task.build_all_requests(
            limit=items_per_task(development, items),
            system_instruction=chat["system_instruction"],
            apply_chat_template=bool(chat["apply_chat_template"]),
            fewshot_as_multiturn=chat["fewshot_as_multiturn"],
            chat_template=render if chat["apply_chat_template"] else None,
        )
        by_item: dict[int, list[Any]] = {}
        for instance in task.instances:
            by_item.setdefault(instance.doc_id, []).append(instance)
        found = (_gold_pair(task, instances) for instances in by_item.values())
        pairs += [pair for pair in found if pair is not None]
    return pairs


def _gold_pair(task: Any, instances: Sequence[Any]) -> tuple[str, str] | None:
    first = instances[0]
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return "", first.args[0]
    if task.OUTPUT_TYPE == "loglikelihood":
        return first.args[0], first.args[1]
    if task.OUTPUT_TYPE == "generate_until":
        target = task.doc_to_target(first.doc)
        answer = target[0] if isinstance(target, list) else target
        return first.args[0], _after(first.args[0], str(answer), task.config.target_delimiter)
    gold = _gold_choice(task, first.doc)
    return None if gold is None else (instances[gold].args[0], instances[gold].args[1])


def _after(prompt: str, answer: str, delimiter: str) -> str:
    """A generated answer with what lm-eval's examples have before it, unless it is there."""
    is_delimited = prompt[-1:].isspace() or answer[:1].isspace()
    return answer if is_delimited else delimiter + answer


def _gold_choice(task: Any, doc: Any) -> int | None:
    """The number of the right option, by lm-eval's rule; None where it marks none."""
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    options = task.doc_to_choice(doc)
    if isinstance(gold, list):
        gold = gold[0] if gold else None
    if isinstance(gold, str):
        return options.index(gold) if gold in options else None
    return gold if isinstance(gold, int) and 0 <= gold < len(options) else None


def _hash(item: Any) -> str:
    return content_hash(item)
