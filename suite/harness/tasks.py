"""From task names in a recipe to lm-eval tasks, upstream definitions unmodified."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from suite.config import Config, content_hash
from suite.errors import ConfigError, HarnessError, near_names
from suite.harness.definitions import Definition, read_definition
from suite.models.cache import cache_root
from suite.models.manifest import file_sha256

# Groups are aggregates of other tasks; their members bring their own data and request types.
Kind = Literal["task", "group", "tag"]

_FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}

# Tasks whose scoring code needs packages that lm-eval leaves to its extras.
_EXTRAS = {
    "ifeval": ("ifeval", ("langdetect", "immutabledict")),
    "minerva_math": ("math", ("sympy", "math_verify")),
    "hendrycks_math": ("math", ("sympy", "math_verify")),
}


class TaskConfig(Config):
    """One column of the table: a task, and what this recipe changes about how it is run.

    `data` maps the splits that the definition reads to local files; `field` names the list inside
    a JSON file that wraps its items. `metric` picks the one shown, such as `acc_norm` or
    `exact_match,strict-match`; by default it is the definition's first. Shots given here win even
    where the definition says 0.
    """

    task: str
    name: str | None = None
    data: dict[str, Path] = Field(default_factory=dict)
    field: str | None = None
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    metric: str | None = None
    generation: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        return {"task": data} if isinstance(data, str) else data

    @field_validator("data")
    @classmethod
    def _known_format(cls, data: dict[str, Path]) -> dict[str, Path]:
        for path in data.values():
            if path.suffix not in _FORMATS:
                accepted = ", ".join(sorted(_FORMATS))
                raise ValueError(f"{path} has no known format; accepted endings: {accepted}")
        return data

    @property
    def label(self) -> str:
        """The column's name: unique in a recipe."""
        return self.name or self.task


@dataclass(frozen=True)
class TaskPlan:
    """A task entry that was found: everything known of it without its data."""

    entry: TaskConfig
    kind: Kind
    definition: Definition | None
    overrides: dict[str, Any]

    @property
    def output_type(self) -> str:
        """The request type, "several" for a group of tasks."""
        return self.definition.output_type if self.definition else "several"

    @property
    def shots(self) -> int | None:
        """Shots that will be used; None where the definition leaves it open (lm-eval takes 0)."""
        if self.entry.num_fewshot is not None:
            return self.entry.num_fewshot
        return self.definition.num_fewshot if self.definition else None

    def local_files(self) -> list[Path]:
        """The local data files the task reads."""
        files = self.overrides.get("dataset_kwargs", {}).get("data_files", {})
        return [Path(file) for file in files.values()]

    def identity(self) -> dict[str, Any]:
        """What decides whether two runs scored the same task on the same data."""
        return {
            "task": self.entry.task,
            "definition": self.definition.sha256 if self.definition else "upstream",
            "data": {file.name: file_sha256(file) for file in self.local_files()},
            "field": self.entry.field,
            "num_fewshot": self.shots,
            "generation": self.entry.generation,
        }


class TaskCatalog:
    """The tasks that names in a recipe can mean: ours, those in given folders, lm-eval's own.

    lm-eval's own index takes seconds to build, so it is built only when a name needs it.
    """

    def __init__(self, folders: tuple[Path, ...] = ()) -> None:
        self.folders = (packaged_tasks(), *folders)

    @cached_property
    def _local(self) -> Any:
        from lm_eval.tasks import TaskManager

        return TaskManager(include_path=list(self.folders), include_defaults=False)

    @cached_property
    def _everything(self) -> Any:
        from lm_eval.tasks import TaskManager

        return TaskManager(include_path=list(self.folders))

    def manager_for(self, name: str) -> Any:
        """The smallest lm-eval TaskManager that knows a name.

        Raises:
            ConfigError: No task, group or tag has that name; suggests near ones.
        """
        if name in self._local.task_index:
            return self._local
        if name not in self._everything.task_index:
            known = self._everything.task_index
            raise ConfigError(f"unknown task '{name}'; {near_names(name, known)}")
        return self._everything

    def plan(self, entry: TaskConfig, *, confirm_unsafe_code: bool = False) -> TaskPlan:
        """Find a task and check what can be checked without its data.

        Raises:
            ConfigError: Unknown task, missing data file, wrong splits, missing extra packages, or
                a task that executes code without leave to do so.
        """
        found = self.manager_for(entry.task).task_index[entry.task]
        kind: Kind = {"GROUP": "group", "TAG": "tag"}.get(found.kind.name, "task")  # type: ignore[assignment]
        definition = read_definition(found.yaml_path) if found.yaml_path else None
        if kind != "task" and (entry.data or entry.field):
            raise ConfigError(
                f"task '{entry.task}' is a {kind} of tasks; give data to its members one by one"
            )
        plan = TaskPlan(entry, kind, definition, _overrides(entry, definition))
        _check_data(plan)
        _check_extras(entry.task)
        if definition and definition.runs_code and not confirm_unsafe_code:
            raise ConfigError(
                f"task '{entry.task}' executes code that the model writes; run it in a sandbox and"
                " give --confirm-unsafe-code"
            )
        return plan

    def build(self, plan: TaskPlan) -> list[Any]:
        """The lm-eval task or group objects of a plan, with their data loaded.

        Overrides go through the member list of an inline group: the only way in which lm-eval lets
        a registered task keep its own definition otherwise.

        Raises:
            HarnessError: lm-eval cannot build the task or load its data.
        """
        name = plan.entry.task
        manager = self.manager_for(name)
        try:
            if not plan.overrides:
                loaded = manager.load([name])
            else:
                member = {"task": name, **_with_data_cache(plan.overrides)}
                loaded = manager.load([{"group": "suite_inline", "task": [member]}])
        except Exception as error:  # data sets fail in as many ways as they have loaders
            raise HarnessError(f"task '{name}': cannot be built ({_first_line(error)})") from error
        tasks = list(loaded["tasks"].values())
        for task in tasks:
            _apply_settings(task, plan.entry)
        return [loaded["groups"][name]] if plan.kind == "group" else tasks


