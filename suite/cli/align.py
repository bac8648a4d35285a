"""`suite align`: two token rows and the chunks between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from suite.cli.roles import read_roles
from suite.errors import ConfigError

_TERMINAL_BYTES = 2_000
_PAGE_BYTES = 100_000
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("text", required=False)
@click.option("--teacher", required=True, metavar="SOURCE", help="Its tokenizer is the teacher's.")
@click.option(
    "--student", default="bytes", metavar="SOURCE", help="By default the teacher's bytes."
)
@click.option("--file", type=_FILE, help="Read the text from a UTF-8 file instead.")
@click.option("--chat", is_flag=True, help="The text is a JSON list of messages.")
@click.option("--special-tokens", is_flag=True, help="Let the text's special tokens be tokens.")
@click.option("--teacher-role", multiple=True, metavar="TOKEN=ROLE", help="Where found wrong.")
@click.option("--student-role", multiple=True, metavar="TOKEN=ROLE", help="Where found wrong.")
@click.option("--html", type=_FILE, help="Write a page.")
@click.option("--show", type=click.IntRange(min=1), help="Show the first N bytes (of the page).")
def align(
    text: str | None,
    *,
    file: Path | None,
    html: Path | None,
    show: int | None,
    **options: Any,
) -> None:
    """Align TEXT under two tokenizers and say how much their chunks cover.

    A SOURCE is hub:org/name, path:FOLDER, gguf:FILE, package:NAME or random:tiny, or bytes: and one
    of these. A ROLE is what a special token is for: begin, end, end_of_turn, header, pad, other.
    """
    if (text is None) == (file is None):
        raise ConfigError("give either TEXT or --file")
    if options["chat"] and options["special_tokens"]:
        raise ConfigError("--special-tokens has no effect with --chat; leave it out")

    from rich.console import Console

    from suite.pipelines.align import AlignOptions, align_text, read_text, view_alignment
    from suite.report.alignment_console import print_alignment

    found = align_text(
        read_text(file) if file is not None else text or "",
        AlignOptions(
            teacher=options["teacher"],
            student=options["student"],
            is_chat=options["chat"],
            parse_special=options["special_tokens"],
            teacher_roles=read_roles("--teacher-role", options["teacher_role"]),
            student_roles=read_roles("--student-role", options["student_role"]),
        ),
    )
    if html is not None:
        from suite.pipelines.align import write_page

        write_page(html, view_alignment(found, show or _PAGE_BYTES))
    shown = _TERMINAL_BYTES if html is not None else show or _TERMINAL_BYTES
    print_alignment(view_alignment(found, shown), Console())
    if html is not None:
        click.echo(str(html))
