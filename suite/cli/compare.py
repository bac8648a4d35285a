"""`suite compare`: one model's runs against another's, task by task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from suite.errors import ConfigError

_TESTS = ("auto", "exact", "mid-p", "t", "bootstrap", "sign-flip")
_RUN = click.Path(path_type=Path)


@click.command()
@click.argument("a", type=_RUN)
@click.argument("b", type=_RUN)
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="Compare this task only.")
@click.option("--metric", metavar="NAME", help="By default each task's first.")
@click.option("--filter", "filter_name", metavar="NAME", help="By default the metric's first.")
@click.option("--shared-items", is_flag=True, help="Join what both share where item sets differ.")
@click.option("--level", type=float, default=0.95, show_default=True, help="Of the intervals.")
@click.option(
    "--test", type=click.Choice(_TESTS), default="auto", show_default=True, help="Of a difference."
)
@click.option("--model-a", metavar="NAME", help="Where A holds several models.")
@click.option("--model-b", metavar="NAME", help="Where B holds several models.")
@click.option("--json", "json_file", type=_RUN, help="Write the comparison as JSON.")
@click.option("--output", type=_RUN, help="Folder for compare.md and compare.json.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Resamples.")
def compare(*, json_file: Path | None, output: Path | None, **given: Any) -> None:
    """Compare the model of B with the model of A on every task both have.

    A and B are folders or files of results, of this suite or of lm-eval. Items are paired where
    both runs have samples. Runs that were not measured alike are refused (exit code 4).
    """
    from rich.console import Console

    from suite.pipelines.compare import CompareOptions, compare_runs
    from suite.report.compare_render import (
        compare_console,
        render_compare_json,
        render_compare_markdown,
    )

    options = CompareOptions(
        first=given.pop("a"),
        second=given.pop("b"),
        first_model=given.pop("model_a"),
        second_model=given.pop("model_b"),
        **given,
    )
    found = compare_runs(options)
    Console().print(compare_console(found))
    contents = {}
    if json_file is not None:
        contents[json_file] = render_compare_json(found)
    if output is not None:
        contents[output / "compare.md"] = render_compare_markdown(found)
        contents[output / "compare.json"] = render_compare_json(found)
    for path, text in contents.items():
        _write(path, text)
        click.echo(str(path))


def _write(path: Path, text: str) -> None:
    from suite.files import write_atomically

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{path}: cannot be written ({reason}); give another place") from error
