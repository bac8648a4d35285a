"""`suite distill`: train a student on what other models say."""

from __future__ import annotations

from typing import Any

import click

from suite.cli.training_options import run_training, training_options


@click.command()
@training_options
def distill(recipe: str, **given: Any) -> None:
    """Teach a student what one or several teachers know, whatever their tokenizers.

    RECIPE is a YAML file or a packaged name: smollm2-maths, openmath2-llama8b-to-gemma2-2b. An
    interrupted run saves, ends with exit code 75 and goes on with --resume.
    """
    run_training("distill", recipe, given)
