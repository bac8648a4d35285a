"""`suite report`: existing runs as one table with intervals and tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from suite.errors import ConfigError

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]

_PATH = click.Path(path_type=Path)
_STYLES = ("paper", "delta", "regression")

# Which runs are shown, and under which names.
_CHOICE = (
    click.option("--group", "groups", multiple=True, metavar="NAME=SECTION", help="Move a model."),
    click.option("--metric", "metrics", multiple=True, metavar="TASK=METRIC[,FILTER]"),
    click.option("--task", "tasks", multiple=True, metavar="NAME", help="Show this task only."),
    click.option("--model", "models", multiple=True, metavar="NAME", help="Show this model only."),
    click.option("--rename", "renames", multiple=True, metavar="OLD=NEW", help="Rename a model."),
    click.option(
        "--all-runs", is_flag=True, help="Show repeated runs as well, not only the newest."
    ),
    click.option("--no-cache", is_flag=True, help="Read the samples files, not the index."),
)

# What is compared with what, and how.
_TESTS = (
    click.option(
        "--teacher", metavar="NAME", help="Of the transferred models. [default: reference]"
    ),
    click.option("--start", metavar="NAME", help="What the transferred models began as."),
    click.option("--level", type=float, default=0.95, show_default=True, help="Of the intervals."),
    click.option(
        "--margin", type=float, default=0.02, show_default=True, help="Of verdicts on regressions."
    ),
    click.option(
        "--cluster", "clusters", multiple=True, metavar="TASK=FIELD", help="Of its items."
    ),
    click.option(
        "--shared-items", is_flag=True, help="Join what both share where item sets differ."
    ),
    click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Resamples."
    ),
)

# What the page shows beside the table.
_PAGE = (
    click.option(
        "--max-flips",
        type=click.IntRange(min=0, max=5_000),
        default=5_000,
        show_default=True,
        help="Items in the page's browser.",
    ),
    click.option(
        "--series", multiple=True, metavar="S", help="Of suite track: curves on the page."
    ),
    click.option(
        "--store",
        type=_PATH,
        envvar="SUITE_TRACK",
        default=Path("track"),
        show_default=True,
        show_envvar=True,
        metavar="DIR",
        help="Folder of the series.",
    ),
    click.option(
        "--fidelity", type=_PATH, multiple=True, metavar="FILE", help="Of suite fidelity: a part."
    ),
)


def _with(*options: Decorator) -> Decorator:
    """Several options as one decorator, listed in their order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.command()
@click.argument("runs", nargs=-1, required=True, type=_PATH, metavar="RUN...")
@click.option("--reference", metavar="NAME", help="The model that others are compared with.")
@click.option("--style", type=click.Choice(_STYLES), default="paper", show_default=True)
@click.option(
    "--output", type=_PATH, default=Path("report"), show_default=True, help="Folder to write to."
)
@click.option("--published", metavar="NAME", help="Rows of a paper, as alm-table-1.")
@click.option("--title", default="Results", show_default=True)
@click.option("--dry-run", is_flag=True, help="Print what would be shown and tested.")
@_with(*_CHOICE, *_TESTS, *_PAGE)
def report(*, dry_run: bool, no_cache: bool, **given: Any) -> None:
    """Write RUNs as one table in Markdown, LaTeX, CSV, JSON and HTML.

    A RUN is a folder or file of results, of this suite or of lm-eval. Best and second are marked
    and differences called significant only where tests on the same items tell them apart. SECTION
    is original, transferred, ensembles or controls.
    """
    from suite.pipelines.report_options import ReportOptions

    options = ReportOptions(
        **given
        | {
            "groups": _pairs("--group", given["groups"]),
            "metrics": _pairs("--metric", given["metrics"]),
            "renames": _pairs("--rename", given["renames"]),
            "clusters": _pairs("--cluster", given["clusters"]),
        },
        use_cache=not no_cache,
    )
    if dry_run:
        _print_plan(options)
        return

    from rich.console import Console

    from suite.pipelines.report import write_run_report
    from suite.report.console import console_table
    from suite.report.regression_render import regression_console
    from suite.report.regression_style import RegressionReport

    written = write_run_report(options)
    console = Console()
    if isinstance(written.content, RegressionReport):
        console.print(regression_console(written.content))
    else:
        console.print(console_table(written.content, console.width))
    for file in written.files:
        click.echo(str(file))


def _pairs(option: str, texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """`NAME=VALUE`, split at the last sign: names of models may hold one."""
    pairs = []
    for text in texts:
        name, sign, value = text.rpartition("=")
        if not (name and sign and value):
            raise ConfigError(f"{option} is '{text}', expected NAME=VALUE")
        pairs.append((name, value))
    return tuple(pairs)


def _print_plan(options: Any) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from suite.pipelines.report import plan_report

    plan = plan_report(options)
    models = Table("model", "section", "weights", title="Models")
    for model in plan.runs.models:
        name = f"{model.name} (reference)" if model.is_reference else model.name
        models.add_row(Text(name), model.section, Text(model.weights))
    tasks = Table("task", "metric", "models", title="Tasks")
    for spec, metric in zip(plan.runs.columns, plan.metrics, strict=True):
        count = len({r.model for r in plan.runs.records if r.label == spec.label})
        tasks.add_row(Text(spec.label), metric, str(count))
    console = Console()
    console.print(models, tasks)
    if options.reference is not None:
        are = "comparison" if plan.num_comparisons == 1 else "comparisons"
        click.echo(f"{plan.num_comparisons} {are} with {options.reference}")
    for note in plan.runs.notes:
        click.echo(note)
    for file in plan.files:
        click.echo(f"would write {file}")
