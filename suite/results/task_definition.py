"""A task's definition as parts that can be compared one by one, whichever version wrote them."""

from __future__ import annotations

import ast
import json
import re
import textwrap
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from suite.config import content_hash

# Parts that decide the prompts alone: where prompts are logged and agree they say nothing more.
PROMPT_PARTS = frozenset(
    {
        "description",
        "doc_to_choice",
        "doc_to_text",
        "fewshot_delimiter",
        "gen_prefix",
        "target_delimiter",
    }
)
# Followed by a metric's name: what the metric was told of how to compare texts.
ARGUMENTS = "arguments of "
# Longer parts are cut, with a hash that still tells them apart.
MAX_PART_LENGTH = 200

# All parts, with what lm-eval takes where nothing is written. Data paths and texts of the YAML file
# are left out.
_DEFAULTS: dict[str, str] = {
    "description": "",
    "doc_to_choice": "",
    "doc_to_target": "",
    "doc_to_text": "",
    "fewshot_delimiter": "\n\n",
    "gen_prefix": "",
    "output_type": "generate_until",
    "process_results": "",
    "repeats": "1",
    "target_delimiter": " ",
}
_DEFAULT_FILTERS = [{"name": "none", "filter": [{"function": "take_first"}]}]
# Of a metric's entry, what does not change an item's score.
_NO_ARGUMENTS = frozenset({"metric", "aggregation", "higher_is_better"})
# Where Python shows a function it shows an address, and nothing of what the function does.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_SOURCE = re.compile(r"\s*(@|def |lambda\b)")


def definition_of(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The parts by name; None as a whole without a definition, and for a part that is not told."""
    if not config:
        return None
    parts: dict[str, Any] = {
        name: default if (value := config.get(name)) is None else _part(value)
        for name, default in _DEFAULTS.items()
    }
    parts["filters"] = _short(
        _ADDRESS.sub("", _text(config.get("filter_list") or _DEFAULT_FILTERS))
    )
    for entry in metric_entries(config):
        # What is empty or off is as if it were not written.
        told = {k: v for k, v in entry.items() if k not in _NO_ARGUMENTS and v}
        parts[f"{ARGUMENTS}{entry.get('metric')}"] = _part(told) if told else "none"
    return parts


def metric_entries(config: Any) -> tuple[Mapping[str, Any], ...]:
    """The metrics that a task's definition declares, in its order."""
    listed = config.get("metric_list") if isinstance(config, Mapping) else None
    entries = listed if isinstance(listed, list) else []
    return tuple(entry for entry in entries if isinstance(entry, Mapping))


def _part(value: Any) -> str | None:
    text = _text(value)
    if _ADDRESS.search(text):
        return None
    return _short(_normal_source(text) if _SOURCE.match(text) else text)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _short(text: str) -> str:
    if len(text) <= MAX_PART_LENGTH:
        return text
    return f"{text[:MAX_PART_LENGTH]}… ({content_hash(text)[:8]})"


@lru_cache(maxsize=256)
def _normal_source(text: str) -> str:
    """A function without what formatting and comments add to it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.unparse(ast.parse(textwrap.dedent(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return " ".join(text.split())
