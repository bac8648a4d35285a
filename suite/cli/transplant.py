"""`suite transplant`: another tokenizer's vocabulary for a model, without training."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

_METHODS = ("fvt", "omp", "mean", "zeros", "random")


@click.command()
@click.option("--model", required=True, metavar="SOURCE", help="The model.")
@click.option("--tokenizer", required=True, metavar="SOURCE|bytes", help="The new tokens.")
@click.option("--method", required=True, type=click.Choice(_METHODS), help="Makes new rows.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option(
    "--special-tokens",
    type=click.Choice(["keep", "replace"]),
    help="The model's own, or the tokenizer's.  [default: keep]",
)
@click.option("--k", type=click.IntRange(min=1), help="Tokens omp makes one of.  [default: 64]")
@click.option("--seed", type=click.IntRange(min=0), help="Of random rows.  [default: 0]")
@click.option("--text", type=click.Path(path_type=Path), help="For bits per byte.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the plan, load nothing.")
def transplant(*, dry_run: bool, output: Path, text: Path | None, **given: Any) -> None:
    """Give a model the vocabulary of another tokenizer, without training.

    A SOURCE is hub:org/name, path:FOLDER, gguf:FILE, package:NAME or random:tiny; for --tokenizer
    also bytes. Tokens that both vocabularies have keep the model's rows. The rows of the others are
    made by fvt (the mean of the model's tokens that spell them), by omp (sums of shared tokens
    fitted in the model that owns the tokenizer), or by mean, zeros or random for comparison.
    """
    from suite.pipelines.transplant import TransplantOptions, plan_transplant
    from suite.pipelines.transplant import transplant as run

    options = TransplantOptions(_source(given), output, text)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    made = plan_transplant(options) if dry_run else run(options)
    width = max(len(label) for label, _ in made.facts)
    for label, value in made.facts:
        click.echo(f"{label:<{width}}  {value}")
    for note in made.notes:
        click.echo(f"note: {note}")
    if not dry_run:
        click.echo(str(made.folder))


def _source(given: dict[str, Any]) -> Any:
    """The command line as the settings of a transplant."""
    from suite.config import parse_config
    from suite.models.sources import TransplantSource, parse_source

    tokenizer = given.pop("tokenizer")
    sources = {
        "model": parse_source(given.pop("model"), "--model"),
        "tokenizer": "bytes" if tokenizer == "bytes" else parse_source(tokenizer, "--tokenizer"),
    }
    named = {name: value for name, value in given.items() if value is not None}
    return parse_config(TransplantSource, sources | named, "suite transplant")
