"""Texts that several items of a task are about."""

from __future__ import annotations

import re

# The field of an item that holds the passage, by the task family's word in the task's name.
_FIELDS = {
    "belebele": "flores_passage",
    "boolq": "passage",
    "coqa": "story",
    "drop": "passage",
    "mlqa": "context",
    "multirc": "paragraph",
    "quac": "context",
    "race": "article",
    "record": "passage",
    "squad": "context",
    "squadv2": "context",
    "xquad": "context",
}


def passage_field(task: str) -> str | None:
    """The field that holds a known task's passage; None for a task without one."""
    words = re.split(r"[\W_]+", task.lower())
    return next((_FIELDS[word] for word in words if word in _FIELDS), None)
