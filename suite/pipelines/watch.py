"""`suite track watch`: each new checkpoint of a training run is scored, added and checked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from suite.errors import ConfigError, ModelError, NotComparableError
from suite.models.entry import ModelConfig
from suite.models.sources import Source
from suite.pipelines.recipe import Recipe, load_recipe
from suite.pipelines.track import CheckOptions, add_run, check_series
from suite.pipelines.track_checkpoints import SETTLED_SECONDS, Found, find_checkpoints
from suite.records import Failure
from suite.track.entries import check_series_name
from suite.track.look_report import INCONCLUSIVE, REGRESSED, LookReport
from suite.track.series import Store

NOT_COMPARABLE = NotComparableError.exit_code
NOT_SCORED = ConfigError.exit_code
# Which weights are scored is the checkpoint's; how they are run is the recipe's.
_NOT_LENT = {"name", "source", "revision", "tokenizer", "adapter", "weights", "tasks"}

Say = Callable[[str], None]
Show = Callable[[LookReport], None]


@dataclass(frozen=True)
class WatchOptions:
    """What is watched, and what ends it.

    Attributes:
        folder: A training run's folder, or one whose subfolders are numbered models.
        recipe: A recipe file or a packaged recipe's name.
        output: Where results go; None for `reports/track-SERIES`.
        is_once: End after what is there.
        interval: Seconds between looks at the folder.
        is_strict: An inconclusive check ends it.
        ends_on_regression: A regression ends it.
    """

    folder: Path
    recipe: str
    output: Path | None = None
    is_once: bool = False
    interval: float = 60.0
    is_strict: bool = False
    ends_on_regression: bool = False


@dataclass
class _Watch:
    """One call: what it was asked for, and what it has told already."""

    options: WatchOptions
    checks: CheckOptions
    recipe: Recipe
    output: Path
    say: Say
    show: Show
    told: set[tuple[Path, str]] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)


def watch_folder(options: WatchOptions, checks: CheckOptions, say: Say, show: Show) -> int:
    """Score what is new in a folder, again and again unless asked for once.

    Args:
        options: What is watched.
        checks: How a checkpoint is checked where the series has a pinned run; names series and
            store.
        say: Told what happens, one line each.
        show: Given what each check found.

    Returns:
        The exit code: 0; 1, 3 or 4 where a check ends it; 2 where a checkpoint could not be scored.

    Raises:
        SuiteError: Folder, recipe or series are wrong.
    """
    check_series_name(checks.series)
    if options.interval <= 0:
        raise ConfigError(f"--interval is {options.interval:g}, expected more than 0")
    recipe, _ = load_recipe(options.recipe)
    output = (options.output or Path("reports") / f"track-{checks.series}").absolute()
    watch = _Watch(options, checks, recipe, output, say, show)
    code = _check_newest(watch)
    while code is None:
        found = _look_around(watch)
        if options.is_once and any(one.unfinished for one in found):
            # What was written just now is whole in a moment; what is still growing stays out.
            time.sleep(SETTLED_SECONDS)
            found = find_checkpoints(options.folder)
        code = _evaluate_new(watch, found)
        if code is None and options.is_once:
            return NOT_SCORED if watch.failed else 0
        if code is None:
            time.sleep(options.interval)
    return code


def _look_around(watch: _Watch) -> tuple[Found, ...]:
    found = find_checkpoints(watch.options.folder)
    if not found:
        _tell_once(watch, watch.options.folder, "no checkpoint there yet")
    return found


def _evaluate_new(watch: _Watch, found: tuple[Found, ...]) -> int | None:
    """Score, add and check what the series does not have; the exit code where that ends it."""
    store, series = Store(watch.checks.store), watch.checks.series
    for one in found:
        known = {entry.step for entry in store.entries(series)}
        if one.step in known or one.step in watch.failed:
            continue
        if one.unfinished is not None:
            _tell_once(watch, one.folder, f"not whole, {one.unfinished}; it waits")
        elif _scored(watch, one):
            run = _run_folder(watch, one.step)
            add_run(run, series, one.step, store=watch.checks.store)
            watch.say(f"step {one.step}: added to series {series}")
            code = _checked(watch, run, one.step)
            if code is not None:
                return code
    return None


def _scored(watch: _Watch, one: Found) -> bool:
    """Score a checkpoint on all tasks; what was scored before is kept."""
    # Here alone torch is loaded.
    from suite.pipelines.run_benchmark import RunOptions, run_benchmark

    watch.say(f"step {one.step}: scoring {one.folder}")
    recipe = recipe_for(watch.recipe, one, watch.options.folder)
    try:
        result = run_benchmark(recipe, RunOptions(_run_folder(watch, one.step)))
        failures = result.failures
    except (ModelError, ConfigError) as error:
        # A recipe whose model is gone is refused as a whole.
        if one.folder.is_dir():
            raise
        failures = (Failure(one.folder.name, "all tasks", str(error)),)
    if not failures:
        return True
    if not one.folder.is_dir():
        watch.say(f"step {one.step}: {one.folder} has vanished while it was scored; passed over")
        return False
    watch.failed.add(one.step)
    for failure in failures:
        watch.say(f"step {one.step}: {failure.label} could not be scored: {failure.reason}")
    watch.say(f"step {one.step}: not added; give the same command again to try once more")
    return False


def recipe_for(recipe: Recipe, one: Found, folder: Path) -> Recipe:
    """The recipe with the checkpoint as its only model.

    How it is run (dtype, device, chat template ...) is taken from the recipe's first single model.
    """
    lent = {}
    if recipe.single_models and recipe.single_models[0].source.lm_eval is None:
        first = recipe.single_models[0]
        lent = {key: getattr(first, key) for key in first.model_fields_set - _NOT_LENT}
    name = f"{folder.absolute().name[:60]}-step-{one.step}"
    entry = ModelConfig(name=name, source=Source(path=one.folder.absolute()), **lent)
    changes = {"models": (entry,), "reference": None, "title": f"{recipe.title}: {name}"}
    return recipe.model_copy(update=changes)


def _check_newest(watch: _Watch) -> int | None:
    """Check the newest run of the series if a kill came between adding and checking it."""
    store, series = Store(watch.checks.store), watch.checks.series
    entries, pinned = store.entries(series), store.pinned(series)
    if not entries or pinned is None or entries[-1].step is None:
        return None
    newest = entries[-1]
    checked = {check["checkpoint"] for check in store.checks(series)}
    is_ours = newest.run == _run_folder(watch, newest.step or 0)
    if not is_ours or newest.fingerprint in checked:
        return None
    return _checked(watch, newest.run, newest.step or 0)


def _checked(watch: _Watch, run: Path, step: int) -> int | None:
    """Check a run where something is pinned; the exit code where the verdict ends the command."""
    store, options = Store(watch.checks.store), watch.options
    pinned = store.pinned(watch.checks.series)
    mine = {entry.step: entry for entry in store.entries(watch.checks.series)}
    if pinned is None or (step in mine and mine[step].is_same(pinned)):
        return None
    try:
        report = check_series(replace(watch.checks, run=run))
    except NotComparableError as error:
        watch.say(f"step {step}: not compared: {error}")
        return NOT_COMPARABLE if options.is_strict or options.ends_on_regression else None
    watch.show(report)
    code = report.exit_code(strict=options.is_strict)
    ends = code == INCONCLUSIVE or (code == REGRESSED and _ends_on_regression(options))
    return code if ends else None


def _ends_on_regression(options: WatchOptions) -> bool:
    return options.is_strict or options.ends_on_regression


def _run_folder(watch: _Watch, step: int) -> Path:
    return watch.output / f"step-{step:08d}"


def _tell_once(watch: _Watch, place: Path, text: str) -> None:
    if (place, text) not in watch.told:
        watch.told.add((place, text))
        watch.say(f"{place}: {text}")
