"""Layers, homes of libraries and limits of size, checked from the syntax tree.

Imports inside functions count: a lazy import is still a dependency.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "suite"

BASE = {"errors", "config", "records", "shapes", "progress", "files"}
LAYERS = (
    "text",
    "align",
    "models",
    "likelihood",
    "ensemble",
    "engine",
    "transplant",
    "distill",
    "harness",
    "results",
    "stats",
    "report",
    "track",
    "pipelines",
    "cli",
)
# Not layers: what a user imports or starts, and a folder of YAML.
OUTSIDE = {"__init__", "__main__", "recipes"}

TORCH_FREE = {"results", "stats", "report", "track"}
CUTS = {"distill": {"harness"}, "harness": {"distill"}}

# Where a library may be imported: a module, or everything below a package.
HOME_OF = {
    "click": "cli",
    "lm_eval": "harness",
    "matplotlib": "report.figures",
    "triton": "likelihood.kernels",
    "sqlite3": "results.index",
}
# Oracles of the tests; a user never installs them.
ONLY_IN_TESTS = {"statsmodels", "hypothesis", "pytest"}
LOADS_TORCH = {"torch", "transformers", "peft", "accelerate", "lm_eval", "safetensors.torch"}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 7
NAMES_THAT_SAY_NOTHING = {"utils.py", "common.py", "helpers.py", "misc.py"}


@dataclass(frozen=True)
class Module:
    """A source file: dotted name below `suite`, and its text."""

    name: str
    source: str

    @property
    def layer(self) -> str:
        return self.name.partition(".")[0]


def may_import(layer: str) -> set[str]:
    """The parts of the suite that a layer may import."""
    if layer in BASE:
        return {"errors", layer}
    if layer in TORCH_FREE:
        above = set(LAYERS[: LAYERS.index(layer) + 1]) & TORCH_FREE
    else:
        above = set(LAYERS[: LAYERS.index(layer) + 1])
    return BASE | above - CUTS.get(layer, set())


def imported_names(source: str) -> Iterator[str]:
    """Every imported module; `from a import b` gives `a.b`, because b may be a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide the layer"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(name: str, place: str) -> bool:
    return name == place or name.startswith(place + ".")


def import_faults(module: Module) -> list[str]:
    """What is wrong with a module's imports, one sentence each."""
    faults = []
    for name in imported_names(module.source):
        library, _, rest = name.partition(".")
        if library == "suite":
            target = rest.partition(".")[0]
            is_part = target in BASE or target in LAYERS
            if is_part and target not in may_import(module.layer):
                faults.append(f"{module.name}: {module.layer} may not import {name}")
            elif not is_part and target not in ("", "__version__"):
                faults.append(f"{module.name}: suite.{target} is no part that layers may import")
        elif library in HOME_OF and not is_within(module.name, HOME_OF[library]):
            faults.append(f"{module.name}: {library} belongs in {HOME_OF[library]}")
        if library in ONLY_IN_TESTS:
            faults.append(f"{module.name}: {library} is for tests")
        if module.layer in TORCH_FREE and any(is_within(name, heavy) for heavy in LOADS_TORCH):
            faults.append(f"{module.name}: {module.layer} must answer at once, so no {name}")
    return faults


