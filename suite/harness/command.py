"""lm-eval's own command line, with our backends and tasks known to it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from suite.config import content_hash
from suite.harness.definitions import absolute_data, read_definition
from suite.harness.tasks import packaged_tasks
from suite.models.cache import cached_folder

_COMMANDS = ("run", "ls", "validate")


def run_lm_eval(arguments: Sequence[str]) -> None:
    """Do what `lm-eval ARGUMENTS` does.

    Args:
        arguments: As lm-eval takes them. Without an `--include_path` of theirs, the packaged tasks
            are known too.

    Raises:
        SystemExit: With lm-eval's exit code, if it ends with one.
    """
    from lm_eval.__main__ import cli_evaluate

    import suite.harness.registration  # noqa: F401 - makes our backends known

    before = sys.argv
    sys.argv = ["lm-eval", *with_packaged_tasks(arguments)]
    try:
        cli_evaluate()
    finally:
        sys.argv = before


def with_packaged_tasks(arguments: Sequence[str]) -> list[str]:
    """The arguments with our tasks' folder, unless they name a folder or need none."""
    given = list(arguments)
    # Options alone are those of `run`.
    needs_tasks = bool(given) and (given[0] in _COMMANDS or len(given) > 1)
    names_folder = any(text.partition("=")[0] == "--include_path" for text in given)
    if not needs_tasks or names_folder:
        return given
    return [*given, "--include_path", str(located_tasks())]


def located_tasks() -> Path:
    """The packaged tasks with absolute paths to their data.

    lm-eval looks for relative ones in the current folder.
    """
    definitions = {}
    for path in sorted(packaged_tasks().rglob("suite_*.yaml")):
        definition = read_definition(path)
        keys = dict(definition.keys)
        kwargs = dict(keys["dataset_kwargs"])
        kwargs["data_files"] = absolute_data(kwargs["data_files"], definition.data_folder)
        definitions[path.name] = keys | {"dataset_kwargs": kwargs}

    def write(folder: Path) -> dict[str, Any]:
        for name, keys in definitions.items():
            (folder / name).write_text(yaml.safe_dump(keys, allow_unicode=True), encoding="utf-8")
        return {"tasks": len(definitions)}

    return cached_folder("tasks", content_hash(definitions), write)
