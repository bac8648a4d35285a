"""From task names in a recipe to lm-eval tasks, upstream definitions unmodified."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from suite.config import Config, PositiveInt, content_hash
from suite.errors import ConfigError, HarnessError, near_names
from suite.harness.definitions import Definition, absolute_data, files_in, read_definition
from suite.models.cache import cache_root
from suite.models.manifest import file_sha256

# A group is an aggregate of other tasks, which bring their own data and request types.
Kind = Literal["task", "group"]

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
    where the definition says 0; a batch size wins over the model's.
    """

    task: str
    name: str | None = None
    data: dict[str, Path] = Field(default_factory=dict)
    field: str | None = None
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    batch_size: PositiveInt | None = None
    limit: PositiveInt | None = None
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

    @model_validator(mode="after")
    def _field_needs_data(self) -> TaskConfig:
        if self.field is not None and not self.data:
            raise ValueError("field has no effect without data; leave it out or give data")
        return self

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
        return "several" if self.kind == "group" else self._single_output_type

    @property
    def _single_output_type(self) -> str:
        return self.definition.output_type if self.definition else "unknown"

    @property
    def shots(self) -> int | None:
        """Shots that will be used; None where the definition leaves it open (lm-eval takes 0)."""
        if self.entry.num_fewshot is not None:
            return self.entry.num_fewshot
        return self.definition.num_fewshot if self.definition else None

    def local_files(self) -> list[Path]:
        """The local data files the task reads."""
        kwargs = self.overrides.get("dataset_kwargs", {})
        return [Path(file) for file in files_in(kwargs.get("data_files"))]


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
        if found.kind.name == "TAG":
            raise ConfigError(
                f"task '{entry.task}' is a tag, not a task; list its tasks:"
                f" {', '.join(sorted(found.tags))}"
            )
        kind: Kind = "group" if found.kind.name == "GROUP" else "task"
        definition = read_definition(found.yaml_path) if found.yaml_path else None
        if kind == "group":
            self._check_group(entry, definition)
        plan = TaskPlan(entry, kind, definition, _overrides(entry, definition))
        _check_data(plan)
        _check_settings(plan)
        _check_extras(entry.task)
        if definition and definition.runs_code and not confirm_unsafe_code:
            raise ConfigError(
                f"task '{entry.task}' executes code that the model writes; run it in a sandbox and"
                " give --confirm-unsafe-code"
            )
        return plan

    def _check_group(self, entry: TaskConfig, definition: Definition | None) -> None:
        """Refuse what lm-eval would get wrong for the members of a group."""
        if entry.data:
            raise ConfigError(
                f"task '{entry.task}' is a group of tasks; give data to its members one by one"
            )
        index = self._local.task_index
        for name in definition.members if definition else ():
            path = index[name].yaml_path if name in index else None
            if path and read_definition(path).relative_data():
                raise ConfigError(
                    f"task '{entry.task}': lm-eval looks for the data of its member '{name}' in the"
                    " current folder; list the members as tasks, or give absolute paths"
                )

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
    local = definition.local_data() if definition else None
    if entry.data:
        formats = {_FORMATS[path.suffix] for path in entry.data.values()}
        files = {split: str(path) for split, path in entry.data.items()}
        field = {"field": entry.field} if entry.field else {}
        overrides["dataset_path"] = formats.pop() if len(formats) == 1 else "mixed"
        overrides["dataset_name"] = None
        overrides["dataset_kwargs"] = {"data_files": files, **field}
    elif definition is not None and local:
        declared = dict(definition.keys["dataset_kwargs"])
        absolute = absolute_data(local, definition.data_folder)
        overrides["dataset_kwargs"] = declared | {"data_files": absolute}
    return overrides


def _apply_settings(task: Any, entry: TaskConfig) -> None:
    """Shots and generation settings of a recipe, on a built task.

    lm-eval's own argument for shots never overrides a definition that says 0; this does.
    """
    if entry.num_fewshot is not None:
        available = len(list(task.fewshot_docs() or ())) if entry.num_fewshot else 0
        if entry.num_fewshot > available:
            raise HarnessError(
                f"task '{entry.label}': num_fewshot is {entry.num_fewshot}, but there are only"
                f" {available} items to take shots from"
            )
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


def _check_settings(plan: TaskPlan) -> None:
    """Refuse settings that would have no effect."""
    entry, definition = plan.entry, plan.definition
    where = f"task '{entry.label}'"
    if definition is None:
        return
    if entry.generation and plan.kind == "task" and plan.output_type != "generate_until":
        raise ConfigError(
            f"{where}: generation has no effect on {plan.output_type} requests; leave it out"
        )
    metric, _, filter_name = (entry.metric or "").partition(",")
    if metric and definition.metrics and metric not in definition.metrics:
        known = ", ".join(definition.metrics)
        raise ConfigError(f"{where}: it has no metric '{metric}'; metrics: {known}")
    if filter_name and plan.kind == "task" and filter_name not in definition.filters:
        known = ", ".join(definition.filters)
        raise ConfigError(f"{where}: it has no filter '{filter_name}'; filters: {known}")


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
    hashes = [file_sha256(Path(file)) for file in files_in(kwargs["data_files"])]
    key = content_hash([hashes, kwargs.get("field")])[:16]
    cache = str(cache_root() / "datasets" / key)
    return overrides | {"dataset_kwargs": kwargs | {"cache_dir": cache}}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
