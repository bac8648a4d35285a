"""One model on one task: lm-eval's evaluation, checked, and written in lm-eval's layout."""

from __future__ import annotations

import functools
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable, hash_string, sanitize_list
from torch.utils import collect_env

from suite.errors import HarnessError
from suite.files import write_atomically
from suite.harness.features import item_features
from suite.harness.identity import leaf_tasks
from suite.harness.protocol import Protocol, Seeds
from suite.harness.reporting import ReportingBackend
from suite.models.entry import ChatConfig


@dataclass(frozen=True)
class EvaluationSettings:
    """What one evaluation needs beside model and task. `limit` counts items; None takes all."""

    limit: int | None
    seeds: Seeds
    chat: ChatConfig
    protocol: Protocol
    confirm_unsafe_code: bool


@dataclass(frozen=True)
class Evaluation:
    """lm-eval's results dictionary, and its logged samples and their features by task name.

    `num_truncated` counts requests cut to the context length (None where the backend doesn't
    tell), `num_boundary_moves` those with a token across the border of prompt and continuation.
    Where several processes share the items, the first has it all; what the others have is not
    complete, and empty.
    """

    results: dict[str, Any]
    samples: dict[str, list[dict[str, Any]]]
    features: dict[str, list[dict[str, Any]]]
    seconds: float
    num_truncated: int | None
    num_boundary_moves: int | None
    is_complete: bool = True


