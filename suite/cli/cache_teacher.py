"""`suite cache-teacher`: store what a teacher says about a text."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from suite.cli.roles import read_roles
from suite.errors import ConfigError

_HUB = "hub:"
_POSITIVE = click.IntRange(min=1)


# A recipe says the rest itself.
_BESIDE_RECIPE = ("data", "output", "seed", "device", "batch_tokens", "shard_tokens")


@click.command("cache-teacher")
@click.argument("recipe", required=False)
@click.option("--teacher", metavar="SOURCE", help="The model.")
@click.option("--data", metavar="PATH|hub:ORG/NAME", help="The text.")
@click.option("--length", type=int, help="Most teacher tokens a row.  [default: 512]")
@click.option("--output", type=click.Path(path_type=Path), help="Folder to fill.")
@click.option("--text", metavar="FIELD", help="Field with a document's text.  [default: text]")
@click.option("--prompt", metavar="FIELD", help="With --completion: two fields make a document.")
@click.option("--completion", metavar="FIELD", help="What follows the prompt.")
@click.option("--separator", metavar="TEXT", help="Between the two.")
@click.option("--messages", metavar="FIELD", help="Field with a conversation.")
@click.option("--subset", metavar="NAME", help="Of a hub data set.")
@click.option("--split", metavar="NAME", help="Of a hub data set.  [default: train]")
@click.option("--revision", metavar="NAME", help="Of a hub data set.")
@click.option("--limit", type=_POSITIVE, metavar="DOCUMENTS", help="Only the first ones.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the order.  [default: 0]")
@click.option("--no-shuffle", is_flag=True, help="Read documents in the data's own order.")
@click.option(
    "--packing",
    type=click.Choice(["isolated", "concatenated", "none"]),
    help="How documents share a row.  [default: isolated]",
)
@click.option("--max-bytes", type=_POSITIVE, help="Most bytes a row.  [default: 8 x length]")
@click.option("--keep-whole", is_flag=True, help="Cut no document that fits into a row.")
@click.option("--student", metavar="SOURCE", help="If its normal form or chat template matters.")
@click.option("--teacher-role", multiple=True, metavar="TOKEN=ROLE", help="Where found wrong.")
@click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16", "float16"]))
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]))
@click.option("--attn-implementation", metavar="NAME", help="As transformers names it.")
@click.option("--batch-tokens", type=_POSITIVE, help="Most tokens a batch, padding included.")
@click.option("--shard-tokens", type=_POSITIVE, help="Tokens a file.  [default: 262,144]")
@click.option("--dry-run", is_flag=True, help="Check everything, print the plan, load nothing.")
def cache_teacher(recipe: str | None, *, dry_run: bool, **given: Any) -> None:
    """Store two numbers for each token of a text: 4 bytes instead of a pass of the teacher.

    RECIPE is one of suite transfer or suite distill: its teacher, text and rows are taken, and its
    key teacher_cache or --output names the folder. Without it, give --teacher, --data and --output.

    A SOURCE is hub:org/name, path:FOLDER, gguf:FILE, package:NAME or random:tiny; for --student
    also bytes: and one of these, or bytes for those of the teacher. What is stored serves any
    student of the same text, read in the same order and rows; a file is kept as soon as it is
    finished, and the same command goes on after an interrupt.
    """
    from suite.pipelines.cache_teacher import cache_teacher as run
    from suite.pipelines.cache_teacher import plan_cache

    options = _options(given) if recipe is None else _recipe_options(recipe, given)
    if dry_run:
        _print(plan_cache(options))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    made = run(options)
    if not made.num_computed:
        click.echo("complete already; nothing was computed")
    _print(made.facts)
    for note in made.notes:
        click.echo(f"note: {note}")
    click.echo(str(made.cache.folder))


def _recipe_options(recipe: str, given: dict[str, Any]) -> Any:
    """A recipe, and the options beside it, as what the pipeline takes."""
    for name, value in given.items():
        if value and name not in _BESIDE_RECIPE:
            raise ConfigError(
                f"--{name.replace('_', '-')} has no effect with a RECIPE, which says it itself;"
                " leave it out"
            )

    from dataclasses import replace

    from suite.pipelines.cache_recipe import recipe_options
    from suite.pipelines.training_overrides import Overrides
    from suite.pipelines.training_recipe import load_training_recipe

    overrides = Overrides(data=given["data"], seed=given["seed"], device=given["device"])
    settings, _ = load_training_recipe(recipe, None, overrides)
    options = recipe_options(settings, recipe, given["output"])
    return replace(options, batch_tokens=given["batch_tokens"], shard_tokens=given["shard_tokens"])


def _options(given: dict[str, Any]) -> Any:
    """The command line as what the pipeline takes."""
    missing = [f"--{name}" for name in ("teacher", "data", "output") if given[name] is None]
    if missing:
        raise ConfigError(
            f"give a RECIPE, or --teacher, --data and --output ({', '.join(missing)} missing)"
        )
    from suite.align.cut import PackConfig
    from suite.config import parse_config
    from suite.models.entry import ModelConfig
    from suite.models.sources import parse_source
    from suite.pipelines.cache_inputs import CacheTeacherOptions
    from suite.text.corpus import CorpusConfig

    if given["no_shuffle"] and given["seed"] is not None:
        raise ConfigError("--seed has no effect with --no-shuffle; leave one of them out")
    data = given["data"]
    is_hub = data.startswith(_HUB)
    where = {"hub": data.removeprefix(_HUB)} if is_hub else {"path": data}
    documents = _named(given, CorpusConfig.model_fields) | {"shuffle": not given["no_shuffle"]}
    teacher = {"name": "teacher", "source": parse_source(given["teacher"], "--teacher")}
    return CacheTeacherOptions(
        teacher=ModelConfig(**teacher, **_named(given, ("dtype", "device", "attn_implementation"))),
        data=parse_config(CorpusConfig, where | documents, f"--data {data}"),
        pack=parse_config(PackConfig, _named(given, PackConfig.model_fields), "cache-teacher"),
        output=given["output"],
        student=given["student"],
        teacher_roles=read_roles("--teacher-role", given["teacher_role"]),
        batch_tokens=given["batch_tokens"],
        shard_tokens=given["shard_tokens"],
    )


def _named(given: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """What was given of these options; settings have their own defaults."""
    return {name: given[name] for name in names if given.get(name) is not None}


def _print(facts: Iterable[tuple[str, str]]) -> None:
    facts = tuple(facts)
    width = max(len(label) for label, _ in facts)
    for label, value in facts:
        click.echo(f"{label:<{width}}  {value}")
