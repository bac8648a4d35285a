"""`suite lm-eval`: lm-eval's own command, with our backends known to it."""

from __future__ import annotations

import click


@click.command(
    "lm-eval", context_settings={"ignore_unknown_options": True, "help_option_names": []}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lm_eval(arguments: tuple[str, ...]) -> None:
    """Run lm-eval with the backends `suite` and `suite-ensemble`.

    ARGUMENTS are lm-eval's own, after `--`: `suite lm-eval -- run --model suite --model_args
    path=FOLDER --tasks suite_knowledge`. The packaged tasks are known unless `--include_path` names
    another folder.
    """
    from suite.harness.command import run_lm_eval

    run_lm_eval(arguments)
