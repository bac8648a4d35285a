"""`suite fidelity`: how close a student is to its teacher."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

_DEVICES = ("auto", "cpu", "cuda", "mps")
_DTYPES = ("auto", "float32", "bfloat16", "float16")


@click.command()
@click.argument("teacher")
@click.argument("student")
@click.option("--before", metavar="SOURCE", help="The student before training.")
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="NAME",
    help="One with options; may be given several times.  [default: the packaged ones]",
)
@click.option(
    "--text",
    type=click.Path(path_type=Path),
    help="File or folder.  [default: the end of the packaged text]",
)
@click.option("--limit", type=int, help="The first N items of each task only.")
@click.option("--documents", type=int, default=14, show_default=True, help="Read of the text.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("reports/fidelity"),
    show_default=True,
    help="Folder for results and report.",
)
@click.option("--device", type=click.Choice(_DEVICES), default="auto", show_default=True)
@click.option("--dtype", type=click.Choice(_DTYPES), default="auto", show_default=True)
@click.option("--max-length", type=int, help="Most tokens that are read at once.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the plan, load nothing.")
def fidelity(*, dry_run: bool, tasks: tuple[str, ...], output: Path, **given: Any) -> None:
    """Measure how close STUDENT is to TEACHER, whatever their vocabularies.

    Both are a source: hub:org/name, path:FOLDER, gguf:FILE, package:NAME or random:NAME. On tasks
    with options: how often both choose the same, how they rank the options, and how far their
    probabilities and their calibration differ. On a text: the divergence that ALM trains on, and
    bits per byte. With --before, also how much of the gap to the teacher training has closed.
    Finished pairs are kept: the same command goes on after an interrupt.
    """
    from suite.pipelines.fidelity import FidelityOptions, measure_fidelity, plan_fidelity

    named: dict[str, Any] = {"tasks": tasks} if tasks else {}
    options = FidelityOptions(output=output.absolute(), **named, **given)
    if dry_run:
        facts = plan_fidelity(options).facts
        width = max(len(label) for label, _ in facts)
        for label, value in facts:
            click.echo(f"{label:<{width}}  {value}")
        return

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _show(measure_fidelity(options))


def _show(result: Any) -> None:
    """Print the tables and where the files lie."""
    from rich.console import Console

    from suite.report.fidelity import fidelity_console

    console = Console()
    console.print(fidelity_console(result.record))
    for file in result.files:
        console.print(str(file), markup=False, highlight=False, soft_wrap=True)
