"""Task definitions read as plain YAML: what a task is, without building it or touching its data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from suite.errors import HarnessError

# The loaders of `datasets` that read files of this machine.
LOADERS = ("json", "csv", "parquet", "text", "arrow")


@dataclass(frozen=True)
class Definition:
    """The keys of a task's YAML after its includes.

    `data_folder` is the folder of the file that declared the data: relative paths start there.
    """

    path: Path
    keys: dict[str, Any]
    data_folder: Path

    @property
    def output_type(self) -> str:
        """lm-eval's request type, such as `multiple_choice`; "unknown" for a task in Python."""
        return str(self.keys.get("output_type", "unknown"))

    @property
    def num_fewshot(self) -> int | None:
        """The shots the definition itself asks for; None where it leaves them open."""
        return self.keys.get("num_fewshot")

    @property
    def splits(self) -> tuple[str, ...]:
        """The data splits the definition reads."""
        names = ("training_split", "validation_split", "test_split", "fewshot_split")
        return tuple(dict.fromkeys(self.keys[name] for name in names if self.keys.get(name)))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics the definition lists; empty where its code decides."""
        listed = self.keys.get("metric_list") or self.keys.get("aggregate_metric_list") or []
        return tuple(entry["metric"] for entry in listed if isinstance(entry.get("metric"), str))

    @property
    def filters(self) -> tuple[str, ...]:
        """Names of the definition's filters; "none" is lm-eval's name for not filtering."""
        listed = self.keys.get("filter_list") or []
        return tuple(entry["name"] for entry in listed) or ("none",)

    @property
    def members(self) -> tuple[str, ...]:
        """The tasks and groups that a group names."""
        listed = self.keys.get("task")
        names = listed if isinstance(listed, list) else []
        return tuple(m if isinstance(m, str) else m.get("task") or m.get("group") for m in names)

    def relative_data(self) -> bool:
        """Whether the definition reads data files by relative path."""
        return any(not Path(file).is_absolute() for file in files_in(self.local_data()))

    def local_data(self) -> Any:
        """`data_files` as declared, where they are files of this machine; None otherwise."""
        kwargs = self.keys.get("dataset_kwargs") or {}
        files = kwargs.get("data_files")
        known = self.keys.get("dataset_path") in LOADERS
        return files if files and known and not any("://" in f for f in files_in(files)) else None

    @property
    def runs_code(self) -> bool:
        """Whether scoring executes code that the model wrote."""
        return bool(self.keys.get("unsafe_code"))


class _Loader(yaml.SafeLoader):
    """A safe loader that keeps lm-eval's `!function module.name` as text."""


_Loader.add_constructor("!function", lambda loader, node: f"!function {node.value}")


def read_definition(path: Path) -> Definition:
    """Read a task YAML with its chain of includes.

    Raises:
        HarnessError: A file is missing, is not YAML, or the chain includes itself.
    """
    keys, data_folder = _read(path.resolve(), ())
    return Definition(path, keys, data_folder)


def absolute_data(files: Any, folder: Path) -> Any:
    """`data_files` in any of its forms (a path, a list, a mapping) with absolute paths."""
    if isinstance(files, dict):
        return {split: absolute_data(value, folder) for split, value in files.items()}
    if isinstance(files, list):
        return [absolute_data(value, folder) for value in files]
    return str(folder / files)


def files_in(files: Any) -> list[str]:
    """All paths in `data_files`, whatever its form."""
    if isinstance(files, dict):
        return [path for value in files.values() for path in files_in(value)]
    if isinstance(files, list):
        return [path for value in files for path in files_in(value)]
    return [str(files)] if files else []


def _read(path: Path, chain: tuple[Path, ...]) -> tuple[dict[str, Any], Path]:
    """Keys of one file laid over those of the files it includes."""
    if path in chain:
        raise HarnessError(f"{path}: the task includes itself")
    try:
        keys = yaml.load(path.read_bytes(), Loader=_Loader)
    except (OSError, yaml.YAMLError) as error:
        raise HarnessError(f"{path}: cannot be read as a task ({error})") from error
    if not isinstance(keys, dict):
        raise HarnessError(f"{path}: expected a task's keys, found {type(keys).__name__}")
    merged: dict[str, Any] = {}
    folder = path.parent
    includes = keys.pop("include", [])
    for name in includes if isinstance(includes, list) else [includes]:
        inherited, inherited_folder = _read((path.parent / name).resolve(), (*chain, path))
        merged |= inherited
        folder = inherited_folder
    return merged | keys, path.parent if "dataset_kwargs" in keys else folder
