"""`suite bench`: measurements, each written to a file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from suite.errors import SuiteError
from suite.files import write_atomically

_output = click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("reports/bench"),
    show_default=True,
    help="Folder for the measurement's file.",
)


@click.group()
def bench() -> None:
    """Measure this project on this machine."""


@bench.command()
@_output
def startup(output: Path) -> None:
    """Time the start of the command line against bare Python and an import of torch."""
    from suite.pipelines.bench.startup import measure_startup

    _write(output / "startup.json", measure_startup())


@bench.command("recipe")
@click.argument("recipe")
@_output
def recipe_time(recipe: str, output: Path) -> None:
    """Time a RECIPE from an empty cache; its report is kept beside the time."""
    from suite.pipelines.bench.recipe_time import measure_recipe

    _write(output / "timing.json", [measure_recipe(recipe, output)])


@bench.command()
@click.argument("recipe")
@_output
def parity(recipe: str, output: Path) -> None:
    """Compare our scores with those of lm-eval's own command on a RECIPE.

    Fails where an answer differs, except for rolling text under hf's default begin tokens: that
    distance is only shown.
    """
    from suite.pipelines.bench.parity import measure_parity
    from suite.pipelines.recipe import load_recipe
    from suite.pipelines.run_log import noise_to

    output.mkdir(parents=True, exist_ok=True)
    with noise_to(output / "parity.log"):
        rows = measure_parity(load_recipe(recipe)[0])
    _write(output / "parity.json", rows)
    shown_only = ("loglikelihood_rolling", "")
    unequal = [
        f"{row.model} on {row.task}"
        for row in rows
        if not row.identical and (row.output_type, row.upstream_options) != shown_only
    ]
    if unequal:
        raise SuiteError(f"scores differ from lm-eval's: {', '.join(unequal)}")


def _write(path: Path, rows: Sequence[Any]) -> None:
    """Write measurements as JSON, one object a row, and print them."""
    from suite.pipelines.hardware import describe_hardware
    from suite.pipelines.plan import versions

    data = {
        "hardware": describe_hardware("cpu"),
        "versions": versions(),
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    click.echo(text)
    click.echo(str(path))