def evaluate(
    backend: Any,
    tasks: list[Any],
    settings: EvaluationSettings,
    *,
    on_start: Callable[[int], None] = lambda total: None,
    on_answer: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Run lm-eval on built tasks and check that every likelihood is a finite number.

    `on_start` is told how many requests there are, `on_answer` is called after each.

    Raises:
        HarnessError: A log-likelihood is not finite (lm-eval would score it as the first choice),
            or there are more processes than items.
    """
    if isinstance(backend, ReportingBackend):
        _check_enough_items(tasks, settings.limit, backend.world_size)
        backend.reset_counts()
        backend.report_to(on_start, on_answer)
    # lm-eval would fork this process, with torch's threads in it, for bootstrapped errors.
    os.environ.setdefault("DISABLE_MULTIPROC", "1")
    chat = chat_options(settings, tasks)
    _tell_environment_once()
    start = time.perf_counter()
    results = simple_evaluate(
        model=backend,
        tasks=tasks,
        limit=settings.limit,
        log_samples=True,
        random_seed=settings.seeds.random,
        numpy_random_seed=settings.seeds.numpy,
        torch_random_seed=settings.seeds.torch,
        fewshot_random_seed=settings.seeds.fewshot,
        confirm_run_unsafe_code=settings.confirm_unsafe_code,
        # The tasks are built; without this lm-eval would index all of its own, which takes seconds.
        task_manager=TaskManager(include_defaults=False),
        **chat,
    )
    seconds = time.perf_counter() - start
    counts = backend.total_counts() if isinstance(backend, ReportingBackend) else (None, None)
    if results is None:
        return Evaluation({}, {}, {}, seconds, counts[0], counts[1], is_complete=False)
    samples = results.pop("samples")
    for task, items in samples.items():
        _check_finite(task, items)
    return Evaluation(
        results=results | _experiment_facts(backend, chat, samples, seconds),
        samples=samples,
        features=_features(backend, samples),
        seconds=seconds,
        num_truncated=counts[0],
        num_boundary_moves=counts[1],
    )


def write_evaluation(evaluation: Evaluation, folder: Path, facts: dict[str, Any]) -> Path:
    """Write samples, features and, last, the results file; returns its path.

    The results file appears by a rename after everything else is on disk, so a run counts as
    finished exactly when it is. `facts` goes into it under the key `suite`.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now().isoformat(timespec="microseconds").replace(":", "-")
    for task, samples in evaluation.samples.items():
        lines = [_as_upstream_writes(sample) for sample in samples]
        _write_lines(folder / f"samples_{task}_{stamp}.jsonl", lines)
    for task, features in evaluation.features.items():
        _write_lines(folder / f"features_{task}_{stamp}.jsonl", features)
    results = evaluation.results | {"suite": facts | {"stamp": stamp}}
    path = folder / f"results_{stamp}.json"
    write_atomically(path, _to_json(results, indent=2))
    return path


def _tell_environment_once() -> None:
    """lm-eval describes the machine anew for every evaluation, which takes a second each."""
    told = collect_env.get_pretty_env_info
    if not hasattr(told, "cache_info"):
        collect_env.get_pretty_env_info = functools.cache(told)


def chat_options(settings: EvaluationSettings, tasks: list[Any]) -> dict[str, Any]:
    """lm-eval's chat template arguments; under the paper's protocol only generation is wrapped."""
    chat = settings.chat
    wraps = bool(chat.template)
    if settings.protocol == "paper":
        kinds = {getattr(task, "OUTPUT_TYPE", "") for task in leaf_tasks(tasks)}
        wraps = wraps and kinds == {"generate_until"}
    return {
        "apply_chat_template": chat.template if wraps else False,
        "system_instruction": chat.system_prompt if wraps else None,
        "fewshot_as_multiturn": wraps and chat.fewshot_as_multiturn,
    }


def _check_enough_items(tasks: list[Any], limit: int | None, num_ranks: int) -> None:
    """Refuse processes that would have nothing to do, with which lm-eval fails."""
    if num_ranks == 1:
        return
    for task in leaf_tasks(tasks):
        num_items = min(len(task.eval_docs), limit or len(task.eval_docs))
        if num_items < num_ranks:
            raise HarnessError(
                f"task '{task.task_name}': {num_items} items cannot be shared by {num_ranks}"
                f" processes; start at most {num_items}"
            )


def _check_finite(task: str, items: list[dict[str, Any]]) -> None:
    for item in items:
        for answers in item["resps"]:
            for answer in answers:
                number = answer[0] if isinstance(answer, (tuple, list)) else answer
                if isinstance(number, float) and not math.isfinite(number):
                    raise HarnessError(
                        f"task '{task}': log-likelihood of item {item['doc_id']} is {number}, not a"
                        " finite number; try dtype: float32"
                    )


def _experiment_facts(
    backend: Any, chat: dict[str, Any], samples: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """The keys that lm-eval's own tracker adds to a results file."""
    facts = getattr(backend, "facts", {})
    system = chat["system_instruction"]
    applied = chat["apply_chat_template"]
    template = backend.chat_template(applied) if applied else None
    keys = ("doc_hash", "prompt_hash", "target_hash")
    hashes = {
        task: hash_string("".join(item[key] for item in items for key in keys))
        for task, items in samples.items()
    }
    return {
        "task_hashes": hashes,
        "model_source": getattr(backend, "source_name", type(backend).__name__),
        "model_name": facts.get("name", type(backend).__name__),
        "model_name_sanitized": facts.get("name", type(backend).__name__),
        "system_instruction": system,
        "system_instruction_sha": hash_string(system) if system else None,
        "fewshot_as_multiturn": chat["fewshot_as_multiturn"],
        "chat_template": template,
        "chat_template_sha": hash_string(template) if template else None,
        "total_evaluation_time_seconds": str(seconds),
    }


def _features(backend: Any, samples: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Tokenisation features where the backend has a tokenizer of ours to ask."""
    if not isinstance(backend, ReportingBackend):
        return {}
    tokenizer = backend.tokenizer

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return ids

    return {task: item_features(items, encode) for task, items in samples.items()}


def _as_upstream_writes(sample: dict[str, Any]) -> dict[str, Any]:
    """A logged sample in the form of lm-eval's samples files: numbers in answers are strings."""
    arguments = {
        f"gen_args_{i}": {f"arg_{j}": value for j, value in enumerate(request)}
        for i, request in enumerate(sample["arguments"])
    }
    return sample | {
        "arguments": arguments,
        "resps": sanitize_list(sample["resps"]),
        "filtered_resps": sanitize_list(sample["filtered_resps"]),
        "target": str(sample["target"]),
    }


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False, default=handle_non_serializable)


def _write_lines(path: Path, items: list[dict[str, Any]]) -> None:
    write_atomically(path, "".join(_to_json(item) + "\n" for item in items))
