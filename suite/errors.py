"""The errors a user may see as one line; anything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SuiteError(Exception):
    """An error whose message says where it happened, what was found and what to do next."""

    exit_code = 1


class ConfigError(SuiteError):
    """Wrong input: a recipe, an option, a name or a file the user gave."""

    exit_code = 2


class TextError(SuiteError):
    """A text, or a tokenizer, whose bytes cannot be told exactly."""


class AlignmentError(SuiteError):
    """Two encodings that cannot be aligned."""


class ModelError(SuiteError):
    """A model that cannot be found, read or loaded."""


class HarnessError(SuiteError):
    """A task that cannot be built or scored."""


class ShapeError(SuiteError):
    """Tensors that do not belong together."""


class CacheError(SuiteError):
    """A stored teacher that is damaged, unfinished or made for something else."""


class CheckpointError(SuiteError):
    """A training run that cannot be saved, or a saved one that cannot be read."""


class RecordError(SuiteError):
    """A result file that cannot be read."""


class NotComparableError(SuiteError):
    """Scores that were not measured in the same way, so that no test between them means much."""

    exit_code = 4


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, on any device; PyTorch has no one class for it."""
    text = str(error).lower()
    is_told = "out of memory" in text or "allocate memory" in text
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and is_told)


def near_names(name: str, known: Iterable[str], *, limit: int = 3) -> str:
    """A clause that lists the known names closest to `name`, or all of them when they are few."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=limit, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(match) for match in near) + "?"
    if len(names) <= 12:
        return "known: " + ", ".join(names)
    return f"none of the {len(names)} known names is close to it"