def packaged_tasks() -> Path:
    """The folder of our own tasks: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "_tasks"
    return inside if inside.is_dir() else package.parent / "tasks"


def _overrides(entry: TaskConfig, definition: Definition | None) -> dict[str, Any]:
    """The keys of the definition that decide where its data lies, with absolute paths."""
    overrides: dict[str, Any] = {}
    if entry.data:
        formats = {_FORMATS[path.suffix] for path in entry.data.values()}
        files = {split: str(path) for split, path in entry.data.items()}
        field = {"field": entry.field} if entry.field else {}
        overrides["dataset_path"] = formats.pop() if len(formats) == 1 else "mixed"
        overrides["dataset_name"] = None
        overrides["dataset_kwargs"] = {"data_files": files, **field}
    elif definition is not None:
        declared = dict(definition.keys.get("dataset_kwargs") or {})
        relative = declared.get("data_files")
        if isinstance(relative, dict):
            absolute = {split: str(definition.data_folder / f) for split, f in relative.items()}
            overrides["dataset_kwargs"] = declared | {"data_files": absolute}
    return overrides


def _apply_settings(task: Any, entry: TaskConfig) -> None:
    """Shots and generation settings of a recipe, on a built task.

    lm-eval's own argument for shots never overrides a definition that says 0; this does.
    """
    if entry.num_fewshot is not None:
        task.set_config("num_fewshot", entry.num_fewshot)
    if entry.generation and task.OUTPUT_TYPE == "generate_until":
        task.set_config("generation_kwargs", entry.generation, update=True)


def _check_data(plan: TaskPlan) -> None:
    where = f"task '{plan.entry.label}'"
    for file in plan.local_files():
        if not file.is_file():
            raise ConfigError(f"{where}: data file {file} does not exist")
    if plan.overrides.get("dataset_path") == "mixed":
        raise ConfigError(f"{where}: all data files must have the same format")
    needed = set(plan.definition.splits) if plan.definition else set()
    given = set(plan.entry.data)
    if given and needed and not given <= needed:
        raise ConfigError(
            f"{where}: data names split {', '.join(sorted(given - needed))}; the task reads"
            f" {', '.join(sorted(needed))}"
        )


def _check_extras(task: str) -> None:
    for prefix, (extra, modules) in _EXTRAS.items():
        if not task.startswith(prefix):
            continue
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"task '{task}' needs {', '.join(missing)}; run: pip install 'lm-eval[{extra}]'"
                " (or 'alm-suite[paper]')"
            )


def _with_data_cache(overrides: dict[str, Any]) -> dict[str, Any]:
    """Local data is parsed into a cache folder named after its content, so it can't be stale."""
    kwargs = overrides.get("dataset_kwargs")
    if not kwargs or "data_files" not in kwargs:
        return overrides
    hashes = {split: file_sha256(Path(file)) for split, file in kwargs["data_files"].items()}
    key = content_hash([hashes, kwargs.get("field")])[:16]
    cache = str(cache_root() / "datasets" / key)
    return overrides | {"dataset_kwargs": kwargs | {"cache_dir": cache}}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
