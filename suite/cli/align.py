"""`suite align`: two token rows and the chunks between them."""

from __future__ import annotations

from pathlib import Path

import click

from suite.errors import ConfigError

_TERMINAL_BYTES = 2_000
_PAGE_BYTES = 100_000


@click.command()
@click.argument("text", required=False)
@click.option("--teacher", required=True, metavar="SOURCE", help="Its tokenizer is the teacher's.")
@click.option(
    "--student",
    default="bytes",
    show_default=True,
    metavar="SOURCE",
    help="The student's; bytes:SOURCE for bytes, bytes for those of the teacher.",
)
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Read the text from a UTF-8 file instead.",
)
@click.option("--chat", is_flag=True, help="The text is a JSON list of messages.")
@click.option(
    "--special-tokens", is_flag=True, help="Read special tokens' names in the text as such."
)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page.")
@click.option("--show", type=click.IntRange(min=1), help="Show the first N bytes only.")
def align(
    text: str | None,
    *,
    file: Path | None,
    html: Path | None,
    show: int | None,
    **options: str | bool,
) -> None:
    """Align TEXT under two tokenizers and say how much their chunks cover.

    A SOURCE is hub:org/name, path:FOLDER, gguf:FILE, package:NAME, or bytes: and one of these.
    """
    if (text is None) == (file is None):
        raise ConfigError("give either TEXT or --file")

    from rich.console import Console

    from suite.pipelines.align import AlignOptions, align_text, read_text, view_alignment
    from suite.report.alignment_console import print_alignment

    found = align_text(
        read_text(file) if file is not None else text or "",
        AlignOptions(
            teacher=str(options["teacher"]),
            student=str(options["student"]),
            is_chat=bool(options["chat"]),
            parse_special=bool(options["special_tokens"]),
        ),
    )
    print_alignment(view_alignment(found, show or _TERMINAL_BYTES), Console())
    if html is not None:
        from suite.pipelines.align import write_page

        write_page(html, view_alignment(found, show or _PAGE_BYTES))
        click.echo(str(html))
