"""How a task was measured, as far as a results file tells: what must agree before a comparison."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from suite.config import content_hash

# The parts of a task's definition that decide what is asked and how the answer is read, each with
# what lm-eval takes where nothing is written. Data paths and texts of the YAML file are left out.
_DEFINITION: dict[str, Any] = {
    "description": "",
    "doc_to_choice": None,
    "doc_to_target": None,
    "doc_to_text": None,
    "fewshot_delimiter": "\n\n",
    "gen_prefix": None,
    "output_type": "generate_until",
    "repeats": 1,
    "target_delimiter": " ",
}
_DEFAULT_FILTERS = [{"name": "none", "filter": [{"function": "take_first"}]}]
# Where Python shows a function it shows an address too.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def conditions_of(data: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    """Named facts about the run of single tasks; None where the file does not tell.

    A fact that differs between the tasks of a group is a dict by task.
    """
    config = _dict(data.get("config"))
    by_task: dict[str, Callable[[str], Any]] = {
        "task version": lambda task: _version(data, task),
        "shots": lambda task: _dict(data.get("n-shot")).get(task),
        "task definition": lambda task: _definition(_task_config(data, task)),
        "few-shot seed": lambda task: _fewshot_seed(data, config, task),
        "generation settings": lambda task: _generation(_task_config(data, task), config),
    }
    own = _dict(data.get("suite"))
    template = _chat_template(data)
    return {
        **{name: _joined({task: tell(task) for task in tasks}) for name, tell in by_task.items()},
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
    return None if found in (None, "N/A", "Yaml") else str(found)


def _definition(config: Mapping[str, Any]) -> str | None:
    if not config:
        return None
    parts = {
        name: _ADDRESS.sub("", str(value)) if (value := config.get(name)) is not None else default
        for name, default in _DEFINITION.items()
    }
    parts["repeats"] = str(parts["repeats"])
    parts["filters"] = config.get("filter_list") or _DEFAULT_FILTERS
    return content_hash(parts)[:16]


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
    return task.get("generation_kwargs") or config.get("gen_kwargs")


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
