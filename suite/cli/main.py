"""The `suite` command: parse options, call one pipeline, print."""

from __future__ import annotations

import io
import signal
import sys
from pathlib import Path
from typing import Any

import click

import suite
from suite.cli.align import align
from suite.cli.bench import bench
from suite.cli.cache_teacher import cache_teacher
from suite.cli.compare import compare
from suite.cli.distill import distill
from suite.cli.export import export
from suite.cli.fidelity import fidelity
from suite.cli.lm_eval import lm_eval
from suite.cli.report import report
from suite.cli.track import track
from suite.cli.transfer import transfer
from suite.cli.transplant import transplant
from suite.errors import ConfigError, SuiteError

INTERRUPTED = 75
# What the same command does after an interrupt.
_STARTS_OVER = "the same command starts over"
_GOES_ON = "the same command goes on where it stopped"
_RESUMES = "the same command with --resume goes on from the last checkpoint"
_FOLLOWING = {
    "run-benchmark": _GOES_ON,
    "cache-teacher": _GOES_ON,
    "fidelity": _GOES_ON,
    "track": _GOES_ON,
    "transfer": _RESUMES,
    "distill": _RESUMES,
}


class SuiteGroup(click.Group):
    """Shows a SuiteError as one line; anything else is a bug and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an interrupt is its own exit code, and says what a repeat does."""
        try:
            return super().invoke(ctx)
        except SuiteError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            following = _FOLLOWING.get(ctx.invoked_subcommand or "", _STARTS_OVER)
            click.echo(f"interrupted; {following}", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=SuiteGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(suite.__version__, prog_name="suite")
def main() -> None:
    """Train, evaluate and report language models across tokenizers."""


@main.command("run-benchmark")
@click.argument("recipe", required=False)
@click.option("--model", "models", multiple=True, metavar="SOURCE", help="Instead of RECIPE.")
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="Instead of RECIPE.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for results and report.  [default: reports/RECIPE]",
)
@click.option("--limit", type=int, help="Score the first N items of each task only.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="For all models.")
@click.option("--protocol", type=click.Choice(["lm-eval", "paper"]), help="Tokenisation protocol.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the plan, load nothing.")
@click.option("--estimate", is_flag=True, help="Time a few items of each pair, print the total.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Score N pairs at once: each on a GPU of its own, or all sharing the processor's cores.",
)
@click.option("--fresh", is_flag=True, help="Score finished pairs again.")
@click.option("--confirm-unsafe-code", is_flag=True, help="Allow tasks that execute model code.")
def run_benchmark(recipe: str | None, **options: Any) -> None:
    """Score models on tasks and write one table.

    RECIPE is a YAML file or a packaged name: quickstart, ensembles, smoke, paper-eval,
    paper-ensembles, paper-receipts. Finished pairs are kept: the same command goes on after an
    interrupt.
    """
    settings, name = _recipe(recipe, options)
    unsafe = options["confirm_unsafe_code"]
    if options["dry_run"]:
        from suite.pipelines.describe import describe

        for table in describe(settings, confirm_unsafe_code=unsafe):
            _first_console().print(table)
        return
    if options["estimate"]:
        _print_estimate(settings, unsafe)
        return

    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a character shows another; it must not cost a run its table.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    output = (options["output"] or Path("reports") / name).absolute()
    _run(settings, output, options)


def _run(recipe: Any, output: Path, options: dict[str, Any]) -> None:
    """Run a recipe and print its table; of several processes the first one prints."""
    from rich.console import Console

    from suite.pipelines.run_benchmark import RunOptions, run_benchmark
    from suite.report.console import console_table

    fresh, unsafe, jobs = options["fresh"], options["confirm_unsafe_code"], options["jobs"]
    result = run_benchmark(recipe, RunOptions(output, fresh, unsafe, jobs))
    if result.table is None:
        return
    console = Console()
    console.print(console_table(result.table, console.width))
    for file in result.files:
        console.print(str(file), markup=False, highlight=False, soft_wrap=True)
    if result.failures:
        count = len(result.failures)
        raise SuiteError(
            f"{count} of {result.num_pairs} pairs failed; the notes under the table say why"
        )


def _recipe(recipe: str | None, options: dict[str, Any]) -> tuple[Any, str]:
    """The recipe of a call with its options laid over it, and a name for the output folder."""
    from suite.pipelines.recipe import load_recipe, quick_recipe, with_device, with_protocol

    if recipe and (options["models"] or options["tasks"]):
        raise ConfigError("give a RECIPE or --model and --task, not both")
    if recipe:
        settings, name = load_recipe(recipe)
    else:
        settings, name = quick_recipe(options["models"], options["tasks"]), "quick"
    limit, device = options["limit"], options["device"]
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit is {limit}, expected at least 1")
    changes: dict[str, Any] = {}
    if limit:
        tasks = tuple(task.model_copy(update={"limit": None}) for task in settings.tasks)
        changes |= {"limit": limit, "tasks": tasks}
    if device:
        settings = with_device(settings, device)
    settings = settings.model_copy(update=changes)
    if options["protocol"]:
        settings = with_protocol(settings, options["protocol"])
    return settings, name


def _print_estimate(recipe: Any, unsafe: bool) -> None:
    from rich.table import Table

    from suite.pipelines.describe import estimate

    table = Table("model", "task", "items", "minutes", title="Expected time of scoring")
    estimates = estimate(recipe, confirm_unsafe_code=unsafe)
    for pair in estimates:
        table.add_row(pair.model, pair.task, str(pair.num_items), f"{pair.seconds / 60:.1f}")
    table.add_section()
    table.add_row("all", "", "", f"{sum(pair.seconds for pair in estimates) / 60:.1f}")
    _first_console().print(table)


def _first_console() -> Any:
    """A console for what every process finds and only the first of them says."""
    from rich.console import Console

    from suite.pipelines.ranks import Ranks

    return Console(quiet=not Ranks.of_environment().is_first)


@main.command()
@click.argument(
    "kind",
    type=click.Choice(["benchmark", "ensemble", "transfer", "distill"]),
    default="benchmark",
)
def schema(kind: str) -> None:
    """Print the JSON Schema of recipes of one kind, or of ensemble files, for editors."""
    import json

    click.echo(json.dumps(_settings(kind).model_json_schema(), indent=2))


def _settings(kind: str) -> Any:
    """The class that describes one kind of file."""
    if kind == "benchmark":
        from suite.pipelines.recipe import Recipe

        return Recipe
    if kind == "ensemble":
        from suite.ensemble.config import EnsembleConfig

        return EnsembleConfig
    # Losses bring PyTorch with them, so only when they are asked for.
    from suite.pipelines.training_recipe import DistillRecipe, TransferRecipe

    return TransferRecipe if kind == "transfer" else DistillRecipe


main.add_command(align)
main.add_command(bench)
main.add_command(cache_teacher)
main.add_command(compare)
main.add_command(distill)
main.add_command(export)
main.add_command(fidelity)
main.add_command(lm_eval)
main.add_command(report)
main.add_command(track)
main.add_command(transfer)
main.add_command(transplant)
