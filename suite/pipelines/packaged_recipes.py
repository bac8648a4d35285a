"""The recipes that come with the package, by the command that takes them."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from importlib.resources.abc import Traversable

from suite.errors import ConfigError

# The folder of each command's recipes in `suite.recipes`.
_FOLDERS = {"run-benchmark": "", "transfer": "transfer", "distill": "distill"}


def packaged_names(command: str) -> tuple[str, ...]:
    """Names of the recipes of one command, sorted."""
    items = _folder(command).iterdir()
    return tuple(sorted(item.name[:-5] for item in items if item.name.endswith(".yaml")))


def packaged_recipe(command: str, name: str) -> Traversable:
    """The file of one of these recipes."""
    return _folder(command) / f"{name}.yaml"


def refuse_other_command(name: str, commands: Collection[str]) -> None:
    """Refuse a packaged recipe of a command that is not among those asked for.

    Raises:
        ConfigError: The name is one; the sentence says of which command.
    """
    for command in _FOLDERS:
        if command not in commands and name in packaged_names(command):
            raise ConfigError(f"{name} is a recipe of suite {command}; give it to suite {command}")


def _folder(command: str) -> Traversable:
    folder = resources.files("suite.recipes")
    return folder / _FOLDERS[command] if _FOLDERS[command] else folder
