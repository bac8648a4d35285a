"""`suite export`: a checkpoint as a model folder for everyone."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("output", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of the weights; bfloat16 halves the size.",
)
@click.option("--accept-licence", is_flag=True, help="Accept the terms that come with the model.")
@click.option("--push", metavar="ORG/NAME", help="Upload it to the Hugging Face hub.")
@click.option("--private", is_flag=True, help="Only you see it there.")
def export(*, accept_licence: bool, **given: Any) -> None:
    """Write a trained model as a folder that plain transformers opens, with a model card.

    CHECKPOINT is a folder RUN/checkpoints/step-..., or RUN for its newest one. LoRA is folded into
    the weights. DIR must be new or empty.
    """
    from suite.pipelines.export import ExportOptions
    from suite.pipelines.export import export as run

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    made = run(ExportOptions(accepts_licence=accept_licence, **given))
    width = max(len(label) for label, _ in made.facts)
    for label, value in made.facts:
        click.echo(f"{label:<{width}}  {value}")
    for note in made.notes:
        click.echo(f"note: {note}")
    click.echo(str(made.folder))
