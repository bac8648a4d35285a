"""`suite transfer`: train a model into another tokenizer."""

from __future__ import annotations

from typing import Any

import click

from suite.cli.training_options import run_training, training_options


@click.command()
@training_options
def transfer(recipe: str, **given: Any) -> None:
    """Give a model another tokenizer and train it to say what it said before.

    RECIPE is a YAML file or a packaged name: bytes-tiny, subword-tiny, smollm2-to-bytes,
    gemma3-270m-to-smollm2, llama3.2-3b-to-bytes, llama3.2-3b-to-qwen2, gemma2-2b-to-bytes,
    gemma2-2b-to-qwen2. An interrupted run saves, ends with exit code 75 and goes on with --resume.
    """
    run_training("transfer", recipe, given)
