"""What `suite transfer` and `suite distill` share: options, and what is printed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from suite.errors import ConfigError

INTERRUPTED = 75
_POSITIVE = click.IntRange(min=1)
_FOLDER = click.Path(path_type=Path, file_okay=False)
# Those that a run which goes on must be given again, as they change the recipe.
_REPEATED = ("data", "held_out", "steps", "seed", "device")

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_OPTIONS = (
    click.argument("recipe"),
    click.option("--data", metavar="PATH|hub:ORG/NAME", help="The text, in place of the recipe's."),
    click.option("--held-out", metavar="PATH|hub:ORG/NAME", help="The same for held-out text."),
    click.option("--output", type=_FOLDER, help="The run's folder.  [default: runs/RECIPE]"),
    click.option("--steps", type=_POSITIVE, help="In place of the recipe's steps or epochs."),
    click.option("--seed", type=click.IntRange(min=0), help="Of training and order of the text."),
    click.option(
        "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="Of all models."
    ),
    click.option(
        "--resume", is_flag=True, help="Go on from the newest checkpoint; without one, begin."
    ),
    click.option("--checkpoint", type=_FOLDER, help="Go on from this checkpoint of the folder."),
    click.option("--dry-run", is_flag=True, help="Check everything, print the plan, load nothing."),
    click.option("--estimate", is_flag=True, help="Time a few steps, print what the run costs."),
)


def training_options(command: CommandT) -> CommandT:
    """Give a command the argument and the options of a training run."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run_training(kind: Any, recipe: str, given: dict[str, Any]) -> None:
    """Load a recipe and plan, estimate or train.

    Args:
        kind: `transfer` or `distill`.
        recipe: A file or a packaged name.
        given: The options.
    """
    if given["dry_run"] and given["estimate"]:
        raise ConfigError("--dry-run and --estimate exclude each other; leave one of them out")

    from suite.pipelines.ranks import Ranks
    from suite.pipelines.training import TrainingOptions, train_recipe
    from suite.pipelines.training_overrides import Overrides
    from suite.pipelines.training_recipe import load_training_recipe

    overrides = Overrides(**{name: given[name] for name in _REPEATED})
    settings, name = load_training_recipe(recipe, kind, overrides)
    options = TrainingOptions(
        recipe=settings,
        name=name,
        output=(given["output"] or Path("runs") / name).absolute(),
        resume=given["resume"] or given["checkpoint"] is not None,
        checkpoint=None if given["checkpoint"] is None else given["checkpoint"].absolute(),
    )
    is_first = Ranks.of_environment().is_first
    if given["dry_run"]:
        from suite.pipelines.training_plan import plan_training

        plan = plan_training(options)
        _print(plan.facts, plan.notes, is_first)
        return
    if given["estimate"]:
        from suite.pipelines.training import estimate_training

        _print(estimate_training(options), (), is_first)
        return
    try:
        run = train_recipe(options)
    except KeyboardInterrupt:
        if is_first:
            click.echo(_interrupted(options.output, _to_go_on(kind, recipe, given)), err=True)
        click.get_current_context().exit(INTERRUPTED)
    _print(run.facts, run.notes, is_first)
    if is_first:
        click.echo(str(run.checkpoint))
    if run.was_interrupted:
        if is_first:
            repeat = _to_go_on(kind, recipe, given)
            click.echo(f"interrupted and saved; to go on: {repeat}", err=True)
        click.get_current_context().exit(INTERRUPTED)


def _interrupted(run: Path, repeat: str) -> str:
    """What becomes of a run that was interrupted where there was nothing new to save."""
    from suite.models.checkpoint_folder import list_checkpoints
    from suite.pipelines.training_folder import FIRST_STAGE

    if list_checkpoints(run):
        return f"interrupted; to go on from the last checkpoint: {repeat}"
    stage = list_checkpoints(run / FIRST_STAGE)
    if stage:
        step = stage[-1].step
        return (
            f"interrupted; the first stage is saved up to step {step}, the same command goes on"
            " with it"
        )
    return "interrupted; nothing was saved yet, the same command starts again"


def _to_go_on(kind: str, recipe: str, given: dict[str, Any]) -> str:
    """The call that goes on with this run."""
    parts = ["suite", kind, recipe]
    for name in (*_REPEATED, "output"):
        if given[name] is not None:
            parts += [f"--{name.replace('_', '-')}", str(given[name])]
    return shlex.join([*parts, "--resume"])


def _print(facts: Iterable[tuple[str, str]], notes: Iterable[str], is_first: bool) -> None:
    """Labels and values in two columns, then notes; of several processes the first one prints."""
    if not is_first:
        return
    facts = tuple(facts)
    width = max((len(label) for label, _ in facts), default=0)
    for label, value in facts:
        click.echo(f"{label:<{width}}  {value}")
    for note in notes:
        click.echo(f"note: {note}")
