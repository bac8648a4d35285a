"""How a task was measured, as far as a results file tells: what must agree before a comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from suite.config import content_hash
from suite.results.model_names import arguments_of
from suite.results.numbers import number
from suite.results.task_definition import definition_of

# What decides how an answer is drawn, and nothing where the likeliest is taken.
_SAMPLING = ("do_sample", "temperature", "top_k", "top_p")
_SPLITS = ("test_split", "validation_split", "training_split")


def conditions_of(data: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    """Named facts about the run of single tasks; None where the file does not tell.

    A fact that differs between the tasks of a group is a dict by task. The definition is a dict by
    part.
    """
    config = _dict(data.get("config"))
    by_task: dict[str, Callable[[str], Any]] = {
        "task version": lambda task: _version(data, task),
        "shots": lambda task: _dict(data.get("n-shot")).get(task),
        "few-shot seed": lambda task: _fewshot_seed(data, config, task),
        "generation settings": lambda task: _generation(_task_config(data, task), config),
        "data set": lambda task: _task_config(data, task).get("dataset_name"),
        "split": lambda task: _split(_task_config(data, task)),
    }
    own = _dict(data.get("suite"))
    template = _chat_template(data)
    return {
        **{name: _joined({task: tell(task) for task in tasks}) for name, tell in by_task.items()},
        "task definition": _definitions({t: definition_of(_task_config(data, t)) for t in tasks}),
        "chat template": template,
        "system instruction": _system_instruction(data),
        # Without a template the turns are never told apart.
        "few-shot as multiturn": False if template == "none" else data.get("fewshot_as_multiturn"),
        "protocol": config.get("protocol") or _dict(own.get("identity")).get("protocol", "lm-eval"),
    }


def _joined(facts: dict[str, Any]) -> Any:
    values = list(facts.values())
    if any(value is None for value in values):
        return None
    return values[0] if all(value == values[0] for value in values) else facts


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _task_config(data: Mapping[str, Any], task: str) -> Mapping[str, Any]:
    return _dict(_dict(data.get("configs")).get(task))


def _version(data: Mapping[str, Any], task: str) -> str | None:
    """lm-eval writes "N/A", or "Yaml" in its first versions, for a task without one."""
    found = _dict(data.get("versions")).get(task)
    if found in (None, "N/A", "Yaml"):
        return None
    # 1 and 1.0 are one version.
    value = number(found)
    return str(found) if value is None else f"{value:.12g}"


def _split(config: Mapping[str, Any]) -> str | None:
    return next((str(config[name]) for name in _SPLITS if config.get(name)), None)


def _definitions(found: dict[str, dict[str, Any] | None]) -> dict[str, Any] | None:
    """The parts of the definitions of all tasks, None where one is not told."""
    known = {task: parts for task, parts in found.items() if parts is not None}
    if len(known) < len(found):
        return None
    names = dict.fromkeys(name for parts in known.values() for name in parts)
    return {n: _joined({task: parts.get(n) for task, parts in known.items()}) for n in names}


def _fewshot_seed(data: Mapping[str, Any], config: Mapping[str, Any], task: str) -> Any:
    shots = _dict(data.get("n-shot")).get(task)
    sampler = _dict(_task_config(data, task).get("fewshot_config")).get("sampler")
    if shots == 0 or sampler == "first_n":
        return "none"
    return config.get("fewshot_seed")


def _generation(task: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    if not task:
        return None
    if task.get("output_type", "generate_until") != "generate_until":
        return "none"
    # lm-eval writes what a run was given into the task's own settings.
    found = task.get("generation_kwargs") or config.get("gen_kwargs")
    if not isinstance(found, Mapping):
        return found
    settings = _normal_sampling(found)
    longest = arguments_of(config).get("max_gen_toks")
    if "max_gen_toks" not in settings and longest is not None:
        settings["max_gen_toks"] = number(longest)
    return settings


def _normal_sampling(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The likeliest token is taken in more ways of writing than one."""
    is_drawn, temperature = settings.get("do_sample"), number(settings.get("temperature"))
    if is_drawn is False or temperature == 0 or (is_drawn is None and temperature is None):
        rest = {name: value for name, value in settings.items() if name not in _SAMPLING}
        return {**rest, "do_sample": False}
    return dict(settings)


def _chat_template(data: Mapping[str, Any]) -> str | None:
    if "chat_template" not in data and "chat_template_sha" not in data:
        return None
    template = data.get("chat_template")
    found = data.get("chat_template_sha") or (content_hash(template) if template else None)
    return str(found)[:16] if found else "none"


def _system_instruction(data: Mapping[str, Any]) -> str | None:
    if "system_instruction" not in data and "system_instruction_sha" not in data:
        return None
    text = data.get("system_instruction")
    return str(text) if text else (data.get("system_instruction_sha") or "none")
