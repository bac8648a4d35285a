"""`suite track`: checkpoints over time, and a gate against a pinned run."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from suite.errors import ConfigError, SuiteError

# As sysexits.h has it.
_FAULT = 70
_PATH = click.Path(path_type=Path)
_store = click.option(
    "--store",
    type=_PATH,
    default=Path("track"),
    show_default=True,
    envvar="SUITE_TRACK",
    show_envvar=True,
    metavar="DIR",
    help="Folder of the series.",
)
_series = click.option("--series", required=True, metavar="S", help="Name of the series.")
_model = click.option("--model", metavar="NAME", help="Which model of RUN, if it has several.")


@click.group()
def track() -> None:
    """Follow checkpoints over time, and stop a regression.

    A store is a folder of small JSON files, one for each run that was added, each pinned run and
    each check: by default track/ in the working folder. Runs stay where they are; the store names
    their files and their SHA-256. Any folder of results counts as a RUN, of this suite or of
    lm-eval.
    """


@track.command()
@click.argument("run", type=_PATH)
@_series
@click.option("--step", type=int, required=True, metavar="N", help="Where in the series.")
@_model
@_store
@click.option(
    "--replace",
    is_flag=True,
    help="In place of another run at the same step; a check of it is another look.",
)
def add(run: Path, series: str, step: int, model: str | None, store: Path, replace: bool) -> None:
    """Add RUN to a series.

    Adding the same again changes nothing; the same scores elsewhere, or scored again, take its
    place. Two processes may add at once.
    """
    from suite.pipelines.track import add_run

    added = add_run(run, series, step, store=store, model=model, replace=replace)
    _notes(added.notes)
    done = "added" if added.is_new else "was there already"
    click.echo(f"{added.entry.model} {done}: series {series}, step {step}")


@track.command()
@click.argument("folders", nargs=-1, type=_PATH, metavar="[FOLDER]...")
@click.option("--rebuild", is_flag=True, help="Forget what is kept, and read everything again.")
@_store
def index(folders: tuple[Path, ...], rebuild: bool, store: Path) -> None:
    """Rebuild the local index from FOLDERs with results and the runs of the store.

    The index only keeps what samples files say, so that no file is read twice; it lies in the cache
    folder, and deleting it loses nothing.
    """
    if not rebuild:
        raise ConfigError("suite track index does nothing without --rebuild")
    from rich.console import Console

    from suite.pipelines.track_index import rebuild_index
    from suite.progress import DocumentProgress

    with DocumentProgress(Console(stderr=True), "lines", None) as progress:
        done = 0

        def on_lines(count: int) -> None:
            nonlocal done
            done += count
            progress.advance(done, 0)

        rebuilt, num_entries = rebuild_index(store, folders, on_lines)
    _notes(rebuilt.notes)
    rate = rebuilt.num_lines / max(rebuilt.seconds, 1e-9)
    click.echo(
        f"{rebuilt.num_runs:,} runs with {rebuilt.num_lines:,} sample lines in"
        f" {rebuilt.seconds:.1f} s ({rate:,.0f} lines/s), {num_entries:,} entries mirrored"
    )


@track.command("list")
@click.option("--series", metavar="S", help="This series alone.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_store
def list_command(series: str | None, as_json: bool, store: Path) -> None:
    """List the runs of all series, with the verdict of each run's newest check."""
    from suite.pipelines.track_index import list_runs, rows_to_json

    rows = list_runs(store, series)
    if as_json:
        click.echo(json.dumps(rows_to_json(rows), indent=1, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("series", "step", "model", "", "look", "verdict", "run")
    for row in rows:
        texts = (row.series, row.step, row.model, "pinned" if row.is_pinned else "", row.look)
        cells = [*texts, row.verdict, row.run]
        table.add_row(*["" if cell is None else escape(str(cell)) for cell in cells])
    Console().print(table)


@track.command()
@click.argument("series")
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="May be given several times.")
@click.option(
    "--output", type=_PATH, metavar="FILE", help="A .svg, .png or .pdf file.  [default: SERIES.svg]"
)
@_store
def plot(series: str, tasks: tuple[str, ...], output: Path | None, store: Path) -> None:
    """Draw the scores of SERIES over its steps, with 95 % bands and the pinned run as a line.

    Several tasks are several files, with the task's name before the ending; without a pinned run,
    tasks of one metric share a figure.
    """
    from suite.pipelines.track_plot import plot_series

    for path in plot_series(store, series, output or Path(f"{series}.svg"), tasks):
        click.echo(str(path))


@track.command()
@click.argument("run", type=_PATH)
@_series
@_model
@_store
@click.option(
    "--export",
    type=_PATH,
    metavar="FILE",
    help="Also write scores and hashes of the items as one JSON file without texts.",
)
def pin(run: Path, series: str, model: str | None, store: Path, export: Path | None) -> None:
    """Make RUN the reference that checks of a series compare with.

    Looks are counted for each pinned run: another one begins anew, the same one goes on.
    """
    from suite.pipelines.track import pin_run

    pinned = pin_run(run, series, store=store, model=model, export=export)
    _notes(pinned.notes)
    num = len(pinned.tasks)
    tasks = "1 task" if num == 1 else f"{num} tasks"
    click.echo(f"{pinned.entry.model} pinned for series {series}, judged on {tasks}")
    if export is not None and pinned.num_bytes is not None:
        click.echo(f"{export} ({pinned.num_bytes / 1000:,.1f} kB)")


@track.command()
@click.argument("series")
@click.argument("run", type=_PATH, required=False)
@_model
@_store
@click.option("--reference", type=_PATH, metavar="FILE", help="A file of pin --export; no store.")
@click.option(
    "--margin",
    "margins",
    multiple=True,
    metavar="[TASK=]X",
    help="Smallest change that matters, in the metric's unit; for all tasks, or for one. May be"
    " given several times.  [default: 0.02]",
)
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Of all looks together.")
@click.option("--look", type=int, metavar="N", help="Which look of the series this is.")
@click.option("--planned-looks", type=int, metavar="K", help="Share alpha evenly by K looks.")
@click.option("--strict", is_flag=True, help="Inconclusive is exit code 3.")
@click.option("--allow-missing", is_flag=True, help="Judge the tasks that there are.")
@click.option("--shared-items", is_flag=True, help="Compare on the items that both runs have.")
@click.option("--json", "json_file", type=_PATH, metavar="FILE", help="Write the result as JSON.")
@click.option("--junit", type=_PATH, metavar="FILE", help="Write it as JUnit XML.")
@click.option(
    "--summary",
    type=_PATH,
    metavar="FILE",
    help='Append it as Markdown, for example to "$GITHUB_STEP_SUMMARY".',
)
def check(series: str, run: Path | None, **options: Any) -> None:
    """Compare a checkpoint with the pinned run of SERIES: RUN, or the one at the highest step.

    Verdicts come from the interval of d = new - pinned, turned so that more is better, over paired
    items: regressed if it lies below 0 and d is at most -margin; improved likewise; else pass if it
    lies above -margin; else inconclusive, with the smallest drop that would be found (MDE). Holm's
    procedure covers the tasks of a look; look k spends alpha * 6 / (pi^2 k^2), or alpha / K with
    --planned-looks. The store counts looks; the same scores again are the same look, other scores
    of the same checkpoint a new one.

    With --reference only that file and RUN are read and nothing is written, so --look or
    --planned-looks must be given.

    Exit codes: 0 pass, improved or inconclusive; 1 regressed; 2 wrong input; 3 inconclusive with
    --strict; 4 the two were not measured alike; 70 a fault of this program.
    """
    from suite.pipelines.track import check_series
    from suite.pipelines.track_output import check_options, write_report

    strict = options["strict"]
    with _one_is_a_regression():
        report = check_series(check_options(series, run, options))
        write_report(report, options, strict=strict)
        _print_report(report)
    click.get_current_context().exit(report.exit_code(strict=strict))


@track.command()
@click.argument("folder", type=_PATH, metavar="DIR")
@click.option("--recipe", required=True, help="A recipe of run-benchmark; its tasks are run.")
@_series
@_store
@click.option(
    "--output",
    type=_PATH,
    metavar="DIR",
    help="Folder for results.  [default: reports/track-SERIES]",
)
@click.option("--once", is_flag=True, help="Evaluate what is there, then end.")
@click.option(
    "--interval", type=float, default=60.0, show_default=True, help="Seconds between looks at DIR."
)
@click.option("--margin", "margins", multiple=True, metavar="[TASK=]X", help="As for check.")
@click.option("--alpha", type=float, default=0.05, show_default=True, help="As for check.")
@click.option("--planned-looks", type=int, metavar="K", help="As for check.")
@click.option("--strict", is_flag=True, help="End with exit code 3 on an inconclusive checkpoint.")
@click.option("--fail-on-regression", is_flag=True, help="End with exit code 1 on a regression.")
def watch(folder: Path, **options: Any) -> None:
    """Evaluate each new checkpoint of a training run, add it to a series, and check it.

    DIR is the folder of a training run, or one whose subfolders are models with a number at the
    end of their names. Each finished checkpoint is scored on the recipe's tasks, one at a time;
    what is scored is kept, so the same command goes on after an interrupt. A checkpoint that is
    still being written waits, one that has vanished is passed over. Where a run is pinned, each
    checkpoint is checked against it; a verdict ends the command only if you ask for it.
    """
    import signal

    from rich.console import Console

    from suite.pipelines.track_output import check_options
    from suite.pipelines.watch import WatchOptions, watch_folder

    checks = check_options(options["series"], None, options)
    watched = WatchOptions(
        folder=folder,
        recipe=options["recipe"],
        output=options["output"],
        is_once=options["once"],
        interval=options["interval"],
        is_strict=options["strict"],
        ends_on_regression=options["fail_on_regression"],
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    with _one_is_a_regression():
        code = watch_folder(watched, checks, lambda text: _say(console, text), _print_report)
    click.get_current_context().exit(code)


@contextmanager
def _one_is_a_regression() -> Iterator[None]:
    """Whatever goes wrong ends with another exit code than a regression."""
    try:
        yield
    except SuiteError as error:
        if error.exit_code == 1:
            raise ConfigError(str(error)) from error
        raise
    except Exception:
        traceback.print_exc()
        click.get_current_context().exit(_FAULT)


def _say(console: Any, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _notes(notes: Iterable[str]) -> None:
    for note in notes:
        click.echo(f"note: {note}", err=True)


def _print_report(report: Any) -> None:
    """A table of verdicts, the flags, and a warning where nothing can be said."""
    from rich.console import Console

    from suite.pipelines.track_output import report_table, warnings_of

    console = Console()
    console.print(report_table(report))
    _say(console, f"{report.title}. {report.spent}")
    _notes(report.notes)
    for warning in warnings_of(report):
        click.echo(f"warning: {warning}", err=True)