def size_faults(module: Module) -> list[str]:
    """Files, functions and signatures beyond the limits, one sentence each."""
    faults = []
    num_lines = len(module.source.splitlines())
    if num_lines > MAX_FILE_LINES:
        faults.append(f"{module.name}: {num_lines} lines, at most {MAX_FILE_LINES}")
    for node in ast.walk(ast.parse(module.source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
        length = (node.end_lineno or first) - first + 1
        if length > MAX_FUNCTION_LINES:
            faults.append(f"{module.name}: {node.name} has {length} lines")
        count = num_parameters(node)
        if count > MAX_PARAMETERS and not is_kernel(node):
            faults.append(f"{module.name}: {node.name} takes {count} parameters")
    return faults


def is_kernel(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether it runs on a GPU, where there are no objects and every pointer is a parameter."""
    return any(ast.unparse(item) == "triton.jit" for item in node.decorator_list)


def num_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters that a caller thinks about: neither self and cls nor *args and **kwargs."""
    names = [item.arg for item in (*node.args.posonlyargs, *node.args.args)]
    bound = 1 if names[:1] in (["self"], ["cls"]) else 0
    return len(names) - bound + len(node.args.kwonlyargs)


def read_modules() -> list[Module]:
    modules = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] == "_tasks":
            continue
        name = ".".join(parts if parts == ("__init__",) else [p for p in parts if p != "__init__"])
        modules.append(Module(name, path.read_text(encoding="utf-8")))
    return modules


MODULES = read_modules()
LAYERED = [module for module in MODULES if module.layer not in OUTSIDE]


def _name(module: Module) -> str:
    return module.name


@pytest.mark.parametrize("module", LAYERED, ids=_name)
def test_every_module_belongs_to_a_known_layer(module: Module) -> None:
    assert module.layer in BASE | set(LAYERS)


@pytest.mark.parametrize("module", LAYERED, ids=_name)
def test_imports_point_only_upwards_in_the_list_of_layers(module: Module) -> None:
    assert import_faults(module) == []


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_files_functions_and_signatures_stay_within_the_limits(module: Module) -> None:
    assert size_faults(module) == []


def test_no_file_has_a_name_that_says_nothing() -> None:
    found = [path for path in ROOT.rglob("*.py") if path.name in NAMES_THAT_SAY_NOTHING]
    assert found == []


def test_the_recipes_folder_holds_no_code() -> None:
    code = [module for module in MODULES if module.layer == "recipes"]
    assert [list(imported_names(module.source)) for module in code] == [[]]


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        pytest.param(
            "models.loading",
            "from suite.pipelines.plan import versions",
            "models.loading: models may not import suite.pipelines.plan.versions",
            id="upward",
        ),
        pytest.param(
            "text.corpus",
            "from suite import cli",
            "text.corpus: text may not import suite.cli",
            id="upward, as a name of the package",
        ),
        pytest.param(
            "harness.run",
            "def f():\n    import click\n",
            "harness.run: click belongs in cli",
            id="stray click inside a function",
        ),
        pytest.param(
            "report.tables",
            "import matplotlib.pyplot",
            "report.tables: matplotlib belongs in report.figures",
            id="matplotlib beside the figures",
        ),
        pytest.param(
            "distill.train",
            "from suite.harness.run import evaluate",
            "distill.train: distill may not import suite.harness.run.evaluate",
            id="training asks for its evaluator",
        ),
        pytest.param(
            "harness.run",
            "import suite.distill.train",
            "harness.run: harness may not import suite.distill.train",
            id="evaluation knows no training",
        ),
        pytest.param(
            "results.importer",
            "from suite.models.manifest import file_sha256",
            "results.importer: results may not import suite.models.manifest.file_sha256",
            id="results load nothing that loads torch",
        ),
        pytest.param(
            "stats.paired",
            "def f():\n    from torch import Tensor\n",
            "stats.paired: stats must answer at once, so no torch.Tensor",
            id="torch below the harness",
        ),
        pytest.param(
            "config",
            "from suite.records import Table",
            "config: config may not import suite.records.Table",
            id="the base knows only errors",
        ),
        pytest.param(
            "models.entry",
            "from suite import run_benchmark",
            "models.entry: suite.run_benchmark is no part that layers may import",
            id="the lazy front door",
        ),
    ],
)
def test_the_checker_reports_a_wrong_import(name: str, source: str, fault: str) -> None:
    assert import_faults(Module(name, source)) == [fault]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("cli.main", "import click\nimport suite\nfrom suite.pipelines.plan import versions"),
        ("report.figures", "import matplotlib.pyplot"),
        ("results.index", "import sqlite3"),
        ("likelihood.kernels.alm", "import triton.language"),
        ("track.series", "from suite.results.importer import load_results"),
        ("models.cache", "from suite.models.manifest import write_manifest"),
    ],
)
def test_the_checker_accepts_a_right_import(name: str, source: str) -> None:
    assert import_faults(Module(name, source)) == []


def test_the_checker_reports_what_is_too_long() -> None:
    body = "    pass\n" * 60
    source = f"def long():\n{body}" + "\n" * 340
    assert size_faults(Module("text.corpus", source)) == [
        "text.corpus: 401 lines, at most 400",
        "text.corpus: long has 61 lines",
    ]


def test_the_checker_counts_parameters_without_self() -> None:
    seven = "def __init__(self, a, b, c, d, e, f, g): ..."
    eight = "def f(self, a, b, c, d, e, f, *, g, h): ..."
    source = f"class A:\n    {seven}\n    {eight}\n"
    assert size_faults(Module("text.corpus", source)) == ["text.corpus: f takes 8 parameters"]
