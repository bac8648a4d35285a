"""The text that comes with the package, so that a first run needs no download."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

PackagedText = Literal["python-docs"]

_FILES: dict[PackagedText, str] = {"python-docs": "python_docs_topics.jsonl"}


def packaged_file(name: PackagedText) -> Path:
    """A packaged text as JSON Lines: inside an installed package, or beside it in a checkout.

    `python-docs` holds the topics of Python's reference manual, one a line, in the field `text`.
    """
    package = Path(__file__).parents[1]
    inside = package / "_tasks"
    return (inside if inside.is_dir() else package.parent / "tasks") / _FILES[name]
